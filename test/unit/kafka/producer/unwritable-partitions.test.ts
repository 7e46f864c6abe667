import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Settlement } from '../../../../src/kafka/producer/producer.ts'
import { seededRandom } from '../../../support/fault-run.ts'
import { sumOfOutcomes } from '../../../support/producer-stats.ts'
import { ModelCluster } from '../../../support/model-broker.ts'
import { append, ProducerFixture, streamConfig, keyFor } from '../../../support/producer-fixture.ts'
import { pass, passUntil, useVirtualClock } from '../../../support/virtual-clock.ts'

/** One of three brokers fails, each of which leads one of three partitions, and no other becomes the leader. */

let cluster: ModelCluster
let fixture: ProducerFixture

beforeEach(() => {
  useVirtualClock()
  vi.spyOn(Math, 'random').mockImplementation(seededRandom(1))
})
afterEach(() => {
  fixture.stop()
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const deliveries = ['at-most-once', 'at-least-once'] as const
const failedNode = 2
/** The partition that it leads. */
const failedPartition = 1

type Delivery = (typeof deliveries)[number]

async function start(
  delivery: Delivery,
  overrides: Parameters<typeof streamConfig>[2] = {},
  audit = false,
): Promise<void> {
  cluster = new ModelCluster([1, 2, 3], seededRandom(1))
  cluster.createTopic('events', 3)
  const interval = delivery === 'at-most-once' ? { confirmIntervalMs: 20 } : {}
  const stream = { ...streamConfig('events', delivery, { ...interval, ...overrides }), audit }
  fixture = await new ProducerFixture(cluster, [stream]).start()
  for (let partition = 0; partition < 3; partition++) append(fixture.producer, '-1', keyFor(partition, 3))
  await passUntil(() => delivered() === 3)
}

function delivered(): number {
  const { confirmed, acked } = fixture.producer.stats
  return confirmed + acked
}

/** What became of a record, and when. */
interface Fate {
  readonly key: string | null
  readonly atMs: number
  outcome: Settlement['outcome'] | null
  tookMs: number
}

/** Appends for a while: a record of each kind every 5 ms. */
async function flow(forMs: number, keys: readonly (string | null)[]): Promise<Fate[]> {
  const fates: Fate[] = []
  for (let ms = 0; ms < forMs; ms += 5) {
    for (const key of keys) {
      const atMs = performance.now()
      const fate: Fate = { key, atMs, outcome: null, tookMs: Infinity }
      const batch = append(fixture.producer, `${fates.length}`, key)!
      const place = batch.recordCount - 1
      batch.onSettled(({ outcome, firstPlace, recordCount }) => {
        if (place < firstPlace || place >= firstPlace + recordCount) return
        fate.outcome = outcome
        fate.tookMs = performance.now() - atMs
      })
      fates.push(fate)
    }
    await pass(5)
  }
  return fates
}

const faults = {
  dead: () => cluster.kill(failedNode),
  'dead, and nobody is told': () => cluster.kill(failedNode, false),
  stopped: () => cluster.stop(failedNode),
} as const

const cases = deliveries.flatMap((delivery) =>
  (Object.keys(faults) as (keyof typeof faults)[]).flatMap((fault) =>
    (['no key', 'keys', 'both'] as const).map((kind) => [fault, delivery, kind] as const),
  ),
)

describe('of three brokers, one', () => {
  test.each(cases)('is %s: its keys wait, and nothing else does (%s, %s)', async (fault, delivery, kind) => {
    await start(delivery)
    const keyed = [0, 1, 2].map((partition) => keyFor(partition, 3))
    const keys = kind === 'no key' ? [null] : kind === 'keys' ? keyed : [null, ...keyed]
    faults[fault]()
    const early = await flow(100, keys)
    const fates = await flow(2_000, keys)
    await pass(1_000)
    const waiting = (fate: Fate): boolean => fate.tookMs > 1_000
    const its = fates.filter(({ key }) => key === keyFor(failedPartition, 3))
    const others = fates.filter((fate) => !its.includes(fate))
    expect(others.filter(waiting).length).toBe(0)
    for (const { outcome } of others)
      expect(outcome).toBe(delivery === 'at-most-once' ? 'confirmed' : 'acked')
    if (kind !== 'no key') expect(its.filter(waiting).length).toBeGreaterThan(its.length / 2)
    // What it had when it failed, and no more, shares its fate.
    expect(early.filter((fate) => fate.key === null && waiting(fate)).length).toBeLessThan(12)

    cluster.restart(failedNode)
    cluster.resume(failedNode)
    cluster.nodes.get(failedNode)!.extraResponseMs = 0
    await passUntil(() => fixture.producer.stats.buffered + fixture.producer.stats.inFlight === 0, 20_000)
    const { stats } = fixture.producer
    expect(sumOfOutcomes(stats)).toBe(stats.accepted)
    if (delivery === 'at-least-once') expect(stats.acked).toBe(stats.accepted)
    for (const log of cluster.stored('events')) {
      expect(new Set(log.map(({ value }) => value)).size - log.length).toBeGreaterThan(-2 * early.length)
      for (const key of keyed) {
        const numbers = log.filter((record) => record.key === key).map(({ value }) => Number(value))
        // Each flow counts from 0.
        const starts = numbers.filter((number, i) => number <= (numbers[i - 1] ?? -1))
        expect(starts.length).toBeLessThanOrEqual(2)
      }
    }
  })

  test.each(deliveries)(
    'is dead, and records are numbered: nothing without a key waits, and each partition counts on (%s)',
    async (delivery) => {
      await start(delivery, {}, true)
      cluster.kill(failedNode)
      await flow(50, [null, keyFor(0, 3), keyFor(1, 3), keyFor(2, 3)])
      // So few that a number is one byte below 128, which is text.
      const fates = await flow(200, [null, keyFor(0, 3), keyFor(1, 3), keyFor(2, 3)])
      await pass(1_000)
      expect(fates.filter(({ key, tookMs }) => key === null && tookMs > 1_000)).toEqual([])
      cluster.restart(failedNode)
      await passUntil(() => fixture.producer.stats.buffered + fixture.producer.stats.inFlight === 0, 20_000)
      for (const log of cluster.stored('events')) {
        const marks = log.map(({ headers }) => headers['chute-audit']!)
        expect(marks).toEqual([...new Set(marks)].toSorted())
      }
      const { audit, accepted } = fixture.producer.stats
      expect(audit.reduce((sum, { stamped }) => sum + stamped, 0)).toBe(accepted)
    },
  )

  test.each(deliveries)(
    'gets none of what waits for it: with all three away, what has no key goes first to who comes back (%s)',
    async (delivery) => {
      await start(delivery)
      for (const nodeId of [1, 2, 3]) cluster.kill(nodeId)
      await pass(200)
      const fates = await flow(500, [null])
      cluster.restart(3)
      await passUntil(() => fates.every(({ tookMs }) => tookMs < Infinity), 5_000)
      const stored = cluster.stored('events').map((log) => log.filter(({ key }) => key === null).length)
      expect(stored).toEqual([0, 0, 100])
    },
  )
})

test.each(deliveries)('a slow broker gets less of what has no key (%s)', async (delivery) => {
  await start(delivery)
  cluster.nodes.get(failedNode)!.extraResponseMs = 500
  const fates = await flow(4_000, [null, null])
  await passUntil(() => fates.every(({ tookMs }) => tookMs < Infinity))
  const [slow, ...others] = cluster
    .stored('events')
    .map((log) => log.filter(({ key }) => key === null).length)
    .toSorted((a, b) => a - b)
  expect(slow).toBeLessThan(Math.min(...others) / 4)
  expect(fates.filter(({ tookMs }) => tookMs > 400).length).toBeLessThan(fates.length / 10)
})

describe('with all brokers well', () => {
  test.each(deliveries)(
    'each partition gets its share of what has no key, at any rate (%s)',
    async (delivery) => {
      await start(delivery)
      for (const everyMs of [2, 40]) {
        for (let i = 0; i < 90; i++) {
          append(fixture.producer, `${i}`.padEnd(400))
          await pass(everyMs)
        }
      }
      await pass(500)
      const shares = cluster.stored('events').map((log) => log.filter(({ key }) => key === null).length)
      expect(Math.min(...shares)).toBeGreaterThan(45)
    },
  )

  test('a partition with a backlog of its own gets less of it', async () => {
    await start('at-least-once', { batchSizeBytes: 400 })
    cluster.responseMs = 30
    for (let i = 0; i < 200; i++) {
      append(fixture.producer, `k${i}`.padEnd(100), keyFor(0, 3))
      append(fixture.producer, `k${i}`.padEnd(100), keyFor(0, 3))
      append(fixture.producer, `${i}`.padEnd(100))
      await pass(5)
    }
    await passUntil(() => fixture.producer.stats.buffered === 0)
    await pass(200)
    const [busy, ...idle] = cluster
      .stored('events')
      .map((log) => log.filter(({ key }) => key === null).length)
    expect(busy).toBeLessThan(Math.min(...idle) / 2)
  })
})

test.each(deliveries)(
  'a topic that is compacted while records without a key wait: they are refused, and cost no other (%s)',
  async (delivery) => {
    await start(delivery)
    for (const nodeId of [1, 2, 3]) cluster.kill(nodeId)
    await pass(100)
    const fates = await flow(50, [null, keyFor(0, 3), keyFor(1, 3)])
    const topic = cluster.topics.get('events')!
    topic.cleanupPolicy = 'compact'
    for (const partition of topic.partitions) partition.refuses = (_, key) => key === null
    for (const nodeId of [1, 2, 3]) cluster.restart(nodeId)
    // At most once, the policy is known again before anything is written: what connects again asks for it first.
    for (const partition of topic.partitions) partition.onlineAtMs = performance.now() + 2_000
    await passUntil(() => fates.every(({ tookMs }) => tookMs < Infinity), 5_000)
    for (const { key, outcome } of fates)
      expect(outcome).toBe(key === null ? 'dropped' : delivery === 'at-most-once' ? 'confirmed' : 'acked')
    expect(fixture.producer.stats.dropped.invalid_record).toBe(10)
  },
)
