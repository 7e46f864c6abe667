import { randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { startReader, type ReaderProcess } from '../support/consume-process.ts'
import { createTopic, testClient } from '../support/independent-reader.ts'
import { idsOf, until, writeNumbered } from '../support/numbered-records.ts'

/** A topic of one partition, and a group of one member that writes its records to its standard output. */
class Reading {
  readonly topic = `out-of-range-${randomUUID()}`
  readonly group = `group-${randomUUID()}`
  readonly broker: string

  constructor(broker: string) {
    this.broker = broker
  }

  async write(count: number, from: number): Promise<void> {
    await writeNumbered(this.broker, this.topic, { count, from })
  }

  async create(count: number): Promise<void> {
    await createTopic(this.broker, this.topic, { partitions: 1 })
    await this.write(count, 0)
  }

  start(reset: string, ...args: string[]): ReaderProcess {
    const names = [`--topic=${this.topic}`, `--group=${this.group}`, `--set=auto.offset.reset=${reset}`]
    const reader = startReader(['consume', ...names, ...args], { KAFKA_BROKERS: this.broker })
    onTestFinished(() => reader.signal('SIGKILL'))
    return reader
  }

  /** The group has committed this offset, before it has a member. */
  async commit(offset: number): Promise<void> {
    const { topic, group: groupId } = this
    await this.#asAdmin(async (admin) => {
      await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: String(offset) }] })
    })
  }

  async committed(): Promise<number> {
    const { topic, group: groupId } = this
    return await this.#asAdmin(async (admin) => {
      const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
      return Number(found!.partitions.find(({ partition }) => partition === 0)?.offset)
    })
  }

  /** Deletes the records below an offset, as retention does. */
  async deleteBelow(offset: number): Promise<void> {
    const { topic } = this
    await this.#asAdmin(async (admin) => {
      // kafkajs deletes only in a topic that it knows.
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] })
    })
  }

  async #asAdmin<T>(
    ask: (admin: ReturnType<ReturnType<typeof testClient>['admin']>) => Promise<T>,
  ): Promise<T> {
    const admin = testClient(this.broker).admin()
    await admin.connect()
    try {
      return await ask(admin)
    } finally {
      await admin.disconnect()
    }
  }
}

const wentBack = 'the log of a partition went back behind the position of the group'

test.each([
  { reset: 'earliest', delivery: 'at-most-once' },
  { reset: 'latest', delivery: 'at-least-once' },
  { reset: 'earliest', delivery: 'auto-commit' },
])(
  'a group whose position the log does not reach says so, and goes on at the end of the log: $reset, $delivery',
  async ({ reset, delivery }) => {
    const reading = new Reading(inject('kafkaBroker'))
    await reading.create(10)
    await reading.commit(50)
    const reader = reading.start(reset, `--delivery=${delivery}`)
    const line = await reader.logged(wentBack)
    expect(line).toMatchObject({ level: 'warn', topic: reading.topic, partition: 0 })
    expect(line).toMatchObject({ position: 50, logEnd: 10, resumedAt: 10 })
    expect(await reading.committed()).toBe(10)
    // Their offsets are below what the group had committed.
    await reading.write(5, 10)
    await reader.wrote(5)
    expect(idsOf(reader.output)).toEqual([10, 11, 12, 13, 14])
    reader.signal('SIGTERM')
    expect(await reader.ended()).toBe(0)
    expect(reader.log.at(-1)).toMatchObject({ account: { processed: 5, lost: 0, repeated: 0 } })
    expect(await reading.committed()).toBe(15)
    expect(reader.log.filter(({ msg }) => String(msg).startsWith(wentBack))).toHaveLength(1)
  },
)

test('a group that must lose nothing, and may begin at the beginning, does that where its position is gone', async () => {
  const reading = new Reading(inject('kafkaBroker'))
  await reading.create(10)
  await reading.commit(50)
  const reader = reading.start('earliest', '--delivery=at-least-once')
  expect(await reader.logged(wentBack)).toMatchObject({ position: 50, logEnd: 10, resumedAt: 0 })
  await reading.write(2, 10)
  await reader.wrote(12)
  expect(idsOf(reader.output)).toEqual(Array.from({ length: 12 }, (_, id) => id))
})

test.each([
  { reset: 'earliest', resumedAt: 6, ids: [6, 7, 8, 9, 10] },
  { reset: 'latest', resumedAt: 10, ids: [10] },
])(
  'a group whose next records were deleted says so, and goes on by auto.offset.reset=$reset',
  async ({ reset, resumedAt, ids }) => {
    const reading = new Reading(inject('kafkaBroker'))
    await reading.create(10)
    await reading.commit(2)
    await reading.deleteBelow(6)
    const reader = reading.start(reset)
    const line = await reader.logged('records were deleted before the group had read them')
    expect(line).toMatchObject({ partition: 0, position: 2, logStart: 6, resumedAt })
    await reading.write(1, 10)
    await reader.wrote(ids.length)
    expect(idsOf(reader.output)).toEqual(ids)
  },
)

test.each([
  { meanwhile: 0, where: 'has written nothing' },
  { meanwhile: 5, where: 'ends before the position' },
  { meanwhile: 40, where: 'has grown beyond the position' },
])(
  'a member reads all that is written behind the place to which a log went back, which $where by then',
  { timeout: 120_000 },
  async ({ meanwhile }) => {
    const kafka = await startKafka()
    onTestFinished(async () => await kafka.stop())
    const node = kafka.nodes[0]!
    const reading = new Reading(kafka.brokers[0]!)
    await reading.create(20)
    await reading.commit(1)
    const reader = reading.start('latest')
    await reader.wrote(19)
    reader.signal('SIGSTOP')
    // The broker comes back without what its disk had of the partition, as a replica that lags behind becomes the leader.
    await node.kill('SIGKILL')
    rmSync(join(node.dataDir, `${reading.topic}-0`), { recursive: true })
    node.start()
    await node.waitUntilReady()
    if (meanwhile > 0) await reading.write(meanwhile, 20)
    reader.signal('SIGCONT')
    const line = await reader.logged(wentBack)
    expect(line).toMatchObject({ partition: 0, position: 20, logEnd: meanwhile, resumedAt: 0 })
    await reading.write(5, 20 + meanwhile)
    await reader.wrote(24 + meanwhile)
    expect(idsOf(reader.output)).toEqual(Array.from({ length: 24 + meanwhile }, (_, index) => index + 1))
    await until(async () => (await reading.committed()) === 5 + meanwhile)
    reader.signal('SIGTERM')
    expect(await reader.ended()).toBe(0)
    expect(reader.log.at(-1)).toMatchObject({
      account: { processed: 24 + meanwhile, lost: 0, repeated: 0 },
    })
  },
)
