import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { DurableSetup, untilDrained } from '../support/durable-gateway.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { alterTopic, createTopic, readTopic, type ReadRecord } from '../support/independent-reader.ts'
import { runKafkaTool } from '../support/kafka-tools.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { isLong } from '../support/forms.ts'
import type { ServedGateway } from '../support/served-gateway.ts'

const broker = inject('kafkaBroker')
const partitions = 12

describe("the key is what the stream says, in the partition that Kafka's own producer picks", () => {
  const topics = {
    pointer: `keys-${randomUUID()}`,
    header: `keys-${randomUUID()}`,
    java: `keys-${randomUUID()}`,
  }
  const texts = [
    'a',
    'Gerät-1',
    '設備',
    '🚀',
    'q"uote',
    'x'.repeat(255),
    ...Array.from({ length: 40 }, (_, n) => `user-${n * n}`),
  ]
  // A number is its text, as it is written.
  const numbers = ['0', '-1', '7', '1.50', '1e3', '12345678901234567890']
  let gateway: TestGateway
  let byJava: ReadonlyMap<string | null, number>

  beforeAll(async () => {
    for (const topic of Object.values(topics)) await createTopic(broker, topic, { partitions })
    const chosen = (key: StreamConfig['key'], topic: string, name: string): StreamConfig => ({
      ...streamConfig(topic, 'at-most-once'),
      name,
      key,
    })
    const streams = [
      chosen('/user/id', topics.pointer, 'pointer'),
      chosen('header:x-device', topics.header, 'header'),
    ]
    gateway = await startGatewayWith(testConfig({ brokers: [broker], streams }))
    const args = [
      '--bootstrap-server',
      broker,
      '--topic',
      topics.java,
      '--property',
      'parse.key=true',
      '--property',
      'key.separator=\t',
    ]
    const lines = [...texts, ...numbers].map((key) => `${key}\t1\n`).join('')
    await runKafkaTool(inject('kafkaClasspath'), 'org.apache.kafka.tools.ConsoleProducer', args, lines)
    byJava = new Map((await readTopic(broker, topics.java)).map(({ key, partition }) => [key, partition]))
  })

  afterAll(async () => await gateway?.stop())

  test('a JSON pointer', async () => {
    const plain = [...texts.map((text) => JSON.stringify(text)), ...numbers].map(
      (id) => `{"user":{"id":${id}}}`,
    )
    const escaped = '{"user":{"id":"Ger\\u00e4t-1"},"escaped":true}'
    const keyless = '{"user":{"id":null}}'
    const body = [...plain, escaped, keyless].join('\n')
    const reply = await fetch(`${gateway.url}/v1/streams/pointer`, {
      method: 'POST',
      headers: { prefer: 'wait=20' },
      body,
    })
    expect([reply.status, await reply.text()]).toEqual([
      200,
      expect.stringContaining(`"accepted":${plain.length + 2}`),
    ])
    const records = await readTopic(broker, topics.pointer)
    const expected = [...texts, ...numbers].map((key, nth) => [key, byJava.get(key), plain[nth]])
    expected.push(['Gerät-1', byJava.get('Gerät-1'), escaped])
    const keyed = records
      .filter(({ key }) => key !== null)
      .map(({ key, partition, value }) => [key, partition, value.toString()])
    expect(new Set(keyed)).toEqual(new Set(expected))
    expect(records.filter(({ key }) => key === null).map(({ value }) => value.toString())).toEqual([keyless])
  })

  test('a header of the request', async () => {
    const keys = ['a', 'user-4', 'user-9', 'user-1521']
    for (const device of keys) {
      const headers = { prefer: 'wait=20', 'x-device': device }
      const reply = await fetch(`${gateway.url}/v1/streams/header`, {
        method: 'POST',
        headers,
        body: '{"n":1}\n{"n":2}',
      })
      expect(reply.status).toBe(200)
      await reply.arrayBuffer()
    }
    const records = await readTopic(broker, topics.header)
    expect(new Map(records.map(({ key, partition }) => [key, partition]))).toEqual(
      new Map(keys.map((key) => [key, byJava.get(key)])),
    )
    expect(records).toHaveLength(2 * keys.length)
  })
})

const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
const headers: StreamConfig['headers'] = {
  traceparent: 'header:traceparent',
  tracestate: 'header:tracestate',
  ip: 'client:address/24',
  ua: 'header:user-agent',
  received: 'time',
}

/** Posts events as a client of its own. */
async function post(url: string, agent: string, body: string, wait = 'wait=20'): Promise<number> {
  const sent = {
    prefer: wait,
    'user-agent': agent,
    traceparent,
    tracestate: 'a=1',
    authorization: 'Bearer secret',
    cookie: 'secret',
  }
  const reply = await fetch(url, { method: 'POST', headers: sent, body })
  await reply.arrayBuffer()
  return reply.status
}

