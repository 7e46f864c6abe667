import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, onTestFinished, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { seededRandom } from '../support/fault-run.ts'
import { createTopic } from '../support/independent-reader.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'
import { broken } from './harness/bar.ts'
import { ChaosClients } from './harness/chaos-clients.ts'
import { inflictAtRandom, Timeline, type Pace, type Victim } from './harness/chaos-faults.ts'
import { ChaosGateway, Scraping } from './harness/chaos-gateway.ts'
import {
  chaosFigures,
  countChaos,
  gatewayBars,
  historiesOf,
  lossOfLives,
  promiseBars,
} from './harness/chaos-report.ts'
import { untilLayout } from './harness/cluster.ts'
import { byForm, isFull, isLong } from '../support/forms.ts'
import { judge } from './harness/judge.ts'
import { seed } from '../support/seed.ts'

const seconds = Number(process.env['CHUTE_CHAOS_SECONDS'] ?? byForm({ short: 20, full: 300 }))

/** Streams of both gateways, and what is promised of each. */
const promised = {
  realtime: 'at-most-once',
  critical: 'at-least-once',
  exact: 'exactly-once',
} as const

/**
 * A claim outlives its gateway for as long as a lease, and no gateway is away for as long, not even on a machine so busy that a
 * start takes half a minute: a retry that comes elsewhere after that, before the gateway is back, is one of the cases of
 * docs/duplicates.md in which it is written twice.
 */
const leaseMs = byForm({ short: 30_000, full: 120_000 })
const pace: Pace = isFull
  ? { calmMs: [1_000, 8_000], awayMs: [0, 4_000], stoppedMs: [300, 6_000] }
  : { calmMs: [500, 3_000], awayMs: [0, 1_000], stoppedMs: [200, 2_000] }

let kafka: LocalKafka
beforeAll(async () => {
  if (isLong) kafka = await startKafka({ nodes: 3, properties: { 'min.insync.replicas': '2' } })
})
afterAll(async () => await kafka?.stop())

