import type { ProducerStats } from '../../../src/kafka/producer/producer.ts'
import type { LocalKafka } from '../../../src/local-kafka/local-kafka.ts'
import { auditedOf, type Audited } from './audited.ts'
import { quantile } from './bar.ts'
import type { DeviceLoad, Reply } from './device-load.ts'
import { allAppendedSince, longestGaps, type Landed } from './landed.ts'
import type { Figures } from './results.ts'
import { flaggedOf } from '../../support/producer-stats.ts'
import type { Scrape, Scraper } from './scraper.ts'
import type { Ending, LoggedAccount, Subject, Watched } from './subject.ts'

/** What became of the events of one stream: what the client was told, what arrived, and what the gateway said of it. */
export interface StreamReport {
  readonly stream: string
  readonly delivery: Watched['delivery']
  /** Answered with 202. */
  readonly accepted: number
  readonly refused: number
  /** Requests that were refused in the way of a full buffer or a topic that is away: 503, and when to come back. */
  readonly refusedForNow: number
  /** Requests that were refused in another way. */
  readonly refusedForGood: number
  /** The connection ended before the reply. */
  readonly unanswered: number
  readonly landed: number
  readonly lost: number
  readonly unansweredLanded: number
  readonly duplicates: number
  readonly reordered: number
  readonly ghosts: number
  /** What the last line of the gateway's log says. */
  readonly account: LoggedAccount
  /** Of that account: all outcomes that are losses (`outcomeTraits`). */
  readonly flagged: number
  readonly audit: Audited
  /** Written by its account and not in the logs: `chute_loss_ratio{source="broker"}` as a count; null where `/live.json` was not asked at the end. */
  readonly brokerMissing: number | null
}

