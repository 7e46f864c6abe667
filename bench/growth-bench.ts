import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { createTopic } from '../test/support/independent-reader.ts'
import { eventOf } from './events.ts'
import { recordsIn, settled, type Landed } from './landed.ts'
import { loadMany, usualConnections, type AddressedRequest } from './load.ts'
import { openLoop } from './open-loop.ts'
import { inTurn, median, ratioOf } from './rounds.ts'
import { startBaseline, startChute, type ChuteProcess, type ServerProcess } from './server-process.ts'
import { eventTo, manyStreams, streamsFile } from './streams.ts'

/** What one step of a growing quantity costs; medians. */
export interface GrowthRow {
  readonly quantity:
    | 'streams'
    | 'at-least-once streams'
    | 'partitions'
    | 'connections'
    | 'connections of bare node:http'
    | 'keys'
    | 'bytes'
  readonly size: string
  readonly cpuMicrosPerEvent: number
  /** Of the quantity's first row, round by round. */
  readonly ratio: number
  /** Calls to the kernel that write: one for the reply, and its share of what goes to Kafka. */
  readonly writeCallsPerEvent: number
  readonly failed: number
}

interface Step {
  readonly quantity: GrowthRow['quantity']
  readonly size: string
  readonly serve: () => Promise<ServerProcess>
  readonly requests: readonly AddressedRequest[]
  readonly connections?: number
  /** How many times as long as others it is measured. */
  readonly times?: number
  /** At this rate, not as fast as it goes: large events would fill the disk. */
  readonly ratePerSecond?: number
}

interface Round {
  readonly cpuMicrosPerEvent: number
  readonly writeCallsPerEvent: number
  readonly failed: number
}

const partitionCounts = [1, 20, 200]

