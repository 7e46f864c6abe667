import { fileURLToPath } from 'node:url'
import type { ProducerStats } from '../src/kafka/producer/producer.ts'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { endOffsets } from '../test/support/independent-reader.ts'
import { ndjsonOf100, singleEvent } from './events.ts'
import { load, type LoadRequest } from './load.ts'
import { median } from './rounds.ts'
import { startServer, type ServerProcess } from './server-process.ts'

/** Medians of one number of workers for one kind of request. */
export interface WorkersRow {
  readonly workers: number
  readonly request: string
  readonly eventsPerSecond: number
  /** Of the events a second of one worker, round by round. */
  readonly ratioToOne: number
  /** All processes of the gateway, the primary too. */
  readonly cpuMicrosPerEvent: number
  /** Cores that the gateway had; the load and Kafka share the machine with it. */
  readonly cores: number
  /** CPU of an event with one worker ÷ with these: what n workers make of n cores that they have for themselves. */
  readonly efficiency: number
  readonly p99Ms: number
  /** Records in the topic ÷ events that were answered with 202, over all runs of the server. */
  readonly landed: number
}

interface Round {
  readonly events: number
  readonly seconds: number
  readonly cpuMicros: number
  readonly p99Ms: number
}

/** One worker against two, in turn, round by round, each with a stream and a topic of its own. */
export async function benchWorkers(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<WorkersRow[]> {
  const counts = [1, 2]
  const servers = new Map<number, ServerProcess>()
  for (const workers of counts) servers.set(workers, await startWorkers(kafka, workers))
  try {
    const rows: Omit<WorkersRow, 'landed'>[] = []
    for (const { name, request, events } of requests) {
      const rounds = new Map<number, Round[]>(counts.map((workers) => [workers, []]))
      for (const server of servers.values()) await measure(server, request, { events, seconds: 2 })
      for (let round = 0; round < options.rounds; round++) {
        for (const [workers, server] of servers) {
          rounds.get(workers)!.push(await measure(server, request, { events, seconds: options.seconds }))
        }
        const [one, two] = counts.map((workers) => rateOf(rounds.get(workers)!.at(-1)!)) as [number, number]
        process.stderr.write(
          `${name}, round ${round + 1} of ${options.rounds}: ${Math.round(one)} and ${Math.round(two)} events/s\n`,
        )
      }
      for (const workers of counts)
        rows.push(rowOf(workers, name, { own: rounds.get(workers)!, one: rounds.get(1)! }))
    }
    const landed = new Map<number, number>()
    for (const [workers, server] of servers) landed.set(workers, await landedShare(server, kafka))
    return rows.map((row) => ({ ...row, landed: landed.get(row.workers)! }))
  } finally {
    await Promise.all(Array.from(servers.values(), async (server) => await server.stop()))
  }
}

const requests = [
  { name: 'single event', request: singleEvent, events: 1 },
  { name: 'NDJSON of 100', request: ndjsonOf100, events: 100 },
]

async function startWorkers(kafka: LocalKafka, workers: number): Promise<ServerProcess> {
  const root = new URL('../', import.meta.url)
  return await startServer([fileURLToPath(new URL('dist/main.js', root)), 'serve'], {
    KAFKA_BROKERS: kafka.brokers[0],
    CHUTE_CONFIG: fileURLToPath(new URL(`bench/workers-${workers}.yaml`, root)),
    LOG_LEVEL: 'error',
    WORKERS: String(workers),
    RATE_LIMIT_MAX: undefined,
  })
}

async function measure(
  server: ServerProcess,
  request: LoadRequest,
  { events, seconds }: { events: number; seconds: number },
): Promise<Round> {
  const before = server.cpuMicros()
  const result = await load(`${server.url}/v1/streams/metrics-realtime`, request, seconds)
  return {
    events: result.requests * events,
    seconds: result.requests / result.requestsPerSecond,
    cpuMicros: server.cpuMicros() - before,
    p99Ms: result.p99Ms,
  }
}

function rowOf(
  workers: number,
  request: string,
  { own, one }: { own: readonly Round[]; one: readonly Round[] },
): Omit<WorkersRow, 'landed'> {
  const cpu = (rounds: readonly Round[]) => median(rounds.map(({ cpuMicros, events }) => cpuMicros / events))
  return {
    workers,
    request,
    eventsPerSecond: median(own.map(rateOf)),
    ratioToOne: median(own.map((round, index) => rateOf(round) / rateOf(one[index]!))),
    cpuMicrosPerEvent: cpu(own),
    cores: median(own.map(({ cpuMicros, seconds }) => cpuMicros / 1e6 / seconds)),
    efficiency: cpu(one) / cpu(own),
    p99Ms: median(own.map(({ p99Ms }) => p99Ms)),
  }
}

/** Waits until every record has its outcome, then holds the topic's end against what was accepted. */
async function landedShare(server: ServerProcess, kafka: LocalKafka): Promise<number> {
  for (;;) {
    const live = (await (await fetch(`${server.url}/live.json`)).json()) as { streams: ProducerStats[] }
    const [stream] = live.streams as [ProducerStats]
    if (stream.buffered + stream.inFlight > 0) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      continue
    }
    const ends = await endOffsets(kafka.brokers[0]!, stream.topic)
    return [...ends.values()].reduce((sum, end) => sum + end, 0) / stream.accepted
  }
}

function rateOf({ events, seconds }: Round): number {
  return events / seconds
}
