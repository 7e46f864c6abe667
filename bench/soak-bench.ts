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
  /** The most memory that was resident during the load, above what the idle gateway had before and what `buffer.memory` held at that moment. */
  readonly rssBeyondBufferBytes: number
}

/**
 * The longest pauses of the event loop: small batches, large bodies, and the `logs` preset with its 1 MB batches and lz4. Each load has a process of
 * its own: memory that one load took is not given back before the next.
 */
export async function benchPauses(
  kafka: LocalKafka,
  options: { seconds: number },
): Promise<{ rows: PauseRow[]; landed: Landed }> {
  const rows: PauseRow[] = []
  const all = { accepted: 0, inTopics: 0 }
  for (const { settings, ...step } of pauseSteps) {
    const streams = { [step.stream]: settings }
    const { measured, landed } = await withGateway(
      kafka,
      streams,
      async (chute) => await measurePauses(chute, step, options.seconds),
    )
    rows.push(measured)
    all.accepted += landed.accepted
    all.inTopics += landed.inTopics
  }
  return { rows, landed: all }
}

const telemetry = { delivery: 'at-most-once' }
const logs = { delivery: 'at-most-once', preset: 'logs', schema: 'any' }
const pauseSteps = [
  {
    name: 'single events, telemetry',
    stream: 'bench-single',
    settings: telemetry,
    request: singleEvent,
    events: 1,
  },
  {
    name: 'NDJSON of 100, telemetry',
    stream: 'bench-ndjson',
    settings: telemetry,
    request: ndjsonOf100,
    events: 100,
  },
  {
    name: 'NDJSON of 4,500 (a body of 1 MB), telemetry',
    stream: 'bench-large',
    settings: telemetry,
    request: ndjsonOf4500,
    events: 4_500,
  },
  {
    name: 'NDJSON of 100, logs (1 MB batches, lz4)',
    stream: 'bench-logs',
    settings: logs,
    request: logLinesOf100,
    events: 100,
  },
]

async function measurePauses(
  chute: ChuteProcess,
  { name, stream, request, events }: Omit<(typeof pauseSteps)[number], 'settings'>,
  seconds: number,
): Promise<PauseRow> {
  const url = `${chute.url}/v1/streams/${stream}`
  const idleBytes = chute.usage().rssBytes
  await load(url, request, 2)
  await chute.readProbe()
  let rssBeyondBufferBytes = 0
  const look = async (): Promise<void> => {
    const { rssBytes } = chute.usage()
    const held = (await chute.stats()).map((each) => each.bufferTotalBytes - each.bufferAvailableBytes)
    const beyondBytes = rssBytes - idleBytes - held.reduce((sum, bytes) => sum + bytes, 0)
    rssBeyondBufferBytes = Math.max(rssBeyondBufferBytes, beyondBytes)
  }
  const looking = setInterval(() => void look(), 500)
  const { requestsPerSecond } = await load(url, request, seconds).finally(() => clearInterval(looking))
  const reading = await chute.readProbe()
  say(
    `${name}: longest pause of our own ${reading.ownMaxMs.toFixed(1)} ms, p99.9 ${reading.ownP999Ms.toFixed(1)} ms, garbage collector ${(reading.gcShare * 100).toFixed(1)} %, ${Math.round(rssBeyondBufferBytes / 1e6)} MB above idle and buffers`,
  )
  return { load: name, eventsPerSecond: requestsPerSecond * events, rssBeyondBufferBytes, ...reading }
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
  const { measured: samples, landed } = await withGateway(
    kafka,
    { 'bench-telemetry': telemetry },
    async (chute) => {
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
    },
  )
  return { minutes: options.minutes, ratePerSecond, samples, rssGrowth: growthOf(samples), failed, landed }
}

function growthOf(samples: readonly SoakSample[]): number {
  const quarter = Math.floor(samples.length / 4)
  const mean = (some: readonly SoakSample[]): number =>
    some.reduce((sum, { rssMegabytes }) => sum + rssMegabytes, 0) / some.length
  return mean(samples.slice(-quarter)) / mean(samples.slice(quarter, 2 * quarter))
}

async function withGateway<Measured>(
  kafka: LocalKafka,
  streams: Readonly<Record<string, object>>,
  measure: (chute: ChuteProcess) => Promise<Measured>,
): Promise<{ measured: Measured; landed: Landed }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  const config = join(folder, 'streams.json')
  writeFileSync(config, JSON.stringify({ streams }))
  const broker = kafka.brokers[0]!
  const chute = await startChute(broker, { CHUTE_CONFIG: config }, { probe: true })
  try {
    const measured = await measure(chute)
    return { measured, landed: await landedOf(chute, broker) }
  } finally {
    await chute.stop()
    rmSync(folder, { recursive: true })
  }
}
