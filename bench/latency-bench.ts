import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { singleEvent } from './events.ts'
import { landedOf, type Landed } from './landed.ts'
import { load } from './load.ts'
import { failuresOf, openLoop, type OpenLoopResult } from './open-loop.ts'
import { inTurn, median, say } from './rounds.ts'
import { startBaseline, startChute, type ServerProcess } from './server-process.ts'

/** Latency of one server at one rate; medians. */
export interface LatencyRow {
  readonly server: string
  /** Of the most that Chute took in a closed loop, 0 to 1. */
  readonly share: number
  readonly ratePerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  /** Share of the time in which the server was ready to run and had no core, 0 to 1. */
  readonly waitShare: number
  readonly failed: number
}

const shares = [0.25, 0.5, 0.75, 0.9]

/** Replies at fixed rates, Chute and bare Fastify in turn at the same ones. */
export async function benchLatency(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<{ rows: LatencyRow[]; landed: Landed }> {
  const broker = kafka.brokers[0]!
  const bare = await startBaseline('bare-fastify')
  const chute = await startChute(broker)
  try {
    const most = await mostPerSecond(chute, options)
    await mostPerSecond(bare, { rounds: 1, seconds: 2 })
    say(`the most of Chute in a closed loop: ${Math.round(most)} requests/s`)
    const rows: LatencyRow[] = []
    for (const share of shares) {
      const ratePerSecond = Math.round(most * share)
      const contenders = [
        ['bare Fastify', bare],
        ['Chute', chute],
      ] as const
      const rounds = await inTurn(
        contenders.map(([name, server]) => ({
          name: `${name} at ${share * 100} %`,
          measure: async () => await measure(server, ratePerSecond, options.seconds),
        })),
        options.rounds,
        ({ result }) => `p50 ${result.p50Ms.toFixed(2)} ms, p99 ${result.p99Ms.toFixed(2)} ms`,
      )
      contenders.forEach(([server], index) => {
        rows.push({ server, share, ratePerSecond, ...medians([...rounds.values()][index]!) })
      })
    }
    return { rows, landed: await landedOf(chute, broker) }
  } finally {
    await Promise.all([bare.stop(), chute.stop()])
  }
}

interface Round {
  readonly result: OpenLoopResult
  readonly waitShare: number
}

async function measure(server: ServerProcess, ratePerSecond: number, seconds: number): Promise<Round> {
  const before = server.usage()
  const startedAtMs = performance.now()
  const url = `${server.url}/v1/streams/metrics-realtime`
  const result = await openLoop({ ...singleEvent, url, ratePerSecond, seconds, connections: 64 })
  const waited = server.usage().waitMicros - before.waitMicros
  return { result, waitShare: waited / 1000 / (performance.now() - startedAtMs) }
}

async function mostPerSecond(
  server: ServerProcess,
  options: { rounds: number; seconds: number },
): Promise<number> {
  const rates: number[] = []
  for (let round = 0; round < options.rounds; round++) {
    const { requestsPerSecond } = await load(
      `${server.url}/v1/streams/metrics-realtime`,
      singleEvent,
      options.seconds,
    )
    rates.push(requestsPerSecond)
  }
  return median(rates)
}

function medians(rounds: readonly Round[]): Omit<LatencyRow, 'server' | 'share' | 'ratePerSecond'> {
  const of = (value: (round: Round) => number): number => median(rounds.map(value))
  return {
    p50Ms: of(({ result }) => result.p50Ms),
    p99Ms: of(({ result }) => result.p99Ms),
    p999Ms: of(({ result }) => result.p999Ms),
    waitShare: of(({ waitShare }) => waitShare),
    failed: rounds.reduce((sum, { result }) => sum + failuresOf(result), 0),
  }
}
