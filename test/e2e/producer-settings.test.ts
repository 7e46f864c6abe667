import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { loadStream } from '../support/config-fixture.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { dumpTopics } from '../support/kafka-tools.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'
import { WireTap } from '../support/wire-tap.ts'

const broker = inject('kafkaBroker')
/** How long a busy machine may take to do what an idle one does at once. */
const settling = { timeout: 20_000 }
/** Long enough for nothing to leave because of it. */
const patient = 'linger.ms: 60000'
let topic: string
let tap: WireTap
let gateway: TestGateway

beforeEach(async () => {
  topic = `setting-${randomUUID()}`
  tap = await WireTap.start(broker)
})

afterEach(async () => {
  tap.release()
  await gateway.stop()
  tap.close()
})

/** A gateway with one stream, as a configuration file has it, that reaches the broker through the tap. */
async function start(
  delivery: string,
  producer: string,
  partitions = 1,
  connection?: 'own' | 'shared',
): Promise<void> {
  await createTopic(broker, topic, { partitions })
  const stream = loadStream(
    `{ topic: ${topic}, delivery: ${delivery}, schema: any, ${connection === undefined ? '' : `connection: ${connection}, `}producer: { ${producer} } }`,
  )
  gateway = await startGatewayWith(
    testConfig({
      brokers: [tap.address],
      streams: [stream],
      kafka: { topics: { create: false, partitions: null, replicationFactor: null } },
    }),
  )
}

async function send(body: string, prefer = ''): Promise<Response> {
  const reply = await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', headers: { prefer }, body })
  await reply.clone().arrayBuffer()
  return reply
}

async function sendAndWait(body: string): Promise<number> {
  return (await send(body, 'wait=20')).status
}

async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
  const text = await (await fetch(`${gateway.url}/metrics`)).text()
  return valueOf(parseExposition(text, 'prometheus'), name, { topic, ...labels })
}

async function pending(state: 'buffered' | 'in_flight'): Promise<number> {
  return await metric('chute_records_pending', { state })
}

async function landed(): Promise<string[]> {
  return (await readTopic(broker, topic)).map(({ value }) => value.toString())
}

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `{"n":${i}}`)
}

describe('acks', () => {
  test.each([
    ['at-most-once', 'acks: 0', 0],
    ['at-most-once', 'acks: 1', 1],
    ['at-most-once', 'acks: all', -1],
    ['at-least-once', 'acks: all', -1],
    ['at-least-once', 'acks: 1', 1],
  ])('is on the wire of a stream that is %s with %s', async (delivery, producer, acks) => {
    await start(delivery, `${producer}, linger.ms: 0`)
    const events = numbered(10)
    for (const event of events) expect(await sendAndWait(event)).toBe(200)
    // With acks 0, the first write of a connection asks for an answer: its error would have a name.
    const steady = tap.produces.slice(1)
    expect(steady).toHaveLength(9)
    expect(new Set(steady.map((request) => request.acks))).toEqual(new Set([acks]))
    expect(await landed()).toEqual(events)
  })
})

describe('linger.ms', () => {
  test('of 0 makes a batch of each event that comes alone', async () => {
    await start('at-most-once', 'linger.ms: 0')
    for (const event of numbered(10)) expect(await sendAndWait(event)).toBe(200)
    expect(tap.produces).toHaveLength(10)
  })

  test('is waited for, and no longer', async () => {
    await start('at-most-once', 'linger.ms: 400')
    const beforeMs = performance.now()
    expect((await send('{"n":0}')).status).toBe(202)
    await expect.poll(() => tap.produces.length, settling).toBe(1)
    // A timer of Node may be a millisecond early.
    expect(tap.produces[0]!.atMs - beforeMs).toBeGreaterThanOrEqual(399)
  })

  test('is not waited for by an event whose sender waits for its outcome', async () => {
    await start('at-most-once', patient)
    expect(await sendAndWait('{"n":0}')).toBe(200)
    expect(tap.produces).toHaveLength(1)
  })

  test('lets single events gather in one batch, which goes when the gateway stops', async () => {
    await start('at-least-once', patient)
    const events = numbered(20)
    for (const event of events) expect((await send(event)).status).toBe(202)
    expect(await pending('buffered')).toBe(20)
    expect(tap.produces).toEqual([])
    expect(await gateway.stop()).toBe(true)
    expect(tap.produces.map(({ batches }) => batches.length)).toEqual([1])
    expect(await landed()).toEqual(events)
  })
})

test('batch.size closes a batch before the record that would pass it, with no wait for linger.ms', async () => {
  await start('at-most-once', `batch.size: 2000, ${patient}`)
  const events = Array.from({ length: 100 }, (_, i) => JSON.stringify({ n: i, text: 'x'.repeat(80) }))
  expect((await send(events.join('\n'))).status).toBe(202)
  await expect
    .poll(async () => (await pending('buffered')) + (await pending('in_flight')), settling)
    .toBeLessThan(20)
  await gateway.stop()
  const batches = await dumpTopics(inject('kafkaClasspath'), inject('kafkaDataDir'), topic)
  const sizes = batches.map(({ sizeBytes }) => sizeBytes)
  const recordBytes = Math.max(...batches.map(({ sizeBytes, recordCount }) => sizeBytes / recordCount))
  expect(Math.max(...sizes)).toBeLessThanOrEqual(2_000)
  for (const size of sizes.slice(0, -1)) expect(size + recordBytes).toBeGreaterThan(2_000)
  expect(await landed()).toEqual(events)
})

