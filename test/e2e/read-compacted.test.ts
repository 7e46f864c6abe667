import { randomUUID } from 'node:crypto'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startConsumer, startReader } from '../support/consume-process.ts'
import { createTopic, readTopic, testClient } from '../support/independent-reader.ts'
import { until } from '../support/numbered-records.ts'

/** A topic whose first batch the log cleaner has left without a record. Each batch behind it has one large record. */
async function compactedTopic(broker: string): Promise<string> {
  const topic = `compacted-${randomUUID()}`
  const config = {
    'cleanup.policy': 'compact',
    'segment.ms': '100',
    'min.cleanable.dirty.ratio': '0.001',
    'min.compaction.lag.ms': '0',
    'max.compaction.lag.ms': '100',
  }
  await createTopic(broker, topic, { partitions: 1, config })
  const write = async (key: string, value: string, idempotent = false): Promise<void> => {
    const producer = testClient(broker).producer({ idempotent, maxInFlightRequests: 1 })
    await producer.connect()
    await producer.send({ topic, acks: -1, messages: [{ key, value, partition: 0 }] })
    await producer.disconnect()
  }
  // The cleaner keeps a batch that is the last one of an idempotent producer.
  await write('a', 'old', true)
  await write('a', 'n'.repeat(5_000))
  await until(async () => {
    // The cleaner leaves the segment alone to which is written.
    await write('b', 'n'.repeat(5_000))
    return (await readTopic(broker, topic))[0]!.offset === 1
  })
  return topic
}

test('a batch that the log cleaner has left without a record does not stop a reader that fetches it alone', async () => {
  const broker = inject('kafkaBroker')
  const topic = await compactedTopic(broker)
  const target = { broker, topic, group: `group-${randomUUID()}` }
  const reader = startConsumer(target, ['--set=max.partition.fetch.bytes=1000'])
  onTestFinished(() => reader.signal('SIGKILL'))
  await reader.wrote(2)
  expect(JSON.parse(reader.output[0]!)).toMatchObject({ offset: '1', key: 'a' })
  const audit = startReader(['audit', '--topic', topic], { KAFKA_BROKERS: broker })
  onTestFinished(() => audit.signal('SIGKILL'))
  expect(await audit.ended()).toBe(0)
})
