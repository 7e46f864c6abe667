import { fileURLToPath } from 'node:url'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { ndjsonOf100, singleEvent } from './events.ts'
import { landedOf } from './landed.ts'
import { load, type LoadRequest } from './load.ts'
import { median, say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

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
  const servers = new Map<number, ChuteProcess>()
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
        say(
          `${name}, round ${round + 1} of ${options.rounds}: ${Math.round(one)} and ${Math.round(two)} events/s`,
        )
      }
      for (const workers of counts)
        rows.push(rowOf(workers, name, { own: rounds.get(workers)!, one: rounds.get(1)! }))
    }
    const landed = new Map<number, number>()
    for (const [workers, server] of servers) {
      const { accepted, inTopics } = await landedOf(server, kafka.brokers[0]!)
      landed.set(workers, inTopics / accepted)
    }
    return rows.map((row) => ({ ...row, landed: landed.get(row.workers)! }))
  } finally {
    await Promise.all(Array.from(servers.values(), async (server) => await server.stop()))
  }
}

const requests = [
  { name: 'single event', request: singleEvent, events: 1 },
  { name: 'NDJSON of 100', request: ndjsonOf100, events: 100 },
]

async function startWorkers(kafka: LocalKafka, workers: number): Promise<ChuteProcess> {
  return await startChute(kafka.brokers[0]!, {
    CHUTE_CONFIG: fileURLToPath(new URL(`workers-${workers}.yaml`, import.meta.url)),
    WORKERS: String(workers),
  })
}

async function measure(
  server: ChuteProcess,
  request: LoadRequest,
  { events, seconds }: { events: number; seconds: number },
): Promise<Round> {
  const before = server.usage().cpuMicros
  const result = await load(`${server.url}/v1/streams/metrics-realtime`, request, seconds)
  return {
    events: result.requests * events,
    seconds: result.requests / result.requestsPerSecond,
    cpuMicros: server.usage().cpuMicros - before,
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

function rateOf({ events, seconds }: Round): number {
  return events / seconds
}