test('buffer.memory bounds what is accepted and not confirmed, and is free again afterwards', async () => {
  const totalBytes = 20_000
  await start('at-most-once', `buffer.memory: ${totalBytes}, batch.size: 1000, linger.ms: 0`)
  expect(await sendAndWait('{"first":1}')).toBe(200)
  tap.hold()
  const accepted: string[] = []
  for (let n = 0; ; n++) {
    const event = JSON.stringify({ n, text: 'x'.repeat(500) })
    const reply = await send(event)
    if (reply.status === 202) {
      accepted.push(event)
      continue
    }
    expect(reply.status).toBe(503)
    expect(reply.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
    expect(await reply.json()).toMatchObject({ code: 'buffer_full' })
    break
  }
  const availableBytes = await metric('kafka_producer_buffer_available_bytes')
  expect(availableBytes).toBeGreaterThanOrEqual(0)
  expect(availableBytes).toBeLessThan(700)
  expect(accepted.join('').length).toBeLessThan(totalBytes)
  expect(accepted.length).toBeGreaterThan(20)

  tap.release()
  await expect
    .poll(async () => await metric('kafka_producer_buffer_available_bytes'), settling)
    .toBe(totalBytes)
  expect(await landed()).toEqual(['{"first":1}', ...accepted])
})

describe('max.in.flight.requests.per.connection', () => {
  // With the interval at its default, writing would pause for the overdue barrier before the third request.
  test.each(['acks: 0, confirm.interval.ms: 60000', 'acks: 1'])(
    'bounds the requests that are not confirmed (%s)',
    async (acks) => {
      await start(
        'at-most-once',
        `${acks}, max.in.flight.requests.per.connection: 3, batch.size: 200, linger.ms: 0`,
      )
      expect(await sendAndWait('{"first":1}')).toBe(200)
      tap.hold()
      // Each fills a batch of its own.
      const events = Array.from({ length: 10 }, (_, n) => JSON.stringify({ n, text: 'x'.repeat(120) }))
      for (const event of events) expect((await send(event)).status).toBe(202)
      await expect.poll(async () => await pending('in_flight'), settling).toBe(3)
      expect(await pending('buffered')).toBe(7)
      expect(tap.produces).toHaveLength(1 + 3)
      tap.release()
      // Asks for the last confirmation at once.
      expect(await gateway.stop()).toBe(true)
      expect(await landed()).toEqual(['{"first":1}', ...events])
    },
  )

  test.each([
    ['own', 2],
    // What comes before the answer goes with the next request.
    ['shared', 1],
  ] as const)(
    'is one batch of each partition on a stream that is at-least-once (%s connection)',
    async (connection, inFlight) => {
      await start('at-least-once', 'batch.size: 200, linger.ms: 0', 2, connection)
      const event = (source: string, n: number): string =>
        JSON.stringify({ source, n, text: 'x'.repeat(120) })
      const keys = Array.from({ length: 8 }, (_, i) => `key-${i}`)
      for (const key of keys) expect(await sendAndWait(event(key, 0))).toBe(200)
      tap.hold()
      for (const key of keys) expect((await send(event(key, 1))).status).toBe(202)
      await expect.poll(async () => await pending('in_flight'), settling).toBe(inFlight)
      expect(await pending('buffered')).toBe(keys.length - inFlight)
      tap.release()
      await expect
        .poll(async () => (await pending('buffered')) + (await pending('in_flight')), settling)
        .toBe(0)
      expect(await landed()).toHaveLength(2 * keys.length)
    },
  )
})

describe('retries', () => {
  /** NOT_LEADER_OR_FOLLOWER: it may pass. */
  const mayPass = 6
  const wireBytes = (): string[] => tap.produces.map(({ batches }) => batches[0]!.bytes.toString('hex'))

  test('sends the same bytes again, retry.backoff.ms apart, until they are stored', async () => {
    await start('at-least-once', 'retries: 3, retry.backoff.ms: 300, linger.ms: 0')
    tap.refuse(mayPass, mayPass, mayPass)
    expect(await sendAndWait('{"n":1}')).toBe(200)
    expect(tap.produces).toHaveLength(4)
    expect(new Set(wireBytes()).size).toBe(1)
    const gaps = tap.produces.slice(1).map(({ atMs }, i) => atMs - tap.produces[i]!.atMs)
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(298)
    expect(await landed()).toEqual(['{"n":1}'])
  })

  test('gives up when they are used up, and the next event lands', async () => {
    await start('at-least-once', 'retries: 1, retry.backoff.ms: 10, linger.ms: 0')
    tap.refuse(mayPass, mayPass)
    const reply = await send('{"n":1}', 'wait=20')
    expect(reply.status).toBe(503)
    expect(await reply.json()).toMatchObject({ code: 'delivery_failed' })
    expect(tap.produces).toHaveLength(2)
    expect(await sendAndWait('{"n":2}')).toBe(200)
    expect(await landed()).toEqual(['{"n":2}'])
  })

  test.each(['acks: 0', 'acks: 1', 'acks: all'])(
    'never happen on a stream that is at-most-once (%s)',
    async (acks) => {
      await start('at-most-once', `${acks}, linger.ms: 0`)
      tap.refuse(mayPass)
      expect(await sendAndWait('{"n":1}')).toBe(503)
      expect(await sendAndWait('{"n":2}')).toBe(200)
      expect(new Set(wireBytes()).size).toBe(wireBytes().length)
      expect(await landed()).toEqual(['{"n":2}'])
    },
  )
})
