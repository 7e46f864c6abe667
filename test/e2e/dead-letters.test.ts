import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { totalsOf } from '../../src/kafka/audit/audit-report.ts'
import { compareAccount } from '../../src/kafka/audit/compare-account.ts'
import { TopicAudit } from '../../src/kafka/audit/topic-audit.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { alterTopic, createTopic, readTopic, testClient } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')

/**
 * A gateway whose stream `s` writes to a topic that is compacted while the gateway runs: it takes no record without a key, and
 * the gateway does not know that yet.
 */
async function start(options: {
  hasTopic: boolean
}): Promise<{ gateway: TestGateway; topic: string; letters: string; dataDir: string }> {
  const topic = `compacted-${randomUUID()}`
  const letters = `letters-${randomUUID()}`
  await createTopic(broker, topic, { partitions: 1 })
  if (options.hasTopic) await createTopic(broker, letters, { partitions: 1 })
  const dataDir = mkdtempSync(join(tmpdir(), 'chute-letters-'))
  const stream = {
    ...streamConfig(topic, 'at-least-once', { lingerMs: 20 }),
    name: 's',
    audit: true,
    deadLetterTopic: options.hasTopic ? letters : null,
  }
  const config = { ...testConfig({ brokers: [broker], streams: [stream] }), dataDir }
  const gateway = await startGatewayWith(config)
  onTestFinished(async () => {
    await gateway.stop()
    rmSync(dataDir, { recursive: true })
  })
  await alterTopic(broker, topic, { 'cleanup.policy': 'compact' })
  return { gateway, topic, letters, dataDir }
}

const events = ['{"source":"a","n":1}', '{"n":2}', '{"source":"b","n":3}']

async function send({ url }: TestGateway): Promise<Response> {
  const headers = { 'content-type': 'application/x-ndjson', prefer: 'wait=30' }
  return await fetch(`${url}/v1/streams/s`, { method: 'POST', headers, body: events.join('\n') })
}

test('what Kafka refuses for good is in the dead-letter topic, with the reason, and the rest where it belongs', async () => {
  const { gateway, topic, letters } = await start({ hasTopic: true })
  const reply = await send(gateway)
  expect(reply.status).toBe(503)
  const problem = (await reply.json()) as {
    code: string
    detail: string
    events: { outcome: string; reason: string | null }[]
  }
  expect(problem.code).toBe('delivery_failed')
  expect(problem.detail).toContain(
    "1 of 3 events were refused by Kafka for good; they are in the stream's dead letters",
  )
  expect(problem.events.map(({ outcome, reason }) => [outcome, reason])).toEqual([
    ['acked', null],
    ['dead_lettered', 'invalid_record'],
    ['acked', null],
  ])
  const records = await readTopic(broker, topic)
  expect(records.map(({ value }) => value.toString())).toEqual([events[0], events[2]])
  // It had a number, which whoever reads the topic misses, and the account explains it.
  const audit = new TopicAudit(topic, new Map())
  for (const record of records) audit.take(record)
  expect(totalsOf(audit.findings)).toMatchObject({ records: 2, duplicated: 0 })
  expect(compareAccount(gateway.gateway.stats[0]!, audit)).toMatchObject({
    verdict: 'agrees',
    stamped: 3,
    missing: 1,
    dropped: 1,
  })
  expect(await headersOf(letters)).toMatchObject([
    {
      value: events[1],
      '__chute.errors.topic': topic,
      '__chute.errors.stream': 's',
      '__chute.errors.kafka.error': 'INVALID_RECORD',
      '__chute.errors.may.be.stored': 'false',
    },
  ])
  const metrics = await (await fetch(`${gateway.url}/metrics`)).text()
  expect(metrics).toMatch(/chute_records_total\{[^}]*outcome="dead_lettered"[^}]*\} 1\n/)
})

test('without such a topic it is in the file of the data folder', async () => {
  const { gateway, dataDir, topic } = await start({ hasTopic: false })
  expect((await send(gateway)).status).toBe(503)
  const lines = readFileSync(join(dataDir, 'dead-letters', 's.ndjson'), 'utf8')
    .trimEnd()
    .split('\n')
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { stream: 's', topic, value: events[1], kafkaError: 'INVALID_RECORD' },
  ])
})

/** The records of a topic with their headers as text, by kafkajs's consumer. */
async function headersOf(topic: string): Promise<Record<string, string | undefined>[]> {
  const consumer = testClient(broker).consumer({ groupId: randomUUID() })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    const record = await new Promise<Record<string, string | undefined>>((resolve, reject) => {
      const eachMessage = async ({ message }: { message: { value: Buffer | null; headers?: object } }) => {
        const headers = Object.entries(message.headers ?? {}).map(([key, value]) => [key, String(value)])
        resolve({ value: message.value?.toString(), ...(Object.fromEntries(headers) as object) })
      }
      consumer.run({ eachMessage }).catch(reject)
    })
    return [record]
  } finally {
    await consumer.disconnect()
  }
}
