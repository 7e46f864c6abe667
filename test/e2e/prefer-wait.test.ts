import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { startGatewayWith, testConfig, untilReady, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'

/* `Prefer: wait` with a Kafka of its own, which is stopped and killed. */

let kafka: LocalKafka
let gateway: TestGateway
let realtime: string
let critical: string

beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

beforeEach(async () => {
  realtime = `realtime-${randomUUID()}`
  critical = `critical-${randomUUID()}`
  for (const topic of [realtime, critical]) await createTopic(kafka.brokers[0]!, topic, { partitions: 1 })
  const streams = [
    { ...streamConfig(realtime, 'at-most-once'), name: 'realtime' },
    { ...streamConfig(critical, 'at-least-once'), name: 'critical' },
  ]
  gateway = await startGatewayWith(testConfig({ brokers: kafka.brokers, streams }))
})
afterEach(async () => await gateway.stop())

interface Reply {
  readonly status: number
  readonly body: {
    readonly events?: readonly {
      readonly outcome: string
      readonly partition: number
      readonly offset: string
    }[]
    readonly pending?: { readonly reason: string; readonly detail: string }
    readonly mayDuplicate?: boolean
    readonly code?: string
    readonly detail?: string
  }
}

async function send(stream: string, seconds: number, body = '{"name":"a","value":1}'): Promise<Reply> {
  const headers = { prefer: `wait=${seconds}`, 'content-type': 'application/x-ndjson' }
  const reply = await fetch(`${gateway.url}/v1/streams/${stream}`, { method: 'POST', headers, body })
  return { status: reply.status, body: (await reply.json()) as Reply['body'] }
}

test('200 tells where each event is', async () => {
  await send('critical', 30, '{"n":0}')
  const { status, body } = await send('critical', 30, '{"n":1}\n{"n":2}')
  expect(status).toBe(200)
  const stored = await readTopic(kafka.brokers[0]!, critical)
  expect(body.events).toMatchObject(
    stored.slice(1).map(({ partition, offset }) => ({ outcome: 'acked', partition, offset: String(offset) })),
  )
})

test('an at-most-once stream answers when the event is confirmed', async () => {
  const { status, body } = await send('realtime', 30)
  expect([status, body.events?.map(({ outcome }) => outcome)]).toEqual([200, ['confirmed']])
  expect(await readTopic(kafka.brokers[0]!, realtime)).toHaveLength(1)
})

test('a broker that stalls: 202 says what to expect, and the critical event lands once', async () => {
  await send('critical', 30)
  await kafka.nodes[0]!.kill('SIGSTOP')
  const [slow, unconfirmed] = await Promise.all([send('critical', 1), send('realtime', 1)])
  expect([slow.status, unconfirmed.status]).toEqual([202, 202])
  expect(slow.body.pending?.detail).toContain('sent until they are acknowledged')
  expect(unconfirmed.body.pending?.detail).toContain('sent once')
  expect(['kafka_slow', 'kafka_away']).toContain(slow.body.pending?.reason)
  await kafka.nodes[0]!.kill('SIGCONT')
  await send('critical', 30)
  expect(await readTopic(kafka.brokers[0]!, critical)).toHaveLength(3)
})

test('a broker that dies: suspected_lost is 503 and says that a retry may duplicate; critical waits and lands', async () => {
  await Promise.all([send('critical', 30), send('realtime', 30)])
  const [node] = kafka.nodes
  await node!.kill('SIGSTOP')
  const lost = send('realtime', 30)
  const kept = send('critical', 30)
  // Both are written: nothing was in flight on their connections.
  await written('realtime')
  await written('critical')
  await node!.kill('SIGKILL')
  const { status, body } = await lost
  expect([status, body.code, body.mayDuplicate]).toEqual([503, 'delivery_failed', true])
  expect(body.detail).toContain('may duplicate')
  expect(body.events?.map(({ outcome }) => outcome)).toEqual(['suspected_lost'])
  node!.start()
  await node!.waitUntilReady()
  const answer = await kept
  // Within 30 s it lands and says so; on a machine that is slower than that, it says that it goes on.
  expect([200, 202]).toContain(answer.status)
  await untilReady(gateway.url)
  await settledCritical()
  expect(await readTopic(kafka.brokers[0]!, critical)).toHaveLength(2)
})

async function written(stream: string): Promise<void> {
  while (gateway.gateway.stats.find((each) => each.stream === stream)!.inFlight === 0)
    await new Promise((resolve) => setTimeout(resolve, 5))
}

async function settledCritical(): Promise<void> {
  for (;;) {
    const { buffered, inFlight } = gateway.gateway.stats.find(({ stream }) => stream === 'critical')!
    if (buffered + inFlight === 0) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
