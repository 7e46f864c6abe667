import { randomUUID } from 'node:crypto'
import type { Admin } from 'kafkajs'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startReader, type ReaderProcess } from '../support/consume-process.ts'
import { createTopic, testClient } from '../support/independent-reader.ts'
import { idsOf, until, writeNumbered } from '../support/numbered-records.ts'

/** A topic that has ten records before its group begins, in each of its partitions five. */
class Reading {
  readonly broker = inject('kafkaBroker')
  readonly topic = `new-partitions-${randomUUID()}`
  readonly group = `group-${randomUUID()}`

  async create(): Promise<void> {
    await createTopic(this.broker, this.topic, { partitions: 2 })
    await writeNumbered(this.broker, this.topic, { count: 10, partitions: 2 })
  }

  /** Starts a member, at least once, from the end. */
  start(): ReaderProcess {
    const names = [`--topic=${this.topic}`, `--group=${this.group}`, '--delivery=at-least-once']
    const settings = ['--set=session.timeout.ms=3000', '--set=heartbeat.interval.ms=500']
    const reader = startReader(['consume', ...names, ...settings], { KAFKA_BROKERS: this.broker })
    onTestFinished(() => reader.signal('SIGKILL'))
    return reader
  }

  async hasBegun(...readers: ReaderProcess[]): Promise<void> {
    const { topic, group: groupId } = this
    for (const reader of readers) await reader.logged('joined the group')
    // No partition has a committed offset at first.
    await this.asAdmin(async (admin) => {
      await until(async () => {
        const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
        return found!.partitions.length > 0 && found!.partitions.every(({ offset }) => offset === '5')
      })
    })
  }

  /** The group has begun, and has no member any more. */
  async beginAndEnd(): Promise<void> {
    await this.create()
    const first = this.start()
    await this.hasBegun(first)
    first.signal('SIGKILL')
    await first.ended()
  }

  async addPartition(): Promise<void> {
    const { topic } = this
    await this.asAdmin(async (admin) => {
      await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    })
  }

  /** Writes five records to the partition 2. */
  async writeToAdded(): Promise<void> {
    const producer = testClient(this.broker).producer()
    await producer.connect()
    const messages = [10, 11, 12, 13, 14].map((id) => ({ partition: 2, value: JSON.stringify({ id }) }))
    await producer.send({ topic: this.topic, messages })
    await producer.disconnect()
  }

  async asAdmin(act: (admin: Admin) => Promise<void>): Promise<void> {
    const admin = testClient(this.broker).admin()
    await admin.connect()
    try {
      await act(admin)
    } finally {
      await admin.disconnect()
    }
  }
}

const inOrder = (ids: readonly number[]): number[] => ids.toSorted((one, other) => one - other)
const foundNew = 'partitions that are new to the group are read from their beginning'
const added = [10, 11, 12, 13, 14]

test('at least once from the end, a partition that is added while the group runs is read from its beginning', async () => {
  const reading = new Reading()
  await reading.create()
  const reader = reading.start()
  await reading.hasBegun(reader)
  await reading.addPartition()
  await reading.writeToAdded()
  expect(await reader.logged(foundNew)).toMatchObject({ level: 'info', partitions: [2] })
  await reader.wrote(5)
  reader.signal('SIGTERM')
  expect(await reader.ended()).toBe(0)
  expect(idsOf(reader.output)).toEqual(added)
})

test('at least once from the end, so is one that was added while the group had no member', async () => {
  const reading = new Reading()
  await reading.beginAndEnd()
  await reading.addPartition()
  await reading.writeToAdded()
  const second = reading.start()
  await second.wrote(5)
  expect(idsOf(second.output)).toEqual(added)
})

test('at least once from the end, what comes while the group is down is read, though it had read nothing', async () => {
  const reading = new Reading()
  await reading.beginAndEnd()
  await writeNumbered(reading.broker, reading.topic, { count: 4, from: 10, partitions: 2 })
  const second = reading.start()
  await second.wrote(4)
  expect(inOrder(idsOf(second.output))).toEqual([10, 11, 12, 13])
})

test('at least once from the end, members that begin together read nothing that was there before', async () => {
  const reading = new Reading()
  await reading.create()
  const readers = [reading.start(), reading.start()]
  await reading.hasBegun(...readers)
  await writeNumbered(reading.broker, reading.topic, { count: 4, from: 10, partitions: 2 })
  const ids = (): number[] => readers.flatMap(({ output }) => idsOf(output))
  await until(() => ids().length >= 4)
  expect(inOrder(ids())).toEqual([10, 11, 12, 13])
})

test('at least once from the end, a topic that is deleted and made anew is read from its beginning', async () => {
  const reading = new Reading()
  await reading.create()
  const reader = reading.start()
  await reading.hasBegun(reader)
  await reading.asAdmin(async (admin) => await admin.deleteTopics({ topics: [reading.topic] }))
  await reader.logged('the group was left on an error')
  await createTopic(reading.broker, reading.topic, { partitions: 1 })
  await writeNumbered(reading.broker, reading.topic, { count: 3 })
  await reader.wrote(3)
  expect(idsOf(reader.output)).toEqual([0, 1, 2])
})
