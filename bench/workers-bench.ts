import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { ndjsonOf100, singleEvent } from './events.ts'
import { landedOf } from './landed.ts'
import { loadMany, usualConnections, type LoadRequest } from './load.ts'
import { inTurn, medianOf, medianRatioOf } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/**
 * One number of workers for one kind of request: the medians over {@link instances} gateways of the median of each. A ratio is that of two
 * gateways that were measured one right after the other, round by round.
 */
export interface WorkersRow {
  readonly workers: number
  /** Connections of the load, over all workers. */
  readonly connections: number
  readonly request: string
  readonly eventsPerSecond: number
  /** Of the events a second of one worker. */
  readonly ratioToOne: number
  /** All processes of the gateway, the primary too. */
  readonly cpuMicrosPerEvent: number
  /** Cores that the gateway had; the load and Kafka share the machine with it. */
  readonly cores: number
  /** CPU of an event with one worker ÷ with these: what n workers make of n cores that they have for themselves. */
  readonly efficiency: number
  readonly p99Ms: number
  /** Records in the topics ÷ events that were accepted, over all runs of these gateways. */
  readonly landed: number
}

const requests = [
  { name: 'single event', request: singleEvent, events: 1 },
  { name: 'NDJSON of 100', request: ndjsonOf100, events: 100 },
]
/** One worker comes first: the others are held against it. */
const shapes = [
  { workers: 1, connections: usualConnections },
  { workers: 2, connections: usualConnections },
  { workers: 2, connections: 2 * usualConnections },
]
/** Gateways of each number of workers. Processes of the same gateway differ by up to 8 % in CPU time for as long as they run. */
const instances = 3
/** A worker goes on getting cheaper for some ten seconds of load, and each of two has half of it. */
const warmUpRounds = 4

/** One worker against two, in turn, round by round, each gateway with a topic of its own. */
export async function benchWorkers(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<WorkersRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-workers-'))
  const servers = new Map<string, ChuteProcess>()
  try {
    for (let nth = 1; nth <= instances; nth++)
      for (const workers of [1, 2]) {
        const file = join(folder, `${workers}-${nth}.yaml`)
        writeFileSync(
          file,
          `streams: { metrics-realtime: { topic: workers-${workers}-${nth}, delivery: at-most-once } }\n`,
        )
        const env = { CHUTE_CONFIG: file, WORKERS: String(workers) }
        servers.set(`${workers}-${nth}`, await startChute(kafka.brokers[0]!, env))
      }
    const rows: Omit<WorkersRow, 'landed'>[] = []
    for (const kind of requests) {
      const contenders = Array.from({ length: instances }, (_, nth) =>
        shapes.map((shape) => ({ shape, nth, server: servers.get(`${shape.workers}-${nth + 1}`)! })),
      ).flat()
      const measured = await inTurn(
        contenders.map(({ shape, nth, server }) => ({
          name: nameOf(shape, nth),
          measure: async () => await measure(server, kind, shape.connections, options.seconds),
        })),
        options.rounds,
        (round) =>
          `${kind.name}, ${Math.round(rateOf(round))} events/s, ${cpuOf(round).toFixed(2)} µs an event`,
        warmUpRounds,
      )
      const gatewaysOf = (shape: Shape): Round[][] =>
        Array.from({ length: instances }, (_, nth) => measured.get(nameOf(shape, nth))!)
      for (const shape of shapes)
        rows.push(rowOf(shape, kind.name, { own: gatewaysOf(shape), one: gatewaysOf(shapes[0]!) }))
    }
    const landed = new Map<number, number>()
    for (const workers of [1, 2]) landed.set(workers, await landedShare(kafka, servers, workers))
    return rows.map((row) => ({ ...row, landed: landed.get(row.workers)! }))
  } finally {
    await Promise.all(Array.from(servers.values(), async (server) => await server.stop()))
    rmSync(folder, { recursive: true })
  }
}

type Shape = (typeof shapes)[number]

interface Round {
  readonly events: number
  readonly seconds: number
  readonly cpuMicros: number
  readonly p99Ms: number
}

function nameOf({ workers, connections }: Shape, nth: number): string {
  return `${workers} workers, ${connections} connections, gateway ${nth + 1}`
}

async function measure(
  server: ChuteProcess,
  { request, events }: { request: LoadRequest; events: number },
  connections: number,
  seconds: number,
): Promise<Round> {
  const before = server.usage().cpuMicros
  const addressed = { ...request, path: '/v1/streams/metrics-realtime' }
  const result = await loadMany(server.url, [addressed], seconds, connections)
  return {
    events: result.requests * events,
    seconds: result.requests / result.requestsPerSecond,
    cpuMicros: server.usage().cpuMicros - before,
    p99Ms: result.p99Ms,
  }
}

function rowOf(
  shape: Shape,
  request: string,
  { own, one }: { own: Round[][]; one: Round[][] },
): Omit<WorkersRow, 'landed'> {
  return {
    ...shape,
    request,
    eventsPerSecond: medianOf(own, rateOf),
    ratioToOne: medianRatioOf(own, one, rateOf),
    cpuMicrosPerEvent: medianOf(own, cpuOf),
    cores: medianOf(own, ({ cpuMicros, seconds }) => cpuMicros / 1e6 / seconds),
    efficiency: 1 / medianRatioOf(own, one, cpuOf),
    p99Ms: medianOf(own, ({ p99Ms }) => p99Ms),
  }
}

async function landedShare(
  kafka: LocalKafka,
  servers: ReadonlyMap<string, ChuteProcess>,
  workers: number,
): Promise<number> {
  const own = [...servers].filter(([name]) => name.startsWith(`${workers}-`))
  const all = await Promise.all(own.map(async ([, server]) => await landedOf(server, kafka.brokers[0]!)))
  const sum = (values: readonly number[]): number => values.reduce((one, other) => one + other, 0)
  return sum(all.map(({ inTopics }) => inTopics)) / sum(all.map(({ accepted }) => accepted))
}

function rateOf({ events, seconds }: Round): number {
  return events / seconds
}

function cpuOf({ cpuMicros, events }: Round): number {
  return cpuMicros / events
}
