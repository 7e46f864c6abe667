import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { logLinesOf100, ndjsonOf100, ndjsonOf4500, singleEvent } from './events.ts'
import { landedOf, type Landed } from './landed.ts'
import { load } from './load.ts'
import type { ProbeReading } from './probe.mjs'
import { failuresOf, openLoop } from './open-loop.ts'
import { say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/** What a stretch of load did to the event loop, in one stream. */
export interface PauseRow extends ProbeReading {
  readonly load: string
  readonly eventsPerSecond: number
  /** The most memory that was resident during the load, above what an idle gateway had before. */
  readonly rssAboveIdleBytes: number
}

/** The longest pauses of the event loop: small batches, and the `logs` preset with its 1 MB batches and lz4. */
export async function benchPauses(
  kafka: LocalKafka,
  options: { seconds: number },
): Promise<{ rows: PauseRow[]; landed: Landed }> {
  return await withGateway(kafka, async (chute) => {
    const rows: PauseRow[] = []
    const idleBytes = chute.usage().rssBytes
    for (const [name, stream, request, events] of [
      ['single events, telemetry', 'bench-telemetry', singleEvent, 1],
      ['NDJSON of 100, telemetry', 'bench-telemetry', ndjsonOf100, 100],
      ['NDJSON of 4,500 (a body of 1 MB), telemetry', 'bench-telemetry', ndjsonOf4500, 4_500],
      ['NDJSON of 100, logs (1 MB batches, lz4)', 'bench-logs', logLinesOf100, 100],
    ] as const) {
      const url = `${chute.url}/v1/streams/${stream}`
      await load(url, request, 2)
      await chute.readProbe()
      let rssBytes = 0
      const sampling = setInterval(() => (rssBytes = Math.max(rssBytes, chute.usage().rssBytes)), 500)
      const { requestsPerSecond } = await load(url, request, options.seconds).finally(() =>
        clearInterval(sampling),
      )
      const reading = await chute.readProbe()
      const rssAboveIdleBytes = Math.max(0, rssBytes - idleBytes)
      const row = { load: name, eventsPerSecond: requestsPerSecond * events, rssAboveIdleBytes, ...reading }
      say(
        `${name}: longest pause of our own ${row.ownMaxMs.toFixed(1)} ms, garbage collector ${(row.gcShare * 100).toFixed(1)} %, ${Math.round(rssAboveIdleBytes / 1e6)} MB above idle`,
      )
      rows.push(row)
    }
    return rows
  })
}

/** One look at a gateway under steady load. */
export interface SoakSample extends ProbeReading {
  readonly atSeconds: number
  readonly rssMegabytes: number
}

/** The result of the bench `soak`. */
export interface SoakResult {
  readonly minutes: number
  readonly ratePerSecond: number
  readonly samples: SoakSample[]
  /** Mean of the last quarter ÷ mean of the second: above 1, it grew. */
  readonly rssGrowth: number
  readonly failed: number
  readonly landed: Landed
}

/** Steady load for minutes: memory must not grow, and the event loop must not pause. */
export async function benchSoak(kafka: LocalKafka, options: { minutes: number }): Promise<SoakResult> {
  const ratePerSecond = 2_000
  let failed = 0
  const { rows: samples, landed } = await withGateway(kafka, async (chute) => {
    const url = `${chute.url}/v1/streams/bench-telemetry`
    const all: SoakSample[] = []
    // What the start blocked the event loop for is not of the load.
    await load(url, ndjsonOf100, 2)
    await chute.readProbe()
    const startedAtMs = performance.now()
    while (performance.now() - startedAtMs < options.minutes * 60_000) {
      failed += failuresOf(
        await openLoop({ ...singleEvent, url, ratePerSecond, seconds: 8, connections: 64 }),
      )
      const { requestsPerSecond } = await load(url, ndjsonOf100, 1)
      const atSeconds = Math.round((performance.now() - startedAtMs) / 1_000)
      const rssMegabytes = chute.usage().rssBytes / 2 ** 20
      all.push({ atSeconds, rssMegabytes, ...(await chute.readProbe()) })
      say(
        `soak, ${atSeconds} s: ${rssMegabytes.toFixed(0)} MiB, NDJSON ${Math.round(requestsPerSecond)} requests/s`,
      )
    }
    return all
  })
  return { minutes: options.minutes, ratePerSecond, samples, rssGrowth: growthOf(samples), failed, landed }
}

function growthOf(samples: readonly SoakSample[]): number {
  const quarter = Math.floor(samples.length / 4)
  const mean = (some: readonly SoakSample[]): number =>
    some.reduce((sum, { rssMegabytes }) => sum + rssMegabytes, 0) / some.length
  return mean(samples.slice(-quarter)) / mean(samples.slice(quarter, 2 * quarter))
}

async function withGateway<Row>(
  kafka: LocalKafka,
  measure: (chute: ChuteProcess) => Promise<Row[]>,
): Promise<{ rows: Row[]; landed: Landed }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  const config = join(folder, 'streams.json')
  const streams = {
    'bench-telemetry': { delivery: 'at-most-once' },
    'bench-logs': { delivery: 'at-most-once', preset: 'logs', schema: 'any' },
  }
  writeFileSync(config, JSON.stringify({ streams }))
  const broker = kafka.brokers[0]!
  const chute = await startChute(broker, { CHUTE_CONFIG: config }, { probe: true })
  try {
    const rows = await measure(chute)
    return { rows, landed: await landedOf(chute, broker) }
  } finally {
    await chute.stop()
    rmSync(folder, { recursive: true })
  }
}
