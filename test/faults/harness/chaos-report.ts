import { eachRecord } from '../../support/independent-reader.ts'
import { atMost, exactly, type Bar } from './bar.ts'
import type { ChaosClients, SentRequest } from './chaos-clients.ts'
import type { ChaosGateway, Life } from './chaos-gateway.ts'
import type { Timeline } from './chaos-faults.ts'
import type { Figures } from './results.ts'
import { flaggedOf } from '../../support/producer-stats.ts'

/** What is promised of a stream under chaos. */
export type Promised = 'at-most-once' | 'at-least-once' | 'exactly-once'

/** What became of the events of one stream, by its clients and by an independent reader. */
export interface ChaosCounts {
  readonly stream: string
  readonly promised: Promised
  readonly accepted: number
  readonly refused: number
  /** Nobody answered, and nobody knows. */
  readonly unanswered: number
  readonly landed: number
  /** Accepted, and not in the topic. */
  readonly lost: readonly number[]
  /** In the topic more than once. */
  readonly twice: readonly number[]
  /** In the topic more often than its client's tries explain, those that were refused left out. */
  readonly unexplained: readonly number[]
  /** In the topic, though every try was refused, or never sent. */
  readonly ghosts: readonly number[]
  /** Where each record of an event of these lists is. */
  readonly places: ReadonlyMap<number, readonly string[]>
}

/** Reads a topic and holds it against what clients know. */
export async function countChaos(
  broker: string,
  topic: string,
  clients: ChaosClients,
  promised: Promised,
): Promise<ChaosCounts> {
  const places = new Map<number, string[]>()
  await eachRecord(broker, topic, ({ partition, offset, value, timestampMs }) => {
    const { value: number } = JSON.parse(value.toString()) as { value: number }
    const place = `partition ${partition}, offset ${offset}, at ${new Date(timestampMs).toISOString()}`
    const known = places.get(number)
    if (known === undefined) places.set(number, [place])
    else known.push(place)
  })
  const counts = { accepted: 0, refused: 0, unanswered: 0 }
  const lost: number[] = []
  const twice: number[] = []
  const unexplained: number[] = []
  const ghosts = [...places.keys()].filter((number) => number >= clients.sent)
  for (const { first, count, tries, answer } of clients.requests) {
    counts[answer === 'none' ? 'unanswered' : answer] += count
    const mayHaveBeenAccepted = tries.filter(
      ({ status, code }) => status === 202 || status === 200 || (status === 0 && code !== 'ECONNREFUSED'),
    ).length
    for (let number = first; number < first + count; number++) {
      const copies = places.get(number)?.length ?? 0
      if (answer === 'accepted' && copies === 0) lost.push(number)
      if (copies > 1) twice.push(number)
      if (copies > Math.max(1, mayHaveBeenAccepted)) unexplained.push(number)
      if (copies > 0 && mayHaveBeenAccepted === 0) ghosts.push(number)
    }
  }
  const landed = places.size
  return { stream: clients.stream, promised, ...counts, landed, lost, twice, unexplained, ghosts, places }
}

/** Of an at-most-once stream: what each process of a gateway that was not killed lost, and what it said it may have lost. */
export interface LossOfLives {
  readonly lost: number
  readonly flagged: number
  /** Lost and not flagged, added up over the processes. */
  readonly untold: number
}

/** Holds the last line of each process that was not killed against what it lost of the events that it accepted. */
export function lossOfLives(
  clients: ChaosClients,
  { lost }: ChaosCounts,
  gateways: readonly ChaosGateway[],
): LossOfLives {
  const lostBy = new Map<Life, number>()
  const isLost = new Set(lost)
  for (const { first, count, tries } of clients.requests) {
    const { life } = tries.at(-1) ?? { life: null }
    for (let number = first; number < first + count; number++)
      if (life !== null && isLost.has(number)) lostBy.set(life, (lostBy.get(life) ?? 0) + 1)
  }
  const sums = { lost: 0, flagged: 0, untold: 0 }
  for (const life of gateways.flatMap(({ lives }) => lives)) {
    if (life.wasKilled) continue
    const account = life.account?.[clients.stream]
    const [its, flagged] = [lostBy.get(life) ?? 0, account === undefined ? 0 : flaggedOf(account)]
    sums.lost += its
    sums.flagged += flagged
    sums.untold += Math.max(0, its - flagged)
  }
  return sums
}