/** Headers as text. The audit header becomes its size, and the time is judged and left out. */
function textOf(record: ReadRecord): Record<string, string> {
  const {
    received,
    'chute-audit': audit,
    ...others
  } = record.headers as Readonly<Record<string, Buffer | undefined>>
  // The body of a request is complete a moment before its records are appended.
  expect(record.timestampMs - Number(received?.toString())).toBeGreaterThanOrEqual(0)
  expect(record.timestampMs - Number(received?.toString())).toBeLessThan(5_000)
  const texts = Object.entries(others).map(([name, value]) => [name, value!.toString()])
  return { ...Object.fromEntries(texts), ...(audit !== undefined && { audit: String(audit.length) }) }
}

const written = (ua: string, audit = {}) => ({
  traceparent,
  tracestate: 'a=1',
  ip: '127.0.0.0/24',
  ua,
  ...audit,
})

describe("a stream's headers are read by another client", () => {
  test.each([
    ['at-most-once, from memory', 'none', false],
    ['at-most-once, audited and compressed', 'gzip', true],
  ] as const)('%s', async (_name, compressionType, audit) => {
    const topic = `headers-${randomUUID()}`
    await createTopic(broker, topic, { partitions: 1 })
    const stream = {
      ...streamConfig(topic, 'at-most-once', { compressionType, lingerMs: 20 }),
      name: 's',
      audit,
      headers,
    }
    const gateway = await startGatewayWith(testConfig({ brokers: [broker], streams: [stream] }))
    onTestFinished(async () => void (await gateway.stop()))
    const events = Array.from({ length: 50 }, (_, n) => `{"source":"k","n":${n}}`)
    const statuses = await Promise.all(
      ['one', 'two'].map(
        async (agent) => await post(`${gateway.url}/v1/streams/s`, agent, events.join('\n')),
      ),
    )
    expect(statuses).toEqual([200, 200])
    const records = await readTopic(broker, topic)
    const marked = audit ? { audit: '13' } : {}
    const agents = records.map((record) => String(record.headers['ua']))
    expect(agents.filter((agent) => agent === 'one')).toHaveLength(50)
    expect(records.map(textOf)).toEqual(agents.map((agent) => written(agent, marked)))
    if (audit)
      expect(records.map((record) => Object.keys(record.headers).at(-1))).toEqual(
        records.map(() => 'chute-audit'),
      )
  })

  test.runIf(isLong)('durable, sent from memory and read back from the disk after a kill', async () => {
    const setup = new DurableSetup({
      broker,
      name: `headers-${randomUUID()}`,
      stream: { schema: 'any', audit: true, key: '/id', headers },
    })
    const critical = ({ url }: ServedGateway) => `${url}/v1/streams/critical`
    // Nothing listens there, so the events wait on disk.
    const away = await setup.start({ KAFKA_BROKERS: '127.0.0.1:1' })
    for (const agent of ['one', 'two']) {
      const events = `{"id":1,"by":"${agent}"}\n{"id":2,"by":"${agent}"}`
      expect(await post(critical(away), agent, events, 'return=minimal')).toBe(202)
    }
    away.signal('SIGKILL')
    await away.ended()
    expect(readFileSync(join(setup.dataDir, 'version'), 'utf8')).toContain('format 2')
    const gateway = await setup.start()
    await gateway.ready()
    expect(await post(critical(gateway), 'three', '{"id":1,"by":"three"}')).toBe(200)
    await untilDrained(gateway)
    const records = await readTopic(broker, setup.critical)
    const found = records.map((record) => {
      const { by } = JSON.parse(record.value.toString()) as { by: string }
      return { by, key: record.key, ...textOf(record) }
    })
    const expected = [
      ['one', '1'],
      ['one', '2'],
      ['two', '1'],
      ['two', '2'],
      ['three', '1'],
    ].map(([by, key]) => ({ by, key, ...written(by!, { audit: '13' }) }))
    expect(found).toHaveLength(5)
    expect(found).toEqual(expect.arrayContaining(expected))
  })

  test('a dead letter keeps them, in its topic and in the file', async () => {
    for (const hasTopic of [true, false]) {
      const [topic, letters] = [`headers-${randomUUID()}`, `letters-${randomUUID()}`]
      await createTopic(broker, topic, { partitions: 1 })
      const dataDir = mkdtempSync(join(tmpdir(), 'chute-headers-'))
      onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }))
      const stream = {
        ...streamConfig(topic, 'at-least-once', { lingerMs: 20 }),
        name: 's',
        headers,
        deadLetterTopic: hasTopic ? letters : null,
      }
      const config = { ...testConfig({ brokers: [broker], streams: [stream] }), dataDir }
      const gateway = await startGatewayWith(config)
      onTestFinished(async () => void (await gateway.stop()))
      // The gateway does not know it yet, so that Kafka refuses a record without a key.
      await alterTopic(broker, topic, { 'cleanup.policy': 'compact' })
      expect(await post(`${gateway.url}/v1/streams/s`, 'one', '{"n":1}')).toBe(503)
      if (hasTopic) {
        const [record] = await readTopic(broker, letters)
        expect(textOf(record!)).toMatchObject({
          ...written('one'),
          '__chute.errors.reason': 'invalid_record',
        })
      } else {
        const line = readFileSync(join(dataDir, 'dead-letters', 's.ndjson'), 'utf8')
        expect(JSON.parse(line)).toMatchObject({ value: '{"n":1}', headers: written('one') })
      }
    }
  })
})
