import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import type { ProducerConfig } from '../../src/config/config.ts'
import { encodeProduce } from '../../src/kafka/protocol/requests.ts'
import { ProducerBatch } from '../../src/kafka/producer/producer-batch.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { KafkajsTransport } from '../../src/kafka/network/kafkajs-transport.ts'
import { testConfig } from '../support/gateway.ts'
import { alterTopic, createTopic, readTopic, testClient } from '../support/independent-reader.ts'
import { append, LogKeeper } from '../support/producer-fixture.ts'
import { startProducer, until, type RealProducer } from '../support/real-producer.ts'
import { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'

/*
 * What Kafka's own producer does with each error of a produce request, provoked on a real broker: the error codes are
 * the broker's. DUPLICATE_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID and PRODUCER_FENCED are not given to this kind of producer
 * by a Kafka of today; the unit tests of the sender have them.
 */

const broker = inject('kafkaBroker')

async function start(
  options: { partitions?: number; config?: Record<string, string> } & Partial<ProducerConfig> = {},
): Promise<RealProducer & { topic: string }> {
  const { partitions = 1, config = {}, ...overrides } = options
  const topic = `acked-${randomUUID()}`
  await createTopic(broker, topic, { partitions, config })
  return { topic, ...(await startProducer([broker], topic, overrides)) }
}

/** The values of a topic, in the order of its partitions. */
async function values(topic: string): Promise<string[]> {
  return (await readTopic(broker, topic)).map(({ value }) => value.toString())
}

/** Values that were appended in order, a batch each. */
async function appendOneByOne(real: RealProducer, texts: readonly string[]): Promise<void> {
  for (const text of texts) {
    append(real.producer, text)
    await real.settled()
  }
}

test('10 answers lost after the broker appended, 4 partitions: nothing lost, nothing twice, order kept', async () => {
  const real = await start({ partitions: 4, lingerMs: 1, batchSizeBytes: 2_000 })
  const { producer, transport } = real
  const sent: string[] = []
  for (let round = 0; round < 10; round++) {
    transport.faults.push('lose-answer')
    for (let i = 0; i < 400; i++) {
      const text = `${i % 16}:${sent.length}`
      append(producer, text, String(i % 16))
      sent.push(text)
    }
    await until(() => transport.faults.length === 0)
  }
  await real.settled()
  const stored = await readTopic(broker, real.topic)
  expect(stored.map(({ value }) => value.toString()).toSorted()).toEqual(sent.toSorted())
  for (let key = 0; key < 16; key++) {
    const ofKey = stored.filter((record) => record.key === String(key))
    expect(ofKey.map(({ value }) => value.toString())).toEqual(
      sent.filter((text) => text.startsWith(`${key}:`)),
    )
  }
  expect(producer.stats).toMatchObject({ acked: 4_000, suspectedLost: 0, recordErrorTotal: 0 })
})

test('after a lost answer the same bytes go again', async () => {
  const real = await start()
  await appendOneByOne(real, ['a'])
  real.transport.faults.push('lose-answer', 'lose-answer')
  await appendOneByOne(real, ['b'])
  const [, first, second, third] = real.transport.checksums
  expect([second, third]).toEqual([first, first])
  expect(await values(real.topic)).toEqual(['a', 'b'])
})

test('a batch that comes twice is stored once, and its second answer is as good', async () => {
  const real = await start()
  await appendOneByOne(real, ['a'])
  real.transport.faults.push('repeat')
  const offsets: (bigint | null)[] = []
  append(real.producer, 'b')!.onSettled(({ baseOffset }) => offsets.push(baseOffset))
  await real.settled()
  expect(await values(real.topic)).toEqual(['a', 'b'])
  expect(offsets).toEqual([1n])
})

test('CORRUPT_MESSAGE: the batch goes again as it is', async () => {
  const real = await start()
  await appendOneByOne(real, ['a'])
  real.transport.faults.push('corrupt')
  await appendOneByOne(real, ['b', 'c'])
  expect(await values(real.topic)).toEqual(['a', 'b', 'c'])
  expect(real.transport.identities).toHaveLength(1)
})

test('OUT_OF_ORDER_SEQUENCE_NUMBER: the batch goes again under another identity, once', async () => {
  const real = await start()
  await appendOneByOne(real, ['a'])
  real.transport.faults.push('swallow')
  await appendOneByOne(real, ['swallowed', 'c', 'd'])
  expect(await values(real.topic)).toEqual(['a', 'c', 'd'])
  expect(real.transport.identities).toHaveLength(2)
})

test('INVALID_PRODUCER_EPOCH: who is fenced goes on under another identity', async () => {
  const real = await start()
  await appendOneByOne(real, ['a'])
  const [{ producerId, epoch } = { producerId: -1n, epoch: -1 }] = real.transport.identities
  // Somebody else writes under a later epoch of this producer.
  const usurper = new ProducerBatch(0, 0, Buffer.alloc(512), () => {})
  usurper.append(RecordBytes.of(Buffer.from('usurper'), null, Date.now()), Infinity)
  usurper.close()
  usurper.setProducer(producerId, epoch + 1, 0)
  const { kafka } = testConfig({ brokers: [broker], streams: [] })
  const [host = '', port = ''] = broker.split(':')
  const connection = await new KafkajsTransport(kafka, new LogKeeper()).connect(host, Number(port), 5_000)
  await new Promise((resolve, reject) =>
    connection.call(encodeProduce(real.topic, -1, 5_000, [usurper]), resolve, reject),
  )
  connection.destroy(new Error('done'))
  await appendOneByOne(real, ['b', 'c'])
  expect(await values(real.topic)).toEqual(['a', 'usurper', 'b', 'c'])
  expect(real.transport.identities).toHaveLength(2)
})

test.each(['none', 'lz4'] as const)(
  'MESSAGE_TOO_LARGE: a topic that takes less by now gets the batch in parts (%s)',
  async (compressionType) => {
    const real = await start({ compressionType, lingerMs: 50 })
    await appendOneByOne(real, ['a'])
    await alterTopic(broker, real.topic, { 'max.message.bytes': '600' })
    const sent = Array.from({ length: 40 }, (_, i) => `${i}:${randomUUID()}${randomUUID()}`)
    const batches = new Set(sent.map((text) => append(real.producer, text)))
    expect(batches.size).toBe(1)
    await real.settled()
    expect(await values(real.topic)).toEqual(['a', ...sent])
    expect(real.producer.stats).toMatchObject({ acked: 41, recordErrorTotal: 0 })
    // The parts share the sequence of the whole, which the broker goes by.
    expect(real.transport.identities).toHaveLength(1)
  },
)

test('INVALID_RECORD: only the record that a compacted topic does not take is refused', async () => {
  const real = await start({ lingerMs: 50, config: { 'cleanup.policy': 'compact' } })
  append(real.producer, 'first', 'key')
  await real.settled()
  for (const [text, key] of [
    ['a', 'ka'],
    ['keyless', null],
    ['b', 'kb'],
    ['c', 'kc'],
  ] as const)
    append(real.producer, text, key)
  await real.settled()
  append(real.producer, 'behind', 'kd')
  await real.settled()
  expect(await values(real.topic)).toEqual(['first', 'a', 'b', 'c', 'behind'])
  expect(real.producer.stats.dropped.invalid_record).toBe(1)
})

test('retries and retry.backoff.ms: a batch is given up after as many tries, so far apart', async () => {
  const real = await start({ retries: 3, retryBackoffMs: 150 })
  await appendOneByOne(real, ['a'])
  real.transport.faults.push('corrupt', 'corrupt', 'corrupt', 'corrupt')
  const startMs = performance.now()
  await appendOneByOne(real, ['b'])
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(3 * 150)
  expect(real.transport.checksums).toHaveLength(1 + 4)
  expect(real.producer.stats.dropped.corrupt_message).toBe(1)
  await appendOneByOne(real, ['c'])
  expect(await values(real.topic)).toEqual(['a', 'c'])
})

test('delivery.timeout.ms: a batch that is refused for so long is given up, and what is behind it lands', async () => {
  const real = await start({ deliveryTimeoutMs: 1_500 })
  await appendOneByOne(real, ['a'])
  real.transport.faults.push(...Array.from({ length: 1_000 }, () => 'corrupt' as const))
  await appendOneByOne(real, ['b'])
  expect(real.producer.stats.dropped.expired).toBe(1)
  real.transport.faults.length = 0
  await appendOneByOne(real, ['c'])
  expect(await values(real.topic)).toEqual(['a', 'c'])
})

describe('with a broker of its own', () => {
  let own: LocalKafka
  beforeAll(async () => {
    own = await startKafka({
      properties: {
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'allow.everyone.if.no.acl.found': 'true',
      },
    })
  })
  afterAll(async () => await own.stop())

  test('request.timeout.ms: a broker that does not answer in time loses the connection, and the batch lands once', async () => {
    const topic = `acked-${randomUUID()}`
    await createTopic(own.brokers[0]!, topic, { partitions: 1 })
    const real = await startProducer(own.brokers, topic, { requestTimeoutMs: 500 })
    const { producer } = real
    await appendOneByOne(real, ['a'])
    // Whatever comes: another try, and the tests behind this one, need the broker.
    onTestFinished(async () => await own.nodes[0]!.kill('SIGCONT'))
    const { failures, faults } = real.transport
    // On a busy machine the broker can be late before the stop, too, and the connection is made anew. So it stops when it is written to.
    real.transport.stopBroker = async () => {
      failures.length = 0
      await own.nodes[0]!.kill('SIGSTOP')
    }
    faults.push('stop-broker')
    append(producer, 'b')
    await until(() => faults.length === 0 && failures.length > 0 && !producer.stats.connected)
    expect(failures[0]).toContain('did not answer within 500 ms')
    await own.nodes[0]!.kill('SIGCONT')
    await real.settled()
    const stored = await readTopic(own.brokers[0]!, topic)
    expect(stored.map(({ value }) => value.toString())).toEqual(['a', 'b'])
  })

  test('TOPIC_AUTHORIZATION_FAILED: the batch is held back, and lands once it may be written', async () => {
    const topic = `acked-${randomUUID()}`
    await createTopic(own.brokers[0]!, topic, { partitions: 1 })
    const real = await startProducer(own.brokers, topic, { retries: 2 })
    const { producer } = real
    await appendOneByOne(real, ['a'])
    const deny = {
      resourceType: 2,
      resourceName: topic,
      resourcePatternType: 3,
      principal: 'User:ANONYMOUS',
      host: '*',
      operation: 4,
      permissionType: 2,
    }
    const admin = testClient(own.brokers[0]!).admin()
    await admin.connect()
    await admin.createAcls({ acl: [deny, { ...deny, operation: 2, permissionType: 3 }] })
    let held = 0
    await until(() => {
      append(producer, `held ${held++}`)
      return producer.admission === 'not_authorized'
    })
    const { resourcePatternType: patternTypeFilter, ...filter } = deny
    await admin.deleteAcls({ filters: [{ ...filter, resourcePatternType: patternTypeFilter }] })
    await admin.disconnect()
    await until(() => producer.admission === 'open')
    await appendOneByOne(real, ['b'])
    await real.settled()
    const stored = await readTopic(own.brokers[0]!, topic)
    const expected = ['a', ...Array.from({ length: held }, (_, i) => `held ${i}`), 'b']
    expect(stored.map(({ value }) => value.toString())).toEqual(expected)
    expect(producer.stats.recordErrorTotal).toBe(0)
  })
})
