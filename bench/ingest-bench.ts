import { fileURLToPath } from 'node:url'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import type { ProducerStats } from '../src/kafka/producer/producer.ts'
import { endOffsets } from '../test/support/independent-reader.ts'
import { arrayOf100, ndjsonOf100, singleEvent } from './events.ts'
import { load, type LoadRequest, type LoadResult } from './load.ts'
import { median } from './rounds.ts'
import { startServer, type ServerProcess } from './server-process.ts'

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
  /** Of the requests a second of bare Fastify, round by round; null where there is no pair. */
  readonly ratioToBare: number | null
  /** Records in the topic ÷ events that were answered with 202; null where nothing goes to Kafka. */
  readonly landed: number | null
}

/**
 * One process of Chute against bare Fastify, in turn, round by round, so that a machine that slows down slows both; then
 * 100 events a request. A rate counts only if every accepted event is in the topic.
 */
export async function benchIngest(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<IngestRow[]> {
  const root = new URL('../', import.meta.url)
  const bare = await startServer([
    '--import',
    'tsx',
    fileURLToPath(new URL('bench/baselines/bare-fastify.ts', root)),
  ])
  const chute = await startServer([fileURLToPath(new URL('dist/main.js', root)), 'serve'], {
    KAFKA_BROKERS: kafka.brokers[0],
    LOG_LEVEL: 'error',
    // The load is one client, and none of its requests is to be refused for want of room.
    RATE_LIMIT_MAX: undefined,
  })
  try {
    const bareRounds: Round[] = []
    const chuteRounds: Round[] = []
    await measure(bare, singleEvent, 3)
    await measure(chute, singleEvent, 3)
    for (let round = 0; round < options.rounds; round++) {
      bareRounds.push(await measure(bare, singleEvent, options.seconds))
      chuteRounds.push(await measure(chute, singleEvent, options.seconds))
      say(
        `single event, round ${round + 1} of ${options.rounds}: ${ratioOf(chuteRounds, bareRounds).toFixed(2)} of bare Fastify`,
      )
    }
    const ndjson = await rounds(chute, ndjsonOf100, options, 'NDJSON of 100')
    const array = await rounds(chute, arrayOf100, options, 'array of 100')
    const landed = await landedShare(chute, kafka)
    return [
      row('bare Fastify', 'single event', 1, bareRounds, null, null),
      row('Chute', 'single event', 1, chuteRounds, ratioOf(chuteRounds, bareRounds), landed),
      row('Chute', 'NDJSON of 100', 100, ndjson, null, landed),
      row('Chute', 'array of 100', 100, array, null, landed),
    ]
  } finally {
    await Promise.all([bare.stop(), chute.stop()])
  }
}

interface Round extends LoadResult {
  readonly cpuMicros: number
}

async function rounds(
  server: ServerProcess,
  request: LoadRequest,
  options: { rounds: number; seconds: number },
  label: string,
): Promise<Round[]> {
  const all: Round[] = []
  for (let round = 0; round < options.rounds; round++) {
    all.push(await measure(server, request, options.seconds))
    say(
      `${label}, round ${round + 1} of ${options.rounds}: ${Math.round(all.at(-1)!.requestsPerSecond * 100)} events/s`,
    )
  }
  return all
}

async function measure(server: ServerProcess, request: LoadRequest, seconds: number): Promise<Round> {
  const before = server.cpuMicros()
  const result = await load(`${server.url}/v1/streams/metrics-realtime`, request, seconds)
  return { ...result, cpuMicros: server.cpuMicros() - before }
}

/** Waits until every record has its outcome, then holds the topic's end against what was accepted. */
async function landedShare(chute: ServerProcess, kafka: LocalKafka): Promise<number> {
  for (;;) {
    const { streams } = (await (await fetch(`${chute.url}/live.json`)).json()) as { streams: ProducerStats[] }
    const realtime = streams.find(({ stream }) => stream === 'metrics-realtime')!
    if (realtime.buffered + realtime.inFlight > 0) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      continue
    }
    const ends = await endOffsets(kafka.brokers[0]!, realtime.topic)
    return [...ends.values()].reduce((sum, end) => sum + end, 0) / realtime.accepted
  }
}

function row(
  server: string,
  request: string,
  events: number,
  all: readonly Round[],
  ratioToBare: number | null,
  landed: number | null,
): IngestRow {
  const failed = all.reduce((sum, round) => sum + round.failed, 0)
  if (failed > 0) say(`${server}, ${request}: ${failed} requests failed`)
  const requestsPerSecond = median(all.map((round) => round.requestsPerSecond))
  const cpuMicrosPerRequest = median(all.map((round) => round.cpuMicros / round.requests))
  return {
    server,
    request,
    requestsPerSecond,
    eventsPerSecond: requestsPerSecond * events,
    cpuMicrosPerRequest,
    cpuMicrosPerEvent: cpuMicrosPerRequest / events,
    p50Ms: median(all.map((round) => round.p50Ms)),
    p99Ms: median(all.map((round) => round.p99Ms)),
    ratioToBare,
    landed,
  }
}

/** The median of the ratios, round by round. */
function ratioOf(chute: readonly Round[], bare: readonly Round[]): number {
  return median(chute.map((round, index) => round.requestsPerSecond / bare[index]!.requestsPerSecond))
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}
