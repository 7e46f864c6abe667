import { randomUUID } from 'node:crypto'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { freePorts } from '../support/free-ports.ts'
import { startGatewayWith, testConfig, untilReady, type TestGateway } from '../support/gateway.ts'
import { readTopic, testClient } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'

async function start(brokers: readonly string[], topics: readonly string[]): Promise<TestGateway> {
  const [created, missing] = topics
  const streams = [streamConfig(created!, 'at-most-once')]
  if (missing !== undefined) streams.push(streamConfig(missing, 'at-least-once'))
  const config = testConfig({
    brokers,
    streams,
    kafka: { topics: { create: missing === undefined, partitions: 1, replicationFactor: 1 } },
  })
  const gateway = await startGatewayWith(config, { awaitReady: false })
  onTestFinished(async () => void (await gateway.stop()))
  return gateway
}

async function send({ url }: TestGateway, stream: string): Promise<Response> {
  const headers = { prefer: 'wait=10' }
  return await fetch(`${url}/v1/streams/${stream}`, { method: 'POST', headers, body: '{"a":1}' })
}

test('a gateway without its broker lives and refuses, and takes events by itself once the broker is there', async () => {
  const [port] = await freePorts(1)
  const topic = `late-${randomUUID()}`
  const gateway = await start([`127.0.0.1:${port}`], [topic])
  expect((await fetch(`${gateway.url}/livez`)).status).toBe(200)
  const { fields } = await gateway.logged('Kafka was not reached; trying again')
  expect(fields['cause']).toMatch(new RegExp(`127\\.0\\.0\\.1:${port}.*ECONNREFUSED`))
  const ready = await fetch(`${gateway.url}/readyz`)
  expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining('ECONNREFUSED')])
  const refused = await send(gateway, topic)
  expect(refused.status).toBe(503)
  expect(refused.headers.get('retry-after')).toMatch(/^\d+$/)
  expect(await refused.json()).toMatchObject({ code: 'stream_unavailable' })

  const kafka = await startKafka({ port: port!, properties: { 'auto.create.topics.enable': 'true' } })
  onTestFinished(async () => await kafka.stop())
  await gateway.logged('Kafka was reached')
  await untilReady(gateway.url)
  expect((await send(gateway, topic)).status).toBe(200)
  const landed = await readTopic(kafka.brokers[0]!, topic)
  expect(landed.map(({ value }) => value.toString())).toEqual(['{"a":1}'])

  // The same broker would create any topic that somebody asks for or writes to.
  const missing = `missing-${randomUUID()}`
  const other = await start(kafka.brokers, [topic, missing])
  await other.logged('topic cannot be written to')
  // The leader of the other topic may be reached a moment later.
  await expect.poll(async () => (await send(other, topic)).status, { timeout: 20_000 }).toBe(200)
  expect((await send(other, missing)).status).toBe(503)
  const admin = testClient(kafka.brokers[0]!).admin()
  await admin.connect()
  expect(await admin.listTopics()).not.toContain(missing)
  await admin.disconnect()
})

test('a bootstrap host that does not exist is named, and others are tried', async () => {
  const wrong = 'kafka.invalid:9092'
  const topic = `late-${randomUUID()}`
  const lost = await start([wrong], [topic])
  const { fields } = await lost.logged('Kafka was not reached; trying again')
  expect(fields['cause']).toContain(wrong)
  expect((await fetch(`${lost.url}/livez`)).status).toBe(200)
  expect((await fetch(`${lost.url}/readyz`)).status).toBe(503)

  const found = await start([wrong, inject('kafkaBroker')], [topic])
  await untilReady(found.url)
  expect((await send(found, topic)).status).toBe(200)
})
