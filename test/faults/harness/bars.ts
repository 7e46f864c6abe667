import { atMost, exactly, type Bar } from './bar.ts'
import { sumOfDrops, sumOfOutcomes } from '../../support/producer-stats.ts'
import { isFull } from '../../support/forms.ts'
import { form } from './form.ts'
import type { FaultReport, StreamReport } from './report.ts'

/**
 * What holds after any fault: nothing twice, nothing out of order, no ghost, and an account that is true.
 * @param unreadable streams whose topic is not what it was, so that nobody can say what had arrived in it.
 */
export function countBars(report: FaultReport, unreadable: readonly string[] = []): Bar[] {
  const streams = readable(report.streams, unreadable)
  return [
    ...streams.flatMap((stream) => [...streamBars(stream), ...promiseBars(stream)]),
    exactly('sums open at a scrape', report.openSums.length, 0),
    exactly('exit code', report.exitCode ?? -1, 0),
    ...shutdownBars({ ...report.left, streams: readable(report.left.streams, unreadable) }),
  ]
}

function readable(streams: readonly StreamReport[], unreadable: readonly string[]): StreamReport[] {
  return streams.filter(({ stream }) => !unreadable.includes(stream))
}

/** What a gateway that was told to go is held to, whatever state Kafka is in. */
export function shutdownBars({ exitCode, tookMs, streams }: FaultReport['left']): Bar[] {
  // In the short form the machine may be busy: only that it ends at all by itself.
  const graceMs = isFull ? 1_500 : 20_000
  const bars = [
    ...streams.flatMap(streamBars),
    atMost('milliseconds to exit', tookMs, form.shutdownTimeoutMs + graceMs),
    // 1 if the shutdown cost records, and nothing else: a signal or a crash gives another.
    exactly('exit code other than 0 or 1', exitCode === 0 || exitCode === 1 ? 0 : 1, 0),
  ]
  return bars.map((bar) => ({ ...bar, name: `SIGTERM: ${bar.name}` }))
}

/** That the account of a stream is true, seen from outside. */
function streamBars(report: StreamReport): Bar[] {
  const { stream, account, landed, unansweredLanded } = report
  const dropped = sumOfDrops(account)
  const arrived = landed + unansweredLanded
  const delivered = account.confirmed + account.acked
  return [
    exactly(`${stream}: ghosts`, report.ghosts, 0),
    exactly(`${stream}: reordered`, report.reordered, 0),
    exactly(`${stream}: duplicates`, report.duplicates, 0),
    atMost(`${stream}: lost and not flagged`, report.lost - report.flagged, 0),
    exactly(`${stream}: pending at the end`, account.buffered + account.inFlight, 0),
    exactly(`${stream}: accepted − outcomes`, account.accepted - sumOfOutcomes(account), 0),
    atMost(`${stream}: answered with 202 and not booked`, report.accepted - account.accepted, 0),
    atMost(`${stream}: booked and not answered`, account.accepted - report.accepted, report.unanswered),
    atMost(`${stream}: confirmed and not landed`, delivered - arrived, 0),
    atMost(`${stream}: landed though dropped`, arrived - (account.accepted - dropped), 0),
    ...auditBars(report, arrived + report.ghosts),
  ]
}

/** That the numbers in the topic say the same as the account, or no more than its suspects less, and as the other reader. */
function auditBars({ stream, audit }: StreamReport, arrived: number): Bar[] {
  const { liveDifference } = audit
  return [
    exactly(`${stream}: audit: records without a number`, audit.unmarked, 0),
    exactly(`${stream}: audit: duplicated`, audit.duplicated, 0),
    exactly(`${stream}: audit: reordered`, audit.reordered, 0),
    exactly(`${stream}: audit: found − landed`, audit.found - arrived, 0),
    exactly(`${stream}: audit: differs from the last line by`, audit.difference, 0),
    ...(liveDifference === null
      ? []
      : [exactly(`${stream}: audit: differs from /live.json by`, liveDifference, 0)]),
  ]
}

/** A stream that something happens beside: nothing of it is lost, or said to be. */
export function unharmedBars({ stream, lost, flagged }: StreamReport): Bar[] {
  return [exactly(`${stream}: lost`, lost, 0), exactly(`${stream}: flagged`, flagged, 0)]
}

/**
 * A stream that shares its connections with others, which ended them `cuts` times: what two confirm intervals carry each time is in doubt.
 * The bound is for the full form only, as it is about time.
 * @param carried what two intervals carry of it.
 */
export function sharedBars({ stream, lost, flagged }: StreamReport, cuts: number, carried: number): Bar[] {
  return [
    atMost(`${stream}: lost and not flagged`, lost - flagged, 0),
    ...(isFull ? [atMost(`${stream}: flagged for its neighbours`, flagged, cuts * carried)] : []),
  ]
}

/** What two confirm intervals carry at this pace. */
export function carriedAt(perSecond: number): number {
  return (perSecond * twoIntervalsMs) / 1000
}

/** At least once loses nothing while its gateway lives. */
function promiseBars({ stream, delivery, lost }: StreamReport): Bar[] {
  return delivery === 'at-least-once' ? [exactly(`${stream}: lost`, lost, 0)] : []
}

/**
 * How long replies take does not depend on Kafka. But a fault can keep the processors busy, and then all replies of the machine wait for a
 * processor. So the limit is what the calm allows, or what a server that does nothing needs at the same time, whichever is more.
 * Full form only: the short one shares its processors with other work.
 * @param timesCalm how much slower than in the calm is allowed.
 */
export function replyBars({ before, during, bystander }: FaultReport, timesCalm = 1.5): Bar[] {
  if (!isFull || before.p99Ms === null) return []
  const limitMs = Math.max(timesCalm * before.p99Ms, 2 * (bystander.p99Ms ?? 0))
  return [atMost('reply p99 during the fault, ms', during.p99Ms, limitMs)]
}

/** What was flagged is what was lost, and what two confirm intervals carry at the most for each fault. Full form only, as it is about time. */
export function flagBars({ streams, acceptedPerSecond }: FaultReport, faults = 1): Bar[] {
  const { flagged, lost } = streams[0]!
  if (!isFull) return []
  return [atMost('flagged − lost', flagged - lost, faults * carriedAt(acceptedPerSecond))]
}

/** A stream is back within a second of its broker. Full form only. */
export function resumeBars({ resumeMs }: FaultReport): Bar[] {
  return isFull ? [atMost('resumed after the broker answered, ms', resumeMs, 1_000)] : []
}

/** Twice the default of `confirm.interval.ms`. */
export const twoIntervalsMs = 40