/** CI's: `npm test` has the same promises under faults at random in virtual time (promises.test.ts), and each of these faults alone. */
test.runIf(hasRedis && isLong)(
  'brokers, gateways and Redis are killed, ended and stopped at random: each delivery keeps its promise (needs redis-server)',
  { timeout: (seconds + 480) * 1_000 },
  async () => {
    process.stderr.write(`chaos: PROMISE_SEED=${seed} CHUTE_CHAOS_SECONDS=${seconds}\n`)
    const id = randomUUID().slice(0, 8)
    const folder = mkdtempSync(join(tmpdir(), 'chute-chaos-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const redis = await startPersistentRedis(join(folder, 'redis'))
    const topics = await createTopics(id)
    const gateways = makeGateways(folder, topics, redis)
    await Promise.all(gateways.map(async (gateway) => await gateway.start()))
    onTestFinished(() => gateways.forEach(({ life }) => life.gateway.signal('SIGKILL')))
    await Promise.all(gateways.map(async ({ life }) => await life.gateway.ready()))
    const clients = makeClients(gateways)

    const timeline = new Timeline()
    for (const each of clients) each.start()
    const scraping = new Scraping(gateways)
    await inflictAll({ gateways, redis, topics: Object.values(topics), timeline })
    timeline.add('all is well')
    await Promise.all(clients.map(async (each) => await each.stop(leaseMs + 60_000)))
    timeline.add('each client that retries has its answer')
    await Promise.all(gateways.map(async (gateway) => await gateway.settled()))
    timeline.add('all that was accepted has its outcome')
    await scraping.stop()
    await Promise.all(gateways.map(async (gateway) => await gateway.end()))

    const counts = await Promise.all(
      clients.map(async (each) => {
        const stream = each.stream as keyof typeof promised
        return await countChaos(kafka.brokers.join(','), topics[stream], each, promised[stream])
      }),
    )
    const losses = lossOfLives(clients[0]!, counts[0]!, gateways)
    const bars = [
      ...counts.flatMap(promiseBars),
      ...gatewayBars({ gateways, clients, openSums: scraping.open, untold: losses.untold }),
    ]
    const isBroken = broken(bars).length > 0
    const told = [
      ...timeline.incidents.map(({ atMs, what }) => `${(atMs / 1000).toFixed(1).padStart(7)} s  ${what}`),
      ...(isBroken ? clients.flatMap((each, nth) => historiesOf(each, counts[nth]!, timeline)) : []),
      ...clients.flatMap(({ surprises }) => surprises.slice(0, 10)),
      ...scraping.open.slice(0, 10),
    ]
    if (isFull || isBroken) process.stderr.write(`${told.join('\n')}\n`)
    const figures = chaosFigures(counts, losses, timeline)
    judge(`chaos for ${seconds} s, seed ${seed}`, figures, bars, timeline.incidents)
  },
)

/** A Redis that keeps on disk what it answered: one that forgets keys with each start can promise nothing. */
async function startPersistentRedis(folder: string): Promise<TestRedis> {
  mkdirSync(folder)
  const redis = await startRedis({}, folder)
  onTestFinished(async () => {
    redis.signal('SIGCONT')
    await redis.kill()
  })
  return redis
}

async function createTopics(id: string): Promise<Record<keyof typeof promised, string>> {
  const names = { realtime: `realtime-${id}`, critical: `critical-${id}`, exact: `exact-${id}` }
  const options = {
    partitions: 3,
    replicationFactor: 3,
    config: { 'message.timestamp.type': 'LogAppendTime' },
  }
  for (const topic of Object.values(names)) await createTopic(kafka.brokers.join(','), topic, options)
  return names
}

function makeGateways(
  folder: string,
  topics: Record<keyof typeof promised, string>,
  redis: TestRedis,
): ChaosGateway[] {
  const file = join(folder, 'chute.json')
  const streams = {
    realtime: { topic: topics.realtime, delivery: promised.realtime },
    critical: { topic: topics.critical, delivery: promised.critical, dedupe: 'off' },
    exact: { topic: topics.exact, delivery: promised.exact },
  }
  writeFileSync(file, JSON.stringify({ streams }))
  return ['A', 'B'].map(
    (name) =>
      new ChaosGateway(name, {
        KAFKA_BROKERS: kafka.brokers.join(','),
        KAFKA_CREATE_TOPICS: 'false',
        CHUTE_CONFIG: file,
        CHUTE_DATA_DIR: join(folder, `data-${name}`),
        CHUTE_DEDUPE_REDIS_URL: redis.store.url,
        CHUTE_DEDUPE_REDIS_LEASE_MS: String(leaseMs),
        SHUTDOWN_TIMEOUT_MS: '5000',
      }),
  )
}

function makeClients(gateways: readonly ChaosGateway[]): ChaosClients[] {
  const shared = {
    clients: byForm({ short: 6, full: 8 }),
    pauseMs: byForm({ short: 60, full: 40 }),
    gateways: () => gateways.map(({ life }) => life),
  }
  return Object.entries(promised).map(
    ([stream, promise], nth) =>
      new ChaosClients({
        ...shared,
        stream,
        retries: promise !== 'at-most-once',
        keyed: promise === 'exactly-once',
        random: seededRandom(seed * 100 + nth),
      }),
  )
}

/** One group of victims for the brokers, one for each gateway and one for Redis: up to four faults at once. */
async function inflictAll(run: {
  gateways: readonly ChaosGateway[]
  redis: TestRedis
  topics: readonly string[]
  timeline: Timeline
}): Promise<void> {
  const { gateways, redis, topics, timeline } = run
  const groups: Victim[][] = [
    kafka.nodes.map((_, index) => brokerVictim(index, topics)),
    ...gateways.map((gateway) => [gatewayVictim(gateway)]),
    [redisVictim(redis)],
  ]
  const untilMs = performance.now() + seconds * 1_000
  await Promise.all(
    groups.map(async (victims, nth) => {
      const random = seededRandom(seed * 100 + 10 + nth)
      await inflictAtRandom({ victims, pace, untilMs, random, timeline })
    }),
  )
}

/** The next broker fails when all partitions have all their replicas again: Kafka promises nothing where two are gone at once. */
function brokerVictim(index: number, topics: readonly string[]): Victim {
  const node = kafka.nodes[index]!
  return {
    name: `broker ${node.id}`,
    kill: async () => await node.kill('SIGKILL'),
    async end() {
      const startMs = performance.now()
      await node.stop()
      return `after ${Math.round(performance.now() - startMs)} ms`
    },
    stop: () => process.kill(node.pid!, 'SIGSTOP'),
    goOn: () => process.kill(node.pid!, 'SIGCONT'),
    start: async () => await Promise.resolve(node.start()),
    async recovered() {
      await node.waitUntilReady()
      const witness = (index + 1) % kafka.nodes.length
      await untilLayout(kafka, witness + 1, topics, (layout) => layout.every(({ isr }) => isr.length === 3))
    },
  }
}

function gatewayVictim(gateway: ChaosGateway): Victim {
  return {
    get name() {
      return `gateway ${gateway.life.name}`
    },
    kill: async () => await gateway.kill(),
    async end() {
      const tookMs = await gateway.end()
      return `with exit code ${gateway.life.exitCode} after ${Math.round(tookMs)} ms`
    },
    stop: () => gateway.stop(),
    goOn: () => gateway.goOn(),
    start: async () => await gateway.start(),
    recovered: async () => await Promise.resolve(),
  }
}

function redisVictim(redis: TestRedis): Victim {
  return {
    name: 'redis',
    kill: async () => await redis.kill(),
    async end() {
      await redis.end()
      return 'in order'
    },
    stop: () => redis.signal('SIGSTOP'),
    goOn: () => redis.signal('SIGCONT'),
    start: async () => await redis.start(),
    recovered: async () => await Promise.resolve(),
  }
}
