import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { isLong } from '../support/forms.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { runKafkaTool } from '../support/kafka-tools.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')
const topics = { chute: `clients-${randomUUID()}`, java: `clients-${randomUUID()}` }
const partitions = 12
const keys = [
  'a',
  'ab',
  'abc',
  'abcd',
  'device-1',
  'Gerät-1',
  '設備',
  '🚀',
  ' ',
  '\u{10ffff}',
  'x'.repeat(255),
]
for (let n = 0; n < 200; n++) keys.push(`device-${n * n}-${'é'.repeat(n % 7)}`)

/** What was sent through Chute is read by clients that share no code with it, and they agree on where keys go. */
describe('next to other clients of Kafka', () => {
  let gateway: TestGateway
  const events = keys.map((source, n) => JSON.stringify({ source, n, text: 'é 🚀' }))
  const expected = keys.map((key, n) => `${key}\t${events[n]}`).toSorted()

  beforeAll(async () => {
    for (const topic of Object.values(topics)) await createTopic(broker, topic, { partitions })
    const streams = [{ ...streamConfig(topics.chute, 'at-most-once'), name: 's' }]
    gateway = await startGatewayWith(testConfig({ brokers: [broker], streams }))
    const reply = await fetch(`${gateway.url}/v1/streams/s`, {
      method: 'POST',
      headers: { prefer: 'wait=20' },
      body: events.join('\n'),
    })
    expect(reply.status).toBe(200)
    await reply.arrayBuffer()
  })

  afterAll(async () => await gateway?.stop())

  test.runIf(isLong)("each key is in the partition that Kafka's own Java producer picks", async () => {
    const properties = ['--property', 'parse.key=true', '--property', 'key.separator=\t']
    const args = ['--bootstrap-server', broker, '--topic', topics.java, ...properties]
    const lines = keys.map((key) => `${key}\t1\n`).join('')
    await runKafkaTool(inject('kafkaClasspath'), 'org.apache.kafka.tools.ConsoleProducer', args, lines)
    const partitionsOf = async (topic: string): Promise<Map<string | null, number>> =>
      new Map((await readTopic(broker, topic)).map(({ key, partition }) => [key, partition]))
    const byJava = await partitionsOf(topics.java)
    expect(byJava.size).toBe(keys.length)
    expect(new Set(byJava.values()).size).toBe(partitions)
    expect(await partitionsOf(topics.chute)).toEqual(byJava)
  })

  test.runIf(isLong)("Kafka's own console consumer reads keys and values as they were sent", async () => {
    const counted = ['--from-beginning', '--max-messages', String(keys.length), '--timeout-ms', '30000']
    const properties = ['--property', 'print.key=true']
    const args = ['--bootstrap-server', broker, '--topic', topics.chute, ...counted, ...properties]
    const tool = 'org.apache.kafka.tools.consumer.ConsoleConsumer'
    const output = await runKafkaTool(inject('kafkaClasspath'), tool, args)
    expect(output.trimEnd().split('\n').toSorted()).toEqual(expected)
  })

  test('kcat reads keys and values as they were sent', async ({ skip }) => {
    const kcat = async (...args: readonly string[]): Promise<string> =>
      (await promisify(execFile)('kcat', args)).stdout
    const version = await kcat('-V').catch(() => null)
    if (version === null) return skip('kcat is not installed')
    const output = await kcat('-C', '-b', broker, '-t', topics.chute, '-e', '-q', '-f', '%k\t%s\n')
    expect(output.trimEnd().split('\n').toSorted()).toEqual(expected)
  })
})
