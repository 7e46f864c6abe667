import { randomBytes, randomUUID } from 'node:crypto'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import type { CompressionType, Delivery, KafkaConfig } from '../../src/config/config.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { alterTopic, createTopic, readTopic, testClient } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')

interface Start {
  readonly topic: string
  readonly delivery?: Delivery
  readonly compressionType?: CompressionType
  readonly kafka?: Partial<KafkaConfig>
  readonly awaitReady?: boolean
}

async function start({ topic, kafka = {}, awaitReady = true, ...stream }: Start): Promise<TestGateway> {
  const { delivery = 'at-most-once', compressionType = 'none' } = stream
  const streams = [{ ...streamConfig(topic, delivery, { compressionType }), name: 's' }]
  const config = testConfig({ brokers: [broker], streams, kafka })
  const gateway = await startGatewayWith(config, { awaitReady })
  onTestFinished(async () => void (await gateway.stop()))
  return gateway
}

async function send(
  { url }: TestGateway,
  body: string,
  prefer = '',
): Promise<{ status: number; body: string }> {
  const reply = await fetch(`${url}/v1/streams/s`, { method: 'POST', headers: { prefer }, body })
  return { status: reply.status, body: await reply.text() }
}

async function landed(topic: string): Promise<string[]> {
  return (await readTopic(broker, topic)).map(({ value }) => value.toString())
}

describe('a topic that is missing at start', () => {
  test('is created with the partitions that are asked for, before the gateway is ready', async () => {
    const topic = `created-${randomUUID()}`
    const topics = { create: true, partitions: 5, replicationFactor: 1 }
    await start({ topic, kafka: { topics } })
    const admin = testClient(broker).admin()
    await admin.connect()
    const { topics: found } = await admin.fetchTopicMetadata({ topics: [topic] })
    await admin.disconnect()
    expect(found[0]!.partitions).toHaveLength(5)
  })

  test('is created as the broker is set where nothing is asked for', async () => {
    const topic = `created-${randomUUID()}`
    const gateway = await start({
      topic,
      kafka: { topics: { create: true, partitions: null, replicationFactor: null } },
    })
    expect((await send(gateway, '{"a":1}', 'wait=10')).status).toBe(200)
    expect(await landed(topic)).toEqual(['{"a":1}'])
    // It was missing for a moment, and nobody has to do anything.
    expect(gateway.log.map(({ message }) => message)).not.toContain('topic cannot be written to')
  })

  test('is waited for, and named by /readyz, where creating is off', async () => {
    const topic = `awaited-${randomUUID()}`
    const topics = { create: false, partitions: null, replicationFactor: null }
    const gateway = await start({ topic, kafka: { topics, metadataMaxAgeMs: 200 }, awaitReady: false })
    const warning = await gateway.logged('topic cannot be written to')
    expect(warning.fields).toMatchObject({ topic, status: 'unknown_topic' })
    const ready = await fetch(`${gateway.url}/readyz`)
    expect([ready.status, await ready.text()]).toEqual([
      503,
      expect.stringContaining(`${topic} does not exist`),
    ])
    const refused = await send(gateway, '{"a":1}')
    expect([refused.status, refused.body]).toEqual([503, expect.stringContaining('stream_unavailable')])

    await createTopic(broker, topic)
    await expect
      .poll(async () => (await fetch(`${gateway.url}/readyz`)).status, { timeout: 15_000 })
      .toBe(200)
    expect((await send(gateway, '{"a":2}', 'wait=10')).status).toBe(200)
    expect(await landed(topic)).toEqual(['{"a":2}'])
  })
})

