import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { Delivery } from '../../src/config/config.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import type { StreamProducer } from '../../src/kafka/producer/stream-producer.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { append } from '../support/producer-fixture.ts'
import { startProducer } from '../support/real-producer.ts'
import { atLeast, exactly } from './harness/bar.ts'
import { layoutOf, untilLayout } from './harness/cluster.ts'
import { byForm, isFull, isLong } from '../support/forms.ts'
import { judge } from './harness/judge.ts'

/*
 * Three brokers, three partitions without replicas: while one broker is dead or stopped, its partition cannot be written to,
 * and nobody takes over. That holds up the keys of the partition, and nothing else.
 */

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka({ nodes: 3 })
})
afterAll(async () => await kafka.stop())

const deliveries = ['at-most-once', 'at-least-once'] as const
const flowRecords = byForm({ short: 1_500, full: 15_000 })
/** A second after the fault, a producer knows of it. */
const knownAfterMs = 1_000

/** A record that was appended, and how long it waited for its outcome. */
interface Fate {
  readonly id: number
  readonly key: string | null
  isDelivered: boolean
  tookMs: number
}

function send(producer: StreamProducer, id: number, key: string | null): Fate {
  const fate: Fate = { id, key, isDelivered: false, tookMs: Infinity }
  const startMs = performance.now()
  const batch = append(producer, String(id).padEnd(200), key)!
  const place = batch.recordCount - 1
  batch.onSettled(({ outcome, firstPlace, recordCount }) => {
    if (place < firstPlace || place >= firstPlace + recordCount) return
    fate.isDelivered = outcome === 'confirmed' || outcome === 'acked'
    fate.tookMs = performance.now() - startMs
  })
  return fate
}

async function flow(producer: StreamProducer, first: number, count: number, kind: Kind): Promise<Fate[]> {
  const fates: Fate[] = []
  while (fates.length < count) {
    for (let i = 0; i < 5; i++) {
      const id = first + fates.length
      const hasKey = kind === 'keys' || (kind === 'both' && id % 2 === 0)
      fates.push(send(producer, id, hasKey ? `key-${id % 20}` : null))
    }
    await pause(10)
  }
  return fates
}

type Kind = 'no key' | 'keys' | 'both'

const kinds: readonly Kind[] = isFull ? ['no key', 'keys', 'both'] : ['both']

const cases = (['dead', 'stopped'] as const).flatMap((fault) =>
  deliveries.flatMap((delivery) => kinds.map((kind) => [fault, delivery, kind] as const)),
)

test.runIf(isLong).each(cases)(
  'one of three brokers is %s (%s, %s)',
  { timeout: 180_000 },
  async (fault, delivery, kind) => {
    const topic = `three-${randomUUID()}`
    await createTopic(kafka.brokers[0]!, topic, { partitions: 3, replicationFactor: 1 })
    const { producer, settled } = await startProducer(kafka.brokers, topic, presetOf(delivery), delivery)
    const partitionOf = new Map<string, number>()
    const warm = await flow(producer, 0, 200, 'keys')
    await settled()
    for (const record of await read(kafka.brokers[0]!, topic)) partitionOf.set(record.key!, record.partition)

    const layout = await layoutOf(kafka, 1, [topic])
    const { leader, partition } = layout[0]!
    const node = kafka.nodes[leader - 1]!
    onTestFinished(async () => await mend(topic))
    await node.kill(fault === 'dead' ? 'SIGKILL' : 'SIGSTOP')
    const early = await flow(producer, warm.length, 100, kind)
    await pause(knownAfterMs)
    const fates = await flow(producer, warm.length + early.length, flowRecords, kind)
    await pause(1_000)

    const isHeld = ({ key }: Fate): boolean => key !== null && partitionOf.get(key) === partition
    const free = fates.filter((fate) => !isHeld(fate))
    const inTime = free.filter(({ isDelivered, tookMs }) => isDelivered && tookMs <= 1_000)
    const longestMs = Math.max(...free.map(({ tookMs }) => tookMs))

    await mend(topic)
    await settled()
    const stored = await read(kafka.brokers[0]!, topic)
    const all = [...warm, ...early, ...fates]
    const { stats } = producer
    judge(
      `one of three ${fault}, ${delivery}, ${kind}`,
      {
        'not of its keys': free.length,
        'delivered within a second': inTime.length,
        'longest, ms': longestMs,
        suspects: stats.suspectedLost,
      },
      [
        atLeast('share delivered within a second', inTime.length / Math.max(1, free.length), 0.99),
        exactly('stored twice', stored.length - new Set(stored.map(({ id }) => id)).size, 0),
        exactly('out of order', disorder(stored), 0),
        exactly('accepted', stats.accepted, all.length),
        exactly(
          'delivered and not stored',
          all.filter(({ isDelivered }) => isDelivered).length -
            stored.filter(({ id }) => all[id]!.isDelivered).length,
          0,
        ),
        ...(delivery === 'at-least-once' ? [exactly('acked', stats.acked, all.length)] : []),
      ],
    )
    expect(stats.dropped.expired).toBe(0)
  },
)

function presetOf(delivery: Delivery): Parameters<typeof startProducer>[2] {
  return delivery === 'at-most-once' ? { confirmIntervalMs: 20 } : {}
}

/** Keys whose records are not in the order of acceptance, each time. */
function disorder(stored: readonly { key: string | null; id: number }[]): number {
  const last = new Map<string, number>()
  let count = 0
  for (const { key, id } of stored) {
    if (key === null) continue
    if (id < (last.get(key) ?? -1)) count++
    last.set(key, id)
  }
  return count
}

async function read(
  broker: string,
  topic: string,
): Promise<{ key: string | null; id: number; partition: number }[]> {
  const records = await readTopic(broker, topic)
  return records.map(({ key, value, partition }) => ({ key, id: Number(value.toString()), partition }))
}

async function mend(topic: string): Promise<void> {
  for (const node of kafka.nodes) {
    await node.kill('SIGCONT')
    if (node.pid === null) node.start()
  }
  for (const node of kafka.nodes) await node.waitUntilReady()
  await untilLayout(kafka, 1, [topic], (layout) => layout.every(({ leader }) => leader > 0))
}
