import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { createTopic } from '../test/support/independent-reader.ts'
import { arrayOf100, ndjsonOf100, singleEvent } from './events.ts'
import { landedOf, recordsIn, type Landed } from './landed.ts'
import { load, type LoadRequest, type LoadResult } from './load.ts'
import { inTurn, median, ratioOf, say } from './rounds.ts'
import { startBaseline, startChute, type ServerProcess } from './server-process.ts'

/** One server's medians for one kind of request. */
export interface IngestRow {
  readonly server: string
  readonly request: string
  readonly requestsPerSecond: number
  readonly eventsPerSecond: number
  readonly cpuMicrosPerRequest: number
  readonly cpuMicrosPerEvent: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Of bare Fastify, round by round; null where there is no pair. */
  readonly ratioToBare: number | null
  readonly p99RatioToBare: number | null
  /** Share of the time in which the server was ready to run and had no core, 0 to 1. */
  readonly waitShare: number
  /** Records in the topic ÷ events that were answered with 202; null where nothing goes to Kafka. */
  readonly landed: number | null
}

const requests: readonly { name: string; request: LoadRequest; events: number; baselines: boolean }[] = [
  { name: 'single event', request: singleEvent, events: 1, baselines: true },
  { name: 'NDJSON of 100', request: ndjsonOf100, events: 100, baselines: true },
  { name: 'array of 100', request: arrayOf100, events: 100, baselines: false },
]

/**
 * One process of Chute against others that take the same requests, in turn. A rate counts only if every accepted event is
 * in the topic.
 */
export async function benchIngest(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<IngestRow[]> {
  const servers = await startServers(kafka)
  try {
    const measured: { server: Server; kind: (typeof requests)[number]; rounds: Round[] }[] = []
    for (const kind of requests) {
      const taking = servers.filter(
        ({ writes, isChute }) => isChute || (writes ? kind.baselines : kind.events === 1),
      )
      const rounds = await inTurn(
        taking.map(({ name, process }) => ({
          name,
          measure: async () => await measure(process, kind.request, options.seconds),
        })),
        options.rounds,
        ({ requestsPerSecond }) => `${kind.name}, ${Math.round(requestsPerSecond * kind.events)} events/s`,
      )
      for (const server of taking) measured.push({ server, kind, rounds: rounds.get(server.name)! })
    }
    const landed = new Map<string, number | null>()
    for (const { name, landedOf: of } of servers) landed.set(name, of === null ? null : share(await of()))
    const bare = measured[0]!.rounds
    return measured.map(({ server, kind, rounds }) => ({
      server: server.name,
      request: kind.name,
      ...medians(rounds, kind.events),
      ratioToBare: kind.events === 1 ? ratioOf(rounds, bare, (round) => round.requestsPerSecond) : null,
      p99RatioToBare: kind.events === 1 ? ratioOf(rounds, bare, (round) => round.p99Ms) : null,
      landed: landed.get(server.name) ?? null,
    }))
  } finally {
    await Promise.all(servers.map(async ({ process }) => await process.stop()))
  }
}

interface Server {
  readonly name: string
  readonly process: ServerProcess
  readonly isChute: boolean
  readonly writes: boolean
  /** Null where nothing goes to Kafka. */
  readonly landedOf: (() => Promise<Landed>) | null
}

async function startServers(kafka: LocalKafka): Promise<Server[]> {
  const broker = kafka.brokers[0]!
  const servers: Server[] = []
  for (const [name, file] of [
    ['bare Fastify', 'bare-fastify'],
    ['bare node:http', 'bare-http'],
  ] as const) {
    servers.push({ name, process: await startBaseline(file), isChute: false, writes: false, landedOf: null })
  }
  const chute = await startChute(broker)
  const chuteLanded = async (): Promise<Landed> => await landedOf(chute, broker)
  servers.push({ name: 'Chute', process: chute, isChute: true, writes: true, landedOf: chuteLanded })
  for (const [name, file] of [
    ['kafkajs send', 'kafkajs-send'],
    ['kafkajs sendBatch', 'kafkajs-send-batch'],
  ] as const) {
    const topic = `bench-${file}`
    await createTopic(broker, topic)
    const process = await startBaseline(file, { KAFKA_BROKERS: broker, BENCH_TOPIC: topic })
    const baselineLanded = async (): Promise<Landed> => await landedOfBaseline(process, broker, topic)
    servers.push({ name, process, isChute: false, writes: true, landedOf: baselineLanded })
  }
  return servers
}

/** A baseline can't tell when it is done: its topic is looked at until it stays as it is. */
async function landedOfBaseline(server: ServerProcess, broker: string, topic: string): Promise<Landed> {
  let inTopics = -1
  for (;;) {
    const { accepted } = (await (await fetch(`${server.url}/accepted`)).json()) as { accepted: number }
    const now = await recordsIn(broker, topic)
    if (now === inTopics || now >= accepted) return { accepted, inTopics: now }
    inTopics = now
    await new Promise((resolve) => setTimeout(resolve, 1_000))
  }
}

interface Round extends LoadResult {
  readonly cpuMicros: number
  readonly waitShare: number
}

async function measure(server: ServerProcess, request: LoadRequest, seconds: number): Promise<Round> {
  const before = server.usage()
  const startedAtMs = performance.now()
  const result = await load(`${server.url}/v1/streams/metrics-realtime`, request, seconds)
  const after = server.usage()
  return {
    ...result,
    cpuMicros: after.cpuMicros - before.cpuMicros,
    waitShare: (after.waitMicros - before.waitMicros) / 1000 / (performance.now() - startedAtMs),
  }
}

function medians(
  rounds: readonly Round[],
  events: number,
): Omit<IngestRow, 'server' | 'request' | 'ratioToBare' | 'p99RatioToBare' | 'landed'> {
  const failed = rounds.reduce((sum, round) => sum + round.failed, 0)
  if (failed > 0) say(`${failed} requests failed`)
  const requestsPerSecond = median(rounds.map((round) => round.requestsPerSecond))
  const cpuMicrosPerRequest = median(rounds.map((round) => round.cpuMicros / round.requests))
  return {
    requestsPerSecond,
    eventsPerSecond: requestsPerSecond * events,
    cpuMicrosPerRequest,
    cpuMicrosPerEvent: cpuMicrosPerRequest / events,
    p50Ms: median(rounds.map((round) => round.p50Ms)),
    p99Ms: median(rounds.map((round) => round.p99Ms)),
    waitShare: median(rounds.map((round) => round.waitShare)),
  }
}

function share({ accepted, inTopics }: Landed): number {
  return inTopics / accepted
}