describe('the max.message.bytes of a topic', () => {
  const limit = 4_000

  test.each<[Delivery, CompressionType]>([
    ['at-most-once', 'none'],
    ['at-most-once', 'lz4'],
    ['at-most-once', 'snappy'],
    ['at-most-once', 'gzip'],
    ['at-least-once', 'none'],
  ])(
    'bounds what is accepted (%s, %s), and the largest event that is accepted lands',
    async (delivery, compressionType) => {
      const topic = `limited-${randomUUID()}`
      await createTopic(broker, topic, { partitions: 1, config: { 'max.message.bytes': String(limit) } })
      const gateway = await start({ topic, delivery, compressionType })
      const sized = (bytes: number, source?: string): string => {
        const head = source === undefined ? '{"a":"' : `{"source":"${source}","a":"`
        // Nothing that a codec could make smaller.
        return `${head}${randomBytes(bytes)
          .toString('base64')
          .slice(0, bytes - head.length - 2)}"}`
      }

      const refused = await send(gateway, sized(limit))
      expect([refused.status, refused.body]).toEqual([400, expect.stringContaining('event_too_large')])
      const mostBytes = Number(/ (\d+) is the most/.exec(refused.body)?.[1])
      expect(mostBytes).toBeGreaterThan(limit - 200)
      const key = 'k'.repeat(100)
      expect((await send(gateway, sized(mostBytes + 1))).status).toBe(400)
      expect((await send(gateway, sized(mostBytes - 99, key))).status).toBe(400)

      // Full batches of small events, and a request with one that is too large in the midst of them.
      const largest = [sized(mostBytes), sized(mostBytes - 100, key)]
      const small = Array.from({ length: 300 }, (_, i) => `{"small":${i}}`)
      for (const event of largest) expect((await send(gateway, event)).status).toBe(202)
      expect(await send(gateway, [...small, sized(limit)].join('\n'))).toMatchObject({
        status: 202,
        body: expect.stringMatching(/"accepted":300,"rejected":1.*"code":"event_too_large"/),
      })
      expect((await send(gateway, '{"last":1}', 'wait=10')).status).toBe(200)
      const stored = await landed(topic)
      expect(stored.filter((event) => event !== largest[1])).toEqual([largest[0], ...small, '{"last":1}'])
      // It has a key, and so no order among those that have none.
      expect(stored).toHaveLength(303)
      expect(stored).toContain(largest[1])
    },
  )
})

describe('a compacted topic', () => {
  test.each<[Delivery, string]>([
    ['at-most-once', 'compact'],
    ['at-least-once', 'compact,delete'],
  ])('refuses events without a key, which cost no other record (%s, %s)', async (delivery, policy) => {
    const topic = `compacted-${randomUUID()}`
    await createTopic(broker, topic, { partitions: 1, config: { 'cleanup.policy': policy } })
    const gateway = await start({ topic, delivery })
    const refused = await send(gateway, '{"n":0}')
    expect([refused.status, refused.body]).toEqual([400, expect.stringContaining('source_missing')])
    const good = Array.from({ length: 200 }, (_, n) => `{"source":"s-${n % 7}","n":${n}}`)
    const mixed = good.flatMap((event, n) => (n % 10 === 0 ? [event, `{"n":${n}}`] : [event]))
    expect(await send(gateway, mixed.join('\n'))).toMatchObject({
      status: 202,
      body: expect.stringMatching(/"accepted":200,"rejected":20/),
    })
    expect((await send(gateway, '{"source":"s","last":1}', 'wait=10')).status).toBe(200)
    expect(await landed(topic)).toEqual([...good, '{"source":"s","last":1}'])
    expect(gateway.gateway.stats[0]).toMatchObject({ recordErrorTotal: 0, suspectedLost: 0 })
  })

  test('is noticed where it is compacted while the gateway runs', async () => {
    const topic = `compacted-${randomUUID()}`
    await createTopic(broker, topic, { partitions: 1 })
    const gateway = await start({ topic, delivery: 'at-least-once' })
    expect((await send(gateway, '{"n":1}', 'wait=10')).status).toBe(200)
    await alterTopic(broker, topic, { 'cleanup.policy': 'compact' })
    // Kafka's refusal of a record makes the gateway look.
    expect((await send(gateway, '{"n":2}', 'wait=10')).status).toBe(503)
    await expect.poll(async () => (await send(gateway, '{"n":3}')).status, { timeout: 10_000 }).toBe(400)
  })
})

test('a topic with narrow limits of timestamps takes events whose own timestamps are far off', async () => {
  const topic = `timed-${randomUUID()}`
  const hour = '3600000'
  const config = { 'message.timestamp.before.max.ms': hour, 'message.timestamp.after.max.ms': hour }
  await createTopic(broker, topic, { partitions: 1, config })
  const gateway = await start({ topic })
  const events = ['1970-01-01T00:00:00Z', '2999-01-01T00:00:00Z'].map((timestamp) =>
    JSON.stringify({ name: 'a', value: 1, timestamp }),
  )
  const beforeMs = Date.now()
  for (const event of events) expect((await send(gateway, event)).status).toBe(202)
  expect((await send(gateway, '{"last":1}', 'wait=10')).status).toBe(200)
  const records = await readTopic(broker, topic)
  expect(records.map(({ value }) => value.toString())).toEqual([...events, '{"last":1}'])
  for (const { timestampMs } of records) {
    expect(timestampMs).toBeGreaterThanOrEqual(beforeMs)
    expect(timestampMs).toBeLessThanOrEqual(Date.now())
  }
})