/** How the CPU time of an event grows with what it should not grow with. */
export async function benchGrowth(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<{ rows: GrowthRow[]; landed: Landed }> {
  const broker = kafka.brokers[0]!
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  for (const partitions of partitionCounts) {
    await createTopic(broker, `bench-${partitions}-partitions`, { partitions })
  }
  const serve =
    (streams: readonly string[], settings: Readonly<Record<string, string>> = {}) =>
    async (): Promise<ChuteProcess> =>
      await startChute(broker, { CHUTE_CONFIG: streamsFile(folder, streams, undefined, settings) })
  const critical = { delivery: 'at-least-once' }
  const ofPartitions = partitionCounts.map((partitions) => `bench-${partitions}-partitions`)
  const spread = [...ofPartitions, 'bench-bytes']
  try {
    const rows: GrowthRow[] = []
    let accepted = 0
    const count = (more: number): void => void (accepted += more)
    const servers = {
      few: serve(['bench-stream']),
      many: serve(manyStreams),
      fewCritical: serve(['bench-stream'], critical),
      manyCriticalOwn: serve(manyStreams, { ...critical, connection: 'own' }),
      manyCritical: serve(manyStreams, critical),
      spread: serve(spread),
      bare: async () => await startBaseline('bare-http'),
    }
    for (const steps of stepsOf(servers)) rows.push(...(await measureSteps(steps, options, count)))
    const topics = ['bench-stream', ...manyStreams, ...spread]
    const ends = await Promise.all(topics.map(async (topic) => await recordsIn(broker, topic)))
    return { rows, landed: { accepted, inTopics: ends.reduce((sum, end) => sum + end, 0) } }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

interface Servers {
  /** A gateway with one stream. */
  readonly few: Step['serve']
  readonly many: Step['serve']
  /** The same, with at-least-once streams. */
  readonly fewCritical: Step['serve']
  readonly manyCriticalOwn: Step['serve']
  readonly manyCritical: Step['serve']
  /** A gateway with topics of many partitions. */
  readonly spread: Step['serve']
  readonly bare: Step['serve']
}

function stepsOf({ few, many, fewCritical, manyCriticalOwn, manyCritical, spread, bare }: Servers): Step[][] {
  const one = [eventTo('bench-stream')]
  const toMany = manyStreams.map((name) => eventTo(name))
  const ofMany = String(manyStreams.length)
  // wrk sends two requests in turn in the way in which it sends a thousand, and one in a faster way.
  const twice = <T>(requests: T[]): T[] => [...requests, ...requests]
  const keyed = Array.from({ length: 1_000 }, (_, nth) => eventOf({ source: `device-${nth}` }))
  return [
    [
      { quantity: 'streams', size: '1', serve: few, requests: twice(one) },
      { quantity: 'streams', size: ofMany, serve: many, requests: toMany },
    ],
    [
      { quantity: 'at-least-once streams', size: '1', serve: fewCritical, requests: twice(one) },
      {
        quantity: 'at-least-once streams',
        size: `${ofMany}, connection: own`,
        serve: manyCriticalOwn,
        requests: toMany,
      },
      { quantity: 'at-least-once streams', size: ofMany, serve: manyCritical, requests: toMany },
    ],
    partitionCounts.map((partitions) => ({
      quantity: 'partitions',
      size: String(partitions),
      serve: spread,
      requests: keyed.map((event) => eventTo(`bench-${partitions}-partitions`, event)),
    })),
    connectionSteps('connections', few, one),
    // What of it is Node's and the kernel's.
    connectionSteps('connections of bare node:http', bare, one),
    [
      {
        quantity: 'keys',
        size: 'no key',
        serve: spread,
        requests: twice([eventTo('bench-20-partitions', eventOf({}))]),
      },
      {
        quantity: 'keys',
        size: '1,000 keys',
        serve: spread,
        requests: keyed.map((event) => eventTo('bench-20-partitions', event)),
      },
    ],
    (
      [
        [100, 1_000],
        [1_000, 1_000],
        [10_000, 500],
        [200_000, 100],
      ] as const
    ).map(([bytes, ratePerSecond]) => ({
      quantity: 'bytes',
      size: String(bytes),
      serve: spread,
      requests: [eventTo('bench-bytes', eventOf({ bytes }))],
      ratePerSecond,
    })),
  ]
}

function connectionSteps(
  quantity: GrowthRow['quantity'],
  serve: Step['serve'],
  requests: readonly AddressedRequest[],
): Step[] {
  return [10, usualConnections, 1_000, 5_000].map((connections) => ({
    quantity,
    size: String(connections),
    serve,
    requests,
    connections,
    // Thousands of them take a part of the time to be made, which is no event's.
    times: 3,
  }))
}

/** @param count is told how many events a gateway has accepted, when all of them have their outcome. */
async function measureSteps(
  steps: readonly Step[],
  options: { rounds: number; seconds: number },
  count: (accepted: number) => void,
): Promise<GrowthRow[]> {
  const rounds = await inTurn(
    steps.map((step) => ({
      name: `${step.quantity}: ${step.size}`,
      measure: async () => await measureAnew(step, options.seconds, count),
    })),
    options.rounds,
    ({ cpuMicrosPerEvent }) => `${cpuMicrosPerEvent.toFixed(1)} µs CPU an event`,
    0,
  )
  const measured = [...rounds.values()]
  return steps.map(({ quantity, size }, index) => ({
    quantity,
    size,
    cpuMicrosPerEvent: median(measured[index]!.map(({ cpuMicrosPerEvent }) => cpuMicrosPerEvent)),
    ratio: ratioOf(measured[index]!, measured[0]!, ({ cpuMicrosPerEvent }) => cpuMicrosPerEvent),
    writeCallsPerEvent: median(measured[index]!.map(({ writeCallsPerEvent }) => writeCallsPerEvent)),
    failed: measured[index]!.reduce((sum, { failed }) => sum + failed, 0),
  }))
}

/**
 * Measures a step with a process of its own, after as long a time for the compilers. Two processes of the same gateway differ by up to 10 % for as
 * long as they live, by what the compiler has made of them.
 */
async function measureAnew(step: Step, seconds: number, count: (accepted: number) => void): Promise<Round> {
  const server = await step.serve()
  try {
    await measure(server, { ...step, connections: usualConnections }, seconds)
    const round = await measure(server, step, seconds * (step.times ?? 1))
    if (isChute(server)) for (const { accepted } of await settled(server)) count(accepted)
    return round
  } finally {
    await server.stop()
  }
}

async function measure(server: ServerProcess, step: Omit<Step, 'serve'>, seconds: number): Promise<Round> {
  const { requests, connections, ratePerSecond } = step
  const before = server.usage()
  const perEvent = (events: number): Omit<Round, 'failed'> => {
    const { cpuMicros, writeCalls } = server.usage()
    return {
      cpuMicrosPerEvent: (cpuMicros - before.cpuMicros) / events,
      writeCallsPerEvent: (writeCalls - before.writeCalls) / events,
    }
  }
  if (ratePerSecond === undefined) {
    const { requests: done, failed } = await loadMany(server.url, requests, seconds, connections)
    // The end of a run with thousands of connections can take up all of the next one.
    if (done === 0) return await measure(server, step, seconds)
    // What is still on its way is work of these events: a broker takes long over the first of many new partitions.
    if (isChute(server)) await settled(server)
    return { ...perEvent(done), failed }
  }
  const { path, ...request } = requests[0]!
  const url = `${server.url}${path}`
  const { statuses, sent } = await openLoop({ ...request, url, ratePerSecond, seconds, connections: 16 })
  const accepted = statuses['202'] ?? 0
  if (isChute(server)) await settled(server)
  return { ...perEvent(accepted), failed: sent - accepted }
}

function isChute(server: ServerProcess): server is ChuteProcess {
  return 'stats' in server
}