/** How fast replies came within a window. */
export interface ReplyTimes {
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

/** What a fault did. Times are in milliseconds. */
export interface FaultReport {
  readonly name: string
  /** The gateway that stayed. */
  readonly streams: readonly StreamReport[]
  readonly exitCode: number | null
  readonly scrapes: number
  /** Sums that did not hold in one of the scrapes, of either gateway. */
  readonly openSums: readonly string[]
  readonly before: ReplyTimes
  /** While the fault lasts. */
  readonly during: ReplyTimes
  /** From when it is being mended until Kafka answers: a broker that starts takes processors away from everything else. */
  readonly healing: ReplyTimes
  /** While the fault lasts, of a server that does nothing (`bystander.ts`). */
  readonly bystander: ReplyTimes
  /** Accepted events a second of the first stream, before. */
  readonly acceptedPerSecond: number
  readonly rssBeforeBytes: number | null
  readonly rssPeakBytes: number | null
  /** To the first line of the log that says that a broker is away; null if none does. */
  readonly noticeMs: number | null
  /** From the first answer of the broker until something was appended to every partition, by the broker's clock. */
  readonly resumeMs: number | null
  /** Longest time without an append, by partition of the first stream, from the fault until {@link silenceCountsOnMs} after it was over. */
  readonly gapsMs: ReadonlyMap<number, number>
  /** From the end of the load until the last record had its outcome. */
  readonly settledMs: number
  /** The gateway that left in the middle. */
  readonly left: {
    readonly exitCode: number | null
    readonly tookMs: number
    readonly streams: StreamReport[]
  }
}

/** Moments of a run, by the clock of `performance.now()`. */
interface Times {
  readonly calmFromMs: number
  readonly inflictedAtMs: number
  readonly healedFromMs: number
  readonly answeredAtMs: number
}

/** Reads everything back, and puts together what a fault did. */
export async function reportOf(run: {
  fault: { readonly name: string; readonly kafka: Pick<LocalKafka, 'brokers'> }
  stays: Subject
  stayedEnding: Ending
  settledMs: number
  leaves: Subject
  ending: Ending
  bystander: DeviceLoad
  times: Times
}): Promise<FaultReport> {
  const { fault, stays, stayedEnding, leaves, ending, bystander, times } = run
  const broker = fault.kafka.brokers.join(',')
  const [stayed, left] = await Promise.all([
    streamReports(stays, stayedEnding, broker, stays.scraper.scrapes.at(-1)),
    streamReports(leaves, ending, broker),
  ])
  const { load } = stays.streams[0]!
  const { landed } = stayed[0]!
  const { calmFromMs, inflictedAtMs, healedFromMs, answeredAtMs } = times
  const replyTimes = (fromMs: number, toMs: number, { replies } = load): ReplyTimes => {
    const took = replies
      .filter(({ askedAtMs, tookMs }) => askedAtMs >= fromMs && askedAtMs + tookMs < toMs)
      .map(({ tookMs }) => tookMs)
    return { p50Ms: quantile(took, 0.5), p99Ms: quantile(took, 0.99) }
  }
  const answeredEpochMs = epochMs(answeredAtMs)
  const resumedEpochMs = allAppendedSince(landed, epochMs(healedFromMs))
  const { scrapes } = stays.scraper
  return {
    name: fault.name,
    streams: stayed.map(({ report }) => report),
    exitCode: stayedEnding.exitCode,
    scrapes: scrapes.length + leaves.scraper.scrapes.length,
    openSums: [...stays.scraper.open, ...leaves.scraper.open],
    before: replyTimes(calmFromMs, inflictedAtMs),
    during: replyTimes(inflictedAtMs, healedFromMs),
    healing: replyTimes(healedFromMs, answeredAtMs),
    bystander: replyTimes(inflictedAtMs, healedFromMs, bystander),
    acceptedPerSecond: acceptedPerSecond(scrapes, calmFromMs, inflictedAtMs),
    rssBeforeBytes: peakRss(scrapes, calmFromMs, inflictedAtMs),
    rssPeakBytes: peakRss(scrapes, inflictedAtMs, Infinity),
    noticeMs: noticeMs(stays, epochMs(inflictedAtMs)),
    resumeMs: resumedEpochMs === null ? null : Math.max(0, resumedEpochMs - answeredEpochMs),
    gapsMs: longestGaps(landed, epochMs(inflictedAtMs), answeredEpochMs + silenceCountsOnMs),
    settledMs: run.settledMs,
    left: {
      exitCode: ending.exitCode,
      tookMs: ending.tookMs,
      streams: left.map(({ report }) => report),
    },
  }
}

/** The numbers of a report that are worth keeping. */
export function figuresOf(report: FaultReport): Figures {
  const [stream] = report.streams as [StreamReport]
  return {
    accepted: stream.accepted,
    refused: stream.refused,
    landed: stream.landed,
    lost: stream.lost,
    flagged: stream.flagged,
    duplicates: stream.duplicates,
    reordered: stream.reordered,
    ghosts: stream.ghosts,
    ...auditFigures(stream.audit),
    'log end offsets: missing': stream.brokerMissing,
    scrapes: report.scrapes,
    'sums open': report.openSums.length,
    'reply p50 before, ms': report.before.p50Ms,
    'reply p99 before, ms': report.before.p99Ms,
    'reply p50 during, ms': report.during.p50Ms,
    'reply p99 during, ms': report.during.p99Ms,
    'reply p99 while healing, ms': report.healing.p99Ms,
    'reply p99 of the bystander during, ms': report.bystander.p99Ms,
    'memory before, MB': report.rssBeforeBytes === null ? null : report.rssBeforeBytes / 1e6,
    'memory at most, MB': report.rssPeakBytes === null ? null : report.rssPeakBytes / 1e6,
    'noticed after, ms': report.noticeMs,
    'resumed after, ms': report.resumeMs,
    'SIGTERM: exit after, ms': report.left.tookMs,
  }
}

/** Of what the numbers say, what is worth keeping. */
export function auditFigures({ missing, difference }: Audited): Figures {
  return { 'audit: missing': missing, 'audit: differs by': difference }
}

/**
 * Reads back what a gateway that has ended was sent, and holds it against its last word.
 * @param settled a look at it when everything had its outcome and nobody sent any more.
 */
export async function streamReports(
  subject: Subject,
  ending: Ending,
  broker: string,
  settled: Scrape | null = null,
): Promise<{ report: StreamReport; landed: Landed }[]> {
  return await Promise.all(
    subject.streams.map(async (watched) => {
      const landed = await watched.landed(broker)
      const account = ending.account[watched.name]!
      const { replies } = watched.load
      const { appendTimes: _, audit, ...counts } = landed
      const live = settled?.streams.find(({ stream }) => stream === watched.name) ?? null
      const report = {
        stream: watched.name,
        delivery: watched.delivery,
        accepted: watched.load.count('accepted'),
        refused: watched.load.count('refused'),
        refusedForNow: replies.filter(isForNow).length,
        refusedForGood: replies.filter((reply) => reply.status >= 400 && !isForNow(reply)).length,
        unanswered: watched.load.count('none'),
        ...counts,
        account,
        flagged: flaggedOf(account),
        audit: auditedOf(audit, account, live),
        brokerMissing: live === null ? null : missingInLogs(live),
      }
      return { report, landed }
    }),
  )
}

function missingInLogs({ lossRatio, logEndOffsets }: ProducerStats): number {
  return Math.round((lossRatio.broker ?? 0) * logEndOffsets.reduce((sum, { written }) => sum + written, 0))
}

function isForNow({ status, retryAfter }: Reply): boolean {
  return status === 503 && Number(retryAfter) >= 1
}

function epochMs(atMs: number): number {
  return performance.timeOrigin + atMs
}

function noticeMs({ gateway }: Subject, sinceEpochMs: number): number | null {
  const line = gateway.lines.find(
    ({ msg, time }) =>
      String(msg).startsWith('broker is away') && Date.parse(String(time)) >= sinceEpochMs - 1,
  )
  return line === undefined ? null : Date.parse(String(line['time'])) - sinceEpochMs
}

function peakRss(scrapes: Scraper['scrapes'], fromMs: number, toMs: number): number | null {
  const sizes = scrapes.filter(({ atMs }) => atMs >= fromMs && atMs < toMs).map(({ rssBytes }) => rssBytes)
  return sizes.length === 0 || sizes.includes(null) ? null : Math.max(...(sizes as number[]))
}

function acceptedPerSecond(scrapes: Scraper['scrapes'], fromMs: number, toMs: number): number {
  const within = scrapes.filter(({ atMs }) => atMs >= fromMs && atMs < toMs)
  const [first, last] = [within[0], within.at(-1)]
  if (first === undefined || last === undefined || first === last) return 0
  const accepted = last.streams[0]!.accepted - first.streams[0]!.accepted
  return (accepted * 1000) / (last.atMs - first.atMs)
}

/** A partition that is not written to when Kafka is well again is silent, too. The load goes on for at least as long. */
export const silenceCountsOnMs = 1_000
