import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { sampleEvent } from './events.ts'
import { load } from './load.ts'
import { median, say } from './rounds.ts'
import { startChute, type ServerProcess } from './server-process.ts'

/** What one step on the way to a stronger delivery costs. */
export interface MigrationRow {
  readonly step: string
  /** The line of the stream's configuration. */
  readonly line: string
  /** One client, one request at a time: until the 202, and until the outcome is known (`Prefer: wait`). */
  readonly acceptedP50Ms: number
  readonly acceptedP99Ms: number
  readonly settledP50Ms: number
  readonly settledP99Ms: number
  /** 64 clients, single events. */
  readonly eventsPerSecond: number
  readonly cpuMicrosPerEvent: number
}

/** The source document's migration steps, each a change of one line, and what durable and exactly-once add. */
const steps: readonly { step: string; line: string; isDurable?: boolean; hasIds?: boolean }[] = [
  { step: 'start: fire and forget', line: 'delivery: at-most-once' },
  { step: '1: acknowledged by the leader', line: 'delivery: at-most-once, producer: { acks: 1 }' },
  { step: '1: acknowledged by all', line: 'delivery: at-most-once, producer: { acks: all }' },
  { step: '2: retries', line: 'delivery: at-least-once, producer: { enable.idempotence: false }' },
  { step: '3: idempotence', line: 'delivery: at-least-once' },
  { step: 'durable 202', line: 'delivery: at-least-once', isDurable: true },
  { step: 'exactly-once', line: 'delivery: exactly-once', isDurable: true, hasIds: true },
]

/** Each step in turn, `rounds` times over, so that a machine that slows down slows all of them; medians. */
export async function benchMigration(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number; requests: number },
): Promise<MigrationRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-migration-'))
  try {
    const measured = steps.map(() => [] as Measurement[])
    for (let round = 0; round < options.rounds; round++) {
      for (const [nth, step] of steps.entries()) {
        const server = await startStep(kafka, folder, nth)
        try {
          measured[nth]!.push(await measure(server, step.hasIds === true, options))
        } finally {
          await server.stop()
        }
        say(`${step.step}, round ${round + 1} of ${options.rounds}`)
      }
    }
    return steps.map(({ step, line }, nth) => ({ step, line, ...medians(measured[nth]!) }))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

type Measurement = Omit<MigrationRow, 'step' | 'line'>

async function startStep(kafka: LocalKafka, folder: string, nth: number): Promise<ServerProcess> {
  const { line, isDurable } = steps[nth]!
  const file = join(folder, `step-${nth}.yaml`)
  writeFileSync(file, `streams: { s: { topic: migration-${nth}, ${line} } }\n`)
  // The temporary folder may be in memory.
  const data =
    isDurable === true
      ? { CHUTE_DATA_DIR: join(folder, `data-${nth}`), CHUTE_DATA_DIR_EPHEMERAL: 'true' }
      : {}
  return await startChute(kafka.brokers[0]!, { CHUTE_CONFIG: file, ...data })
}

async function measure(
  server: ServerProcess,
  hasIds: boolean,
  { seconds, requests }: { seconds: number; requests: number },
): Promise<Measurement> {
  const target = `${server.url}/v1/streams/s`
  const body = hasIds ? sampleEvent.replace('{', '{"id":"[<id>]",') : sampleEvent
  await oneByOne(target, body, Math.ceil(requests / 4))
  const accepted = await oneByOne(target, body, requests)
  const settled = await oneByOne(target, body, requests, { prefer: 'wait=30' })
  const cpuBefore = server.usage().cpuMicros
  const { requestsPerSecond, requests: sent } = await load(
    target,
    { contentType: 'application/json', body },
    seconds,
  )
  return {
    acceptedP50Ms: quantile(accepted, 0.5),
    acceptedP99Ms: quantile(accepted, 0.99),
    settledP50Ms: quantile(settled, 0.5),
    settledP99Ms: quantile(settled, 0.99),
    eventsPerSecond: requestsPerSecond,
    cpuMicrosPerEvent: (server.usage().cpuMicros - cpuBefore) / sent,
  }
}

/** Milliseconds of each of `count` requests, one after the other over one connection. */
async function oneByOne(
  url: string,
  body: string,
  count: number,
  headers: Record<string, string> = {},
): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const own = body.replace('[<id>]', `${Date.now()}-${i}-${times.length}-${Math.random()}`)
    const startMs = performance.now()
    const reply = await fetch(url, {
      method: 'POST',
      body: own,
      headers: { 'content-type': 'application/json', ...headers },
    })
    await reply.arrayBuffer()
    if (!reply.ok) throw new Error(`${url} answered ${reply.status}`)
    times.push(performance.now() - startMs)
  }
  return times
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

function medians(all: readonly Measurement[]): Measurement {
  const of = (name: keyof Measurement): number => median(all.map((each) => each[name]))
  return {
    acceptedP50Ms: of('acceptedP50Ms'),
    acceptedP99Ms: of('acceptedP99Ms'),
    settledP50Ms: of('settledP50Ms'),
    settledP99Ms: of('settledP99Ms'),
    eventsPerSecond: of('eventsPerSecond'),
    cpuMicrosPerEvent: of('cpuMicrosPerEvent'),
  }
}
