import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { oneAndHundred } from './events.ts'
import { landedOf, type Landed } from './landed.ts'
import { load, type LoadRequest, type LoadResult } from './load.ts'
import { inTurn, median, ratioOf, say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/** Medians of one kind of stream for one kind of request. */
export interface DurableRow {
  readonly stream: string
  readonly request: string
  /** Answered with 202. */
  readonly eventsPerSecond: number
  /** Of the events a second of the at-most-once stream, round by round. */
  readonly ratioToAtMostOnce: number
  /** Events ÷ the time from the first request until Kafka has the last event: what can be kept up for good. */
  readonly settledPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMicrosPerEvent: number
  readonly failed: number
  /** Records in the topic ÷ events that were answered with 202, over all rounds of the stream. */
  readonly landed: number
}

/** What a 202 costs that survives: the line of the stream's configuration. */
const kinds = [
  { stream: 'at-most-once', line: 'delivery: at-most-once', isDurable: false },
  { stream: 'durable, fsync off', line: 'delivery: at-least-once, fsync: off', isDurable: true },
  { stream: 'durable, fsync on', line: 'delivery: at-least-once, fsync: on', isDurable: true },
] as const

/** A gateway for each kind of stream, in turn, round by round; each begins a round with nothing left of the one before. */
export async function benchDurable(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<DurableRow[]> {
  const broker = kafka.brokers[0]!
  const folder = mkdtempSync(join(tmpdir(), 'chute-durable-'))
  const servers: ChuteProcess[] = []
  try {
    for (const nth of kinds.keys()) servers.push(await startKind(broker, folder, nth))
    const rows: Omit<DurableRow, 'landed'>[] = []
    for (const { name, request, events } of oneAndHundred) {
      const rounds = await inTurn(
        kinds.map(({ stream }, nth) => ({
          name: stream,
          measure: async () => await measure(servers[nth]!, broker, { request, events, ...options }),
        })),
        options.rounds,
        (round) => `${name}, ${Math.round(rateOf(round))} events/s`,
      )
      const base = rounds.get(kinds[0].stream)!
      for (const { stream } of kinds) rows.push(rowOf(stream, name, { own: rounds.get(stream)!, base }))
    }
    const landed = new Map<string, number>()
    for (const [nth, { stream }] of kinds.entries())
      landed.set(stream, shareOf(await landedOf(servers[nth]!, broker)))
    return rows.map((row) => ({ ...row, landed: landed.get(row.stream)! }))
  } finally {
    await Promise.all(servers.map(async (server) => await server.stop()))
    rmSync(folder, { recursive: true })
  }
}

async function startKind(broker: string, folder: string, nth: number): Promise<ChuteProcess> {
  const { line, isDurable } = kinds[nth]!
  const file = join(folder, `${nth}.yaml`)
  writeFileSync(file, `streams: { s: { topic: durable-${nth}, ${line} } }\n`)
  // The temporary folder may be in memory.
  const data = isDurable
    ? { CHUTE_DATA_DIR: join(folder, `data-${nth}`), CHUTE_DATA_DIR_EPHEMERAL: 'true' }
    : {}
  return await startChute(broker, { CHUTE_CONFIG: file, ...data })
}

interface Round extends LoadResult {
  readonly events: number
  readonly cpuMicros: number
  readonly settledSeconds: number
}

async function measure(
  server: ChuteProcess,
  broker: string,
  { request, events, seconds }: { request: LoadRequest; events: number; seconds: number },
): Promise<Round> {
  const cpuBefore = server.usage().cpuMicros
  const startedAtMs = performance.now()
  const result = await load(`${server.url}/v1/streams/s`, request, seconds)
  await landedOf(server, broker)
  return {
    ...result,
    events,
    cpuMicros: server.usage().cpuMicros - cpuBefore,
    settledSeconds: (performance.now() - startedAtMs) / 1_000,
  }
}

function rowOf(
  stream: string,
  request: string,
  { own, base }: { own: readonly Round[]; base: readonly Round[] },
): Omit<DurableRow, 'landed'> {
  const failed = own.reduce((sum, round) => sum + round.failed, 0)
  if (failed > 0) say(`${stream}: ${failed} requests failed`)
  return {
    stream,
    request,
    eventsPerSecond: median(own.map(rateOf)),
    ratioToAtMostOnce: ratioOf(own, base, rateOf),
    settledPerSecond: median(own.map((round) => (round.requests * round.events) / round.settledSeconds)),
    p50Ms: median(own.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(own.map(({ p99Ms }) => p99Ms)),
    cpuMicrosPerEvent: median(own.map((round) => round.cpuMicros / round.requests / round.events)),
    failed,
  }
}

function rateOf({ requestsPerSecond, events }: Round): number {
  return requestsPerSecond * events
}

function shareOf({ accepted, inTopics }: Landed): number {
  return inTopics / accepted
}
