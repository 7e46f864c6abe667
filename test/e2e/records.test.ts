import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { runKafkaTool } from '../support/kafka-tools.ts'
import { streamConfig } from '../support/producer-fixture.ts'

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
