import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { oneAndHundred } from './events.ts'
import { landedOf } from './landed.ts'
import { load, type LoadRequest } from './load.ts'
import { inTurn, median, ratioOf, say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/** Medians of a stream with or without `audit: true` for one kind of request. */
export interface AuditRow {
  readonly stream: string
  readonly request: string
  readonly eventsPerSecond: number
  /** From the first request until every record has its outcome. */
  readonly cpuMicrosPerEvent: number
  /** Of the CPU time an event without the header, round by round. */
  readonly cpuRatio: number
  /** What the files of the topic grew by ÷ records: the bytes of the batches, as they went over the wire. */
  readonly bytesPerRecord: number
  readonly failed: number
  /** Records in the topic ÷ events that were answered with 202, over all rounds of the request. */
  readonly landed: number
}

const kinds = [
  { stream: 'without', topic: 'audit-off', audit: false },
  { stream: '`audit: true`', topic: 'audit-on', audit: true },
] as const

/** The same gateway twice, with and without the header, in turn; each begins a round with nothing left of the one before. */
export async function benchAudit(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<AuditRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-audit-'))
  const servers: ChuteProcess[] = []
  try {
    for (const { topic, audit } of kinds) {
      const file = join(folder, `${topic}.yaml`)
      writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once, audit: ${audit} } }\n`)
      servers.push(await startChute(kafka.brokers[0]!, { CHUTE_CONFIG: file }))
    }
    const rows: AuditRow[] = []
    for (const { name, request, events } of oneAndHundred) {
      const rounds = await inTurn(
        kinds.map(({ stream, topic }, nth) => ({
          name: stream,
          measure: async () =>
            await measure(kafka, { server: servers[nth]!, topic, request, events, seconds: options.seconds }),
        })),
        options.rounds,
        (round) => `${name}, ${cpuOf(round).toFixed(2)} µs an event`,
      )
      const base = rounds.get(kinds[0].stream)!
      for (const { stream } of kinds) rows.push(rowOf(stream, name, { own: rounds.get(stream)!, base }))
    }
    return rows
  } finally {
    await Promise.all(servers.map(async (server) => await server.stop()))
    rmSync(folder, { recursive: true })
  }
}

interface Round {
  readonly eventsPerSecond: number
  readonly cpuMicros: number
  readonly accepted: number
  readonly landed: number
  readonly topicBytes: number
  readonly failed: number
}

async function measure(
  kafka: LocalKafka,
  of: { server: ChuteProcess; topic: string; request: LoadRequest; events: number; seconds: number },
): Promise<Round> {
  const { server, topic, request, events, seconds } = of
  const before = await landedOf(server, kafka.brokers[0]!)
  const [bytesBefore, cpuBefore] = [bytesOf(kafka, topic), server.usage().cpuMicros]
  const { requestsPerSecond, failed } = await load(`${server.url}/v1/streams/s`, request, seconds)
  const after = await landedOf(server, kafka.brokers[0]!)
  return {
    eventsPerSecond: requestsPerSecond * events,
    cpuMicros: server.usage().cpuMicros - cpuBefore,
    accepted: after.accepted - before.accepted,
    landed: after.inTopics - before.inTopics,
    topicBytes: bytesOf(kafka, topic) - bytesBefore,
    failed,
  }
}

/** What the files of a topic hold: the batches as they were written. */
function bytesOf({ nodes }: LocalKafka, topic: string): number {
  const { dataDir } = nodes[0]!
  const partitions = readdirSync(dataDir).filter((name) => /^(.+)-\d+$/.exec(name)?.[1] === topic)
  const files = partitions.flatMap((name) =>
    readdirSync(join(dataDir, name))
      .filter((file) => file.endsWith('.log'))
      .map((file) => join(dataDir, name, file)),
  )
  return files.reduce((sum, file) => sum + statSync(file).size, 0)
}

function rowOf(
  stream: string,
  request: string,
  { own, base }: { own: readonly Round[]; base: readonly Round[] },
): AuditRow {
  const sum = (value: (round: Round) => number): number =>
    own.reduce((total, round) => total + value(round), 0)
  const failed = sum((round) => round.failed)
  if (failed > 0) say(`${stream}: ${failed} requests failed`)
  return {
    stream,
    request,
    eventsPerSecond: median(own.map(({ eventsPerSecond }) => eventsPerSecond)),
    cpuMicrosPerEvent: median(own.map(cpuOf)),
    cpuRatio: ratioOf(own, base, cpuOf),
    bytesPerRecord: median(own.map(({ topicBytes, landed }) => topicBytes / landed)),
    failed,
    landed: sum((round) => round.landed) / sum((round) => round.accepted),
  }
}

function cpuOf({ cpuMicros, accepted }: Round): number {
  return cpuMicros / accepted
}