/** What each delivery is held to. */
export function promiseBars(counts: ChaosCounts): Bar[] {
  const { stream, promised, lost, twice, unexplained, ghosts, unanswered } = counts
  const bars = [exactly(`${stream}: refused, and in the topic`, ghosts.length, 0)]
  if (promised === 'at-most-once') return [...bars, exactly(`${stream}: twice`, twice.length, 0)]
  bars.push(
    exactly(`${stream}: lost`, lost.length, 0),
    exactly(`${stream}: without an answer at the end`, unanswered, 0),
  )
  if (promised === 'exactly-once') bars.push(exactly(`${stream}: twice`, twice.length, 0))
  else bars.push(exactly(`${stream}: more often than it was sent`, unexplained.length, 0))
  return bars
}

/** What is held of the gateways themselves. */
export function gatewayBars(run: {
  gateways: readonly ChaosGateway[]
  clients: readonly ChaosClients[]
  openSums: readonly string[]
  untold: number
}): Bar[] {
  const ended = run.gateways.flatMap(({ lives }) => lives).filter(({ wasKilled }) => !wasKilled)
  return [
    atMost('lost and not flagged, of processes that were not killed', run.untold, 0),
    exactly('sums open at a scrape', run.openSums.length, 0),
    exactly(
      'processes that ended without an account',
      ended.filter((life) => life.account === null).length,
      0,
    ),
    exactly(
      'exit codes other than 0 or 1',
      ended.filter(({ exitCode }) => exitCode !== 0 && exitCode !== 1).length,
      0,
    ),
    exactly('answers that no fault explains', run.clients.flatMap(({ surprises }) => surprises).length, 0),
  ]
}

/** The numbers that are worth keeping. */
export function chaosFigures(
  counts: readonly ChaosCounts[],
  { lost, flagged }: LossOfLives,
  timeline: Timeline,
): Figures {
  const figures: Record<string, number> = {}
  for (const { stream, accepted, refused, unanswered, landed, lost: all, twice } of counts) {
    Object.assign(figures, {
      [`${stream}: accepted`]: accepted,
      [`${stream}: refused`]: refused,
      [`${stream}: unanswered`]: unanswered,
      [`${stream}: landed`]: landed,
      [`${stream}: lost`]: all.length,
      [`${stream}: twice`]: twice.length,
    })
  }
  return {
    ...figures,
    'realtime: lost by processes that were not killed': lost,
    'realtime: flagged by them': flagged,
    ...timeline.counts(),
  }
}

/** What is known of events that broke a promise: each try of theirs, and each record. */
export function historiesOf(clients: ChaosClients, counts: ChaosCounts, timeline: Timeline): string[] {
  const { promised, lost, twice, unexplained, ghosts, places } = counts
  const wrong = new Set([
    ...ghosts,
    ...(promised === 'at-most-once' ? [] : [...lost, ...unexplained]),
    ...(promised === 'at-least-once' ? [] : twice),
  ])
  return [...wrong].slice(0, mostHistories).map((number) => {
    const request = clients.requests.find(({ first, count }) => number >= first && number < first + count)
    const records = places.get(number) ?? ['not in the topic']
    return `${clients.stream} ${number}: ${triesOf(request, timeline)} → ${records.join('; ')}`
  })
}

function triesOf(request: SentRequest | undefined, { startMs }: Timeline): string {
  if (request === undefined) return 'never sent'
  return request.tries
    .map(
      ({ atMs, life, status, code }) =>
        `${Math.round(atMs - startMs)} ms ${life.name} ${status === 0 ? 'no answer' : status} ${code}`,
    )
    .join(', ')
}

const mostHistories = 30
