import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { arrayOf100, singleEvent } from './events.ts'
import { landedOf } from './landed.ts'
import { load, type LoadRequest } from './load.ts'
import { openLoop, type OpenLoopResult } from './open-loop.ts'
import { inTurn, median, medianOf, medianRatioOf, say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/**
 * One gateway and one kind of request: the medians over {@link instances} processes of the median of each. A ratio is that of two processes that
 * were measured one right after the other, round by round: the machine gets faster and slower in between.
 */
export interface DoorRow {
  readonly gateway: string
  readonly request: string
  readonly requestsPerSecond: number
  /** Of the requests a second without a door. */
  readonly rateRatio: number
  readonly cpuMicrosPerEvent: number
  /** Of the CPU time an event without a door. */
  readonly cpuRatio: number
  readonly p99Ms: number
  readonly failed: number
}

/** Replies to one key, alone and beside another key that floods. Medians. */
export interface FloodRow {
  readonly beside: string
  readonly p50Ms: number
  readonly p99Ms: number
  readonly refused: number
  readonly floodPerSecond: number
  readonly floodRefusedShare: number
}

const origin = 'https://app.example.com'
/** `warmUpRounds`: a gateway goes on getting cheaper for some ten seconds of load. Behind the first kind most of its code is compiled. */
const kinds = [
  { name: 'single event', request: singleEvent, events: 1, warmUpRounds: 6 },
  { name: 'array of 100', request: arrayOf100, events: 100, warmUpRounds: 2 },
]
/**
 * Processes of each gateway. What V8 inlines and where code lies is another matter of luck in each process: processes of the same gateway
 * differ by up to 8 % in CPU time for as long as they run.
 */
const instances = 3
const many = 2_000_000_000
const adminKey = `  ops: { kind: admin, sha256: ${sha256('ops')} }\n`

/** The same gateway without a door and with one: keys, limits of the key and the address, CORS, and two headers in each record. */
export async function benchDoor(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<{ rows: DoorRow[]; flood: FloodRow[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-door-'))
  const servers: ChuteProcess[] = []
  const serve = async (name: string, yaml: string, env: NodeJS.ProcessEnv = {}): Promise<ChuteProcess> => {
    const file = join(folder, `${name}.yaml`)
    writeFileSync(file, yaml)
    const server = await startChute(kafka.brokers[0]!, { CHUTE_CONFIG: file, ...env }, { adminKey: 'ops' })
    servers.push(server)
    return server
  }
  try {
    const contenders: Contender[] = []
    for (let nth = 1; nth <= instances; nth++) {
      const open = await serve(
        `open-${nth}`,
        `streams: { s: { topic: door-off-${nth}, delivery: at-most-once, onBufferFull: block } }\n`,
      )
      const guarded = await serve(
        `guarded-${nth}`,
        `streams: { s: { topic: door-on-${nth}, delivery: at-most-once, onBufferFull: block, headers: { tenant: key:name, received: time } } }
keys:
${adminKey}${keyOf('page', `{ requests: ${many}, events: ${many}, bytes: ${many}, window: 1s }`, `[${origin}]`)}`,
        { CORS_ORIGINS: origin, RATE_LIMIT_MAX: String(many) },
      )
      contenders.push(
        // The same bytes: a client's header fields are no cost of the door.
        { gateway: withoutDoor, nth, server: open, headers: { 'X-Other-Key': 'page', 'X-Page': origin } },
        { gateway: withDoor, nth, server: guarded, headers: { 'X-Chute-Key': 'page', Origin: origin } },
      )
    }
    const rows: DoorRow[] = []
    for (const { name, request, events, warmUpRounds } of kinds) {
      const rounds = await inTurn(
        contenders.map(({ gateway, nth, server, headers }) => ({
          name: `${gateway}, process ${nth}`,
          measure: async () => await measure(kafka, server, { ...request, headers }, options.seconds),
        })),
        options.rounds,
        (round) =>
          `${name}, ${Math.round(round.requestsPerSecond)} requests/s, ${cpuOf(round).toFixed(2)} µs an event`,
        warmUpRounds,
      )
      const processesOf = (gateway: string): Round[][] =>
        contenders
          .filter((each) => each.gateway === gateway)
          .map(({ nth }) => rounds.get(`${gateway}, process ${nth}`)!)
      const base = processesOf(withoutDoor)
      for (const gateway of [withoutDoor, withDoor])
        rows.push(rowOf(gateway, name, { own: processesOf(gateway), base, events }))
    }
    const shared = await serve(
      'flood',
      `streams: { s: { topic: door-flood, delivery: at-most-once } }
keys:
${keyOf('calm', null)}${keyOf('flood', `{ requests: ${floodLimit}, window: 1s }`)}`,
    )
    return { rows, flood: await benchFlood(shared, { ...options, seconds: 2 * options.seconds }) }
  } finally {
    await Promise.all(servers.map(async (server) => await server.stop()))
    rmSync(folder, { recursive: true })
  }
}

const withoutDoor = 'without a door'
const withDoor = 'with a door'

/** One process under load. */
interface Contender {
  readonly gateway: string
  readonly nth: number
  readonly server: ChuteProcess
  readonly headers: Readonly<Record<string, string>>
}

function keyOf(name: string, limits: string | null, origins: string | null = null): string {
  const own = limits === null ? '' : `, limits: ${limits}`
  const pages = origins === null ? '' : `, origins: ${origins}`
  return `  ${name}: { kind: secret, sha256: ${sha256(name)}, streams: [s]${pages}${own} }\n`
}

function sha256(value: string): string {
  return createHash('sha256').update(value).digest('hex')
}

interface Round {
  readonly requestsPerSecond: number
  readonly p99Ms: number
  readonly cpuMicros: number
  readonly accepted: number
  readonly failed: number
}

async function measure(
  kafka: LocalKafka,
  server: ChuteProcess,
  request: LoadRequest,
  seconds: number,
): Promise<Round> {
  const before = await landedOf(server, kafka.brokers[0]!)
  const cpuBefore = server.usage().cpuMicros
  const { requestsPerSecond, p99Ms, failed } = await load(`${server.url}/v1/streams/s`, request, seconds)
  const { accepted } = await landedOf(server, kafka.brokers[0]!)
  const cpuMicros = server.usage().cpuMicros - cpuBefore
  return { requestsPerSecond, p99Ms, cpuMicros, accepted: accepted - before.accepted, failed }
}

function rowOf(
  gateway: string,
  request: string,
  { own, base, events }: { own: Round[][]; base: Round[][]; events: number },
): DoorRow {
  const failed = own.flat().reduce((sum, round) => sum + round.failed, 0)
  if (failed > 0) say(`${gateway}: ${failed} requests of ${events} failed`)
  const rateOf = (round: Round): number => round.requestsPerSecond
  return {
    gateway,
    request,
    requestsPerSecond: medianOf(own, rateOf),
    rateRatio: medianRatioOf(own, base, rateOf),
    cpuMicrosPerEvent: medianOf(own, cpuOf),
    cpuRatio: medianRatioOf(own, base, cpuOf),
    p99Ms: medianOf(own, ({ p99Ms }) => p99Ms),
    failed,
  }
}

function cpuOf({ cpuMicros, accepted }: Round): number {
  return cpuMicros / accepted
}

/** Requests that the flooding key may send in a second. It sends twenty times as many. */
const floodLimit = 100

/** A key at a calm rate, alone and beside a key that sends 20 times what it may, in turn. */
async function benchFlood(
  { url }: ChuteProcess,
  { rounds, seconds }: { rounds: number; seconds: number },
): Promise<FloodRow[]> {
  const send = async (key: string, ratePerSecond: number): Promise<OpenLoopResult> =>
    await openLoop({
      ...singleEvent,
      url: `${url}/v1/streams/s`,
      ratePerSecond,
      seconds,
      connections: 16,
      headers: { 'X-Chute-Key': key },
    })
  const nobody = 'nobody'
  const flooding = 'a key at 20 times its limit'
  const measured = await inTurn<{ calm: OpenLoopResult; flood: OpenLoopResult | null }>(
    [
      { name: nobody, measure: async () => ({ calm: await send('calm', 200), flood: null }) },
      {
        name: flooding,
        measure: async () => {
          const [calm, flood] = await Promise.all([send('calm', 200), send('flood', 20 * floodLimit)])
          return { calm, flood }
        },
      },
    ],
    rounds,
    ({ calm }) => `p50 ${calm.p50Ms.toFixed(2)} ms, p99 ${calm.p99Ms.toFixed(2)} ms`,
  )
  return Array.from(measured, ([beside, all]) => {
    const floods = all.flatMap(({ flood }) => flood ?? [])
    const ofFloods = (value: (flood: OpenLoopResult) => number): number =>
      floods.length === 0 ? 0 : median(floods.map(value))
    return {
      beside,
      p50Ms: median(all.map(({ calm }) => calm.p50Ms)),
      p99Ms: median(all.map(({ calm }) => calm.p99Ms)),
      refused: all.reduce((sum, { calm }) => sum + calm.sent - (calm.statuses['202'] ?? 0), 0),
      floodPerSecond: ofFloods(({ sent }) => sent / seconds),
      floodRefusedShare: ofFloods(({ sent, statuses }) => (statuses['429'] ?? 0) / sent),
    }
  })
}
