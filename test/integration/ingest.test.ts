import type { LightMyRequestResponse } from 'fastify'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

const event = '{"name":"room.temp","value":21.5,"source":"device-1","big":12345678901234567890}'
const url = '/v1/streams/metrics-realtime'
let edge: Edge

function build(...parameters: Parameters<typeof buildEdge>): Edge {
  edge = buildEdge(...parameters)
  return edge
}

async function post(
  payload: string | Buffer,
  headers: Record<string, string> = { 'content-type': 'application/json' },
): Promise<LightMyRequestResponse> {
  return await edge.app.inject({ method: 'POST', url, payload, headers })
}

/** Waits until a request has come as far as waiting for room. */
async function waiter(producer: FakeProducer): Promise<(granted: boolean) => void> {
  return await vi.waitUntil(() => producer.waiters[0])
}

afterEach(async () => {
  expect(edge.faults).toEqual([])
  expect(edge.producer.openBytes, 'room that was reserved and neither used nor given back').toBe(0)
  await edge.app.close()
})

describe('a request', () => {
  test('with one event is accepted, and its bytes are the record', async () => {
    const { producer, telemetry } = build()
    const beforeMs = Date.now()
    const response = await post(`  ${event}\n`)
    expect(response.statusCode).toBe(202)
    expect(response.json()).toEqual({ accepted: 1, rejected: 0, errors: [] })
    expect(response.headers).toMatchObject({
      'content-type': 'application/json',
      'chute-delivery': 'at-most-once; no-dedupe',
    })
    expect(producer.records).toEqual([
      { key: 'device-1', value: event, timestampMs: expect.any(Number) as number },
    ])
    expect(producer.records[0]?.timestampMs).toBeGreaterThanOrEqual(beforeMs)
    expect(telemetry.acceptedBy).toEqual({ http: 1, beacon: 0, pixel: 0 })
    expect(telemetry.replies).toEqual([{ route: 'POST /v1/streams/:stream', statusCode: 202 }])
  })

  test('cannot set the time of a record', async () => {
    const { producer } = build()
    await post('{"name":"a","value":1,"timestamp":"2099-01-01T00:00:00Z"}')
    expect(producer.records[0]?.timestampMs).toBeLessThanOrEqual(Date.now())
  })

  test.each([
    ['an array', `[${event}, {"name":"b","value":2}]`, 'application/json'],
    ['NDJSON', `${event}\r\n\r\n{"name":"b","value":2}\n`, 'application/x-ndjson'],
    [
      'NDJSON that curl --data-binary sends',
      `${event}\n{"name":"b","value":2}`,
      'application/x-www-form-urlencoded',
    ],
    ['NDJSON without a type', `${event}\n{"name":"b","value":2}`, ''],
  ])('with %s is accepted event by event', async (_name, payload, type) => {
    const { producer } = build()
    const response = await post(payload, type === '' ? {} : { 'content-type': type })
    expect(response.json()).toEqual({ accepted: 2, rejected: 0, errors: [] })
    expect(producer.values).toEqual([event, '{"name":"b","value":2}'])
    expect(producer.records.map(({ key }) => key)).toEqual(['device-1', null])
  })

  test('of mixed events is accepted in part, and says what is wrong with the rest', async () => {
    const { producer, telemetry } = build()
    const response = await post(`[${event},{"name":"a","value":"x"},7,${event}]`)
    expect(response.statusCode).toBe(202)
    expect(response.json()).toEqual({
      accepted: 2,
      rejected: 2,
      errors: [
        {
          index: 1,
          code: 'invalid_event',
          detail: 'must be a finite number, got a string',
          pointer: '/value',
        },
        { index: 2, code: 'invalid_event', detail: 'must be an object, got a number', pointer: '' },
      ],
    })
    expect(producer.values).toEqual([event, event])
    expect(telemetry).toMatchObject({ accepted: 2, rejected: 2, rejectedBy: { invalid_event: 2 } })
  })

  test('of which no event is valid is refused', async () => {
    const { producer, telemetry } = build()
    const response = await post('{}\n{', { 'content-type': 'application/x-ndjson' })
    expect(response.statusCode).toBe(400)
    expect(response.headers['content-type']).toBe('application/problem+json')
    expect(response.json()).toMatchObject({ code: 'all_events_invalid', accepted: 0, rejected: 2 })
    expect(response.json<{ errors: unknown[] }>().errors).toHaveLength(2)
    expect(producer.records).toEqual([])
    expect(telemetry).toMatchObject({
      accepted: 0,
      rejected: 2,
      rejectedBy: { invalid_event: 1, invalid_json: 1 },
    })
  })

  test('with an event that the topic does not take loses that event alone', async () => {
    const { producer } = build()
    producer.maxRecordBytes = Buffer.byteLength(event) + 8
    const response = await post(`[${event},{"name":"${'x'.repeat(100)}","value":1}]`)
    expect(response.json()).toMatchObject({ accepted: 1, errors: [{ index: 1, code: 'event_too_large' }] })
  })

  test('with an event that has no key, where the topic is compacted, loses that event alone', async () => {
    const { producer, telemetry } = build()
    producer.needsKey = true
    const mixed = await post(`[{"name":"a","value":1},{"name":"a","value":2,"source":"s"}]`)
    expect(mixed.statusCode).toBe(202)
    expect(mixed.json()).toMatchObject({
      accepted: 1,
      errors: [{ index: 0, code: 'source_missing', pointer: '/source' }],
    })
    const single = await post('{"name":"a","value":1}')
    expect(single.statusCode).toBe(400)
    expect(single.json()).toMatchObject({ code: 'all_events_invalid', errors: [{ code: 'source_missing' }] })
    expect(single.json<{ detail: string }>().detail).toContain('/source')
    expect(producer.records.map(({ key }) => key)).toEqual(['s'])
    expect(telemetry.rejectedBy).toEqual({ source_missing: 2 })
  })
})

describe('Prefer', () => {
  test('handling=strict refuses all for one invalid event, and books each', async () => {
    const { producer, telemetry } = build()
    const response = await post(`[${event},{}]`, {
      'content-type': 'application/json',
      prefer: 'handling=strict',
    })
    expect(response.statusCode).toBe(400)
    expect(response.json()).toMatchObject({
      code: 'strict_rejected',
      accepted: 0,
      rejected: 2,
      errors: [{ index: 1 }],
    })
    expect(producer.records).toEqual([])
    expect(telemetry).toMatchObject({
      accepted: 0,
      rejected: 2,
      rejectedBy: { invalid_event: 1, strict_rejected: 1 },
    })
  })

  test('return=minimal leaves the body out', async () => {
    build()
    const response = await post(event, { prefer: 'return=minimal' })
    expect(response.statusCode).toBe(202)
    expect(response.body).toBe('')
    expect(Object.keys(response.headers).toSorted()).toEqual(['content-length', 'date'])
  })

  test('wait answers with the outcome of each of many events, in their order', async () => {
    const { producer } = build({ limits: { ...fakeLimits, eventsPerRequest: 5_000, bodyBytes: 1 << 20 } })
    const events = Array.from({ length: 2_500 }, (_, value) => (value === 7 ? '{}' : event))
    const reply = post(`[${events.join(',')}]`, { prefer: 'wait=20' })
    await vi.waitUntil(() => producer.records.length === 2_499, { timeout: 20_000 })
    producer.batch.settle({ outcome: 'acked', baseOffset: 100n })
    const response = await reply
    expect([response.statusCode, Number(response.headers['content-length'])]).toEqual([
      200,
      response.rawPayload.length,
    ])
    const {
      accepted,
      rejected,
      events: outcomes,
    } = response.json<{
      accepted: number
      rejected: number
      events: { index: number; offset: string }[]
    }>()
    expect([accepted, rejected]).toEqual([2_499, 1])
    const indexes = Array.from({ length: 2_500 }, (_, index) => index).filter((index) => index !== 7)
    expect(outcomes.map(({ index }) => index)).toEqual(indexes)
    expect(outcomes.map(({ offset }) => offset)).toEqual(indexes.map((_, nth) => String(100 + nth)))
  })

  test('wait answers with partition and offset when the outcome is known', async () => {
    const { producer } = build()
    const reply = post(`[${event},{}]`, { prefer: 'wait=5' })
    await vi.waitUntil(() => producer.records.length === 1)
    producer.batch.settle({ outcome: 'acked', baseOffset: 41n })
    const response = await reply
    expect(response.statusCode).toBe(200)
    expect(response.headers['preference-applied']).toBe('wait=5')
    expect(response.json()).toMatchObject({
      accepted: 1,
      rejected: 1,
      events: [
        { index: 0, outcome: 'acked', reason: null, topic: 'metrics-realtime', partition: 0, offset: '41' },
      ],
    })
  })

  test('wait answers 202 when the time runs out', async () => {
    const { producer } = build()
    const response = await post(event, { prefer: 'wait=0' })
    expect(response.statusCode).toBe(202)
    expect(response.json()).toMatchObject({
      accepted: 1,
      rejected: 0,
      errors: [],
      pending: { reason: 'kafka_slow' },
    })
    expect(producer.values).toEqual([event])
    producer.isConnected = false
    const away = await post(event, { prefer: 'wait=0' })
    expect(away.json()).toMatchObject({ pending: { reason: 'kafka_away' } })
  })

  test.each([
    ['suspected_lost', null, true],
    ['dropped', 'expired', false],
  ] as const)(
    'wait answers 503 for %s, and says whether trying again may duplicate',
    async (outcome, reason, mayDuplicate) => {
      const { producer, telemetry } = build()
      const reply = post(event, { prefer: 'wait=5' })
      await vi.waitUntil(() => producer.records.length === 1)
      producer.batch.settle({ outcome, reason })
      const response = await reply
      expect(response.statusCode).toBe(503)
      expect(response.json()).toMatchObject({
        code: 'delivery_failed',
        mayDuplicate,
        events: [{ index: 0, outcome, reason }],
      })
      expect(telemetry, 'it was accepted, whatever came of it').toMatchObject({ accepted: 1, rejected: 0 })
    },
  )

  test('wait says that a dead letter is kept, and need not be sent again', async () => {
    const { producer } = build()
    const reply = post(event, { prefer: 'wait=5' })
    await vi.waitUntil(() => producer.records.length === 1)
    producer.batch.settle({ outcome: 'dead_lettered', reason: 'message_too_large' })
    const problem = (await reply).json<{ title: string; detail: string }>()
    expect(problem).toMatchObject({
      code: 'delivery_failed',
      detail:
        "1 of 1 events were refused by Kafka for good; they are in the stream's dead letters (a topic or a file), and need not be sent again",
      mayDuplicate: true,
      events: [{ outcome: 'dead_lettered', reason: 'message_too_large' }],
    })
    expect(problem.title).not.toContain('lost')
  })

  test('wait tells dead letters from what is lost beside them', async () => {
    const { producer } = build()
    const reply = post(`[${event},${event},${event}]`, {
      'content-type': 'application/json',
      prefer: 'wait=5',
    })
    await vi.waitUntil(() => producer.records.length === 3)
    producer.batch.settle({ outcome: 'dropped', reason: 'expired', firstPlace: 0, recordCount: 1 })
    producer.batch.settle({ outcome: 'confirmed', firstPlace: 1, recordCount: 1 })
    producer.batch.settle({
      outcome: 'dead_lettered',
      reason: 'message_too_large',
      firstPlace: 2,
      recordCount: 1,
    })
    expect((await reply).json()).toMatchObject({
      detail:
        "2 of 3 events were not delivered; 1 of them are in the stream's dead letters (a topic or a file), and need not be sent again; sending the request again may duplicate events",
      mayDuplicate: true,
    })
  })
})

describe('a full buffer', () => {
  const two = `[${event},${event}]`

  test('refuses the whole request, and says when to come back', async () => {
    const { producer, telemetry } = build()
    producer.hasRoom = false
    const response = await post(two)
    expect(response.statusCode).toBe(503)
    expect(response.headers['retry-after']).toBe('7')
    expect(response.json()).toMatchObject({ code: 'buffer_full' })
    expect(producer.records).toEqual([])
    expect(telemetry).toMatchObject({ accepted: 0, rejected: 2, rejectedBy: { buffer_full: 2 } })
  })

  test('drops and counts where the stream is set to drop', async () => {
    const { producer, telemetry } = build({}, [new FakeProducer({ onBufferFull: 'drop' })])
    producer.hasRoom = false
    const response = await post(two)
    expect(response.json()).toEqual({ accepted: 2, rejected: 0, errors: [] })
    expect(producer).toMatchObject({ dropped: 2, records: [] })
    expect(telemetry).toMatchObject({ accepted: 2, rejected: 0 })
  })

  test('drops, and tells it to who waits', async () => {
    const { producer } = build({}, [new FakeProducer({ onBufferFull: 'drop' })])
    producer.hasRoom = false
    const response = await post(event, { prefer: 'wait=1' })
    expect(response.json()).toMatchObject({
      code: 'delivery_failed',
      mayDuplicate: false,
      events: [{ reason: 'buffer_full' }],
    })
  })

  test('makes the request wait where the stream is set to block', async () => {
    const { producer } = build({}, [new FakeProducer({ onBufferFull: 'block' })])
    producer.hasRoom = false
    const reply = post(two)
    const grant = await waiter(producer)
    expect(producer.records).toEqual([])
    grant(true)
    expect((await reply).statusCode).toBe(202)
    expect(producer.values).toEqual([event, event])
  })

  test('refuses after max.block.ms', async () => {
    const { producer, telemetry } = build({}, [new FakeProducer({ onBufferFull: 'block' })])
    producer.hasRoom = false
    const reply = post(two)
    const grant = await waiter(producer)
    grant(false)
    expect((await reply).json()).toMatchObject({ code: 'buffer_full' })
    expect(telemetry).toMatchObject({ accepted: 0, rejected: 2 })
  })

  test('refuses who waited for room while the gateway shut down, and gives the room back', async () => {
    const { producer } = build({}, [new FakeProducer({ onBufferFull: 'block' })])
    producer.hasRoom = false
    const reply = post(event)
    const grant = await waiter(producer)
    producer.admission = 'closing'
    grant(true)
    expect((await reply).json()).toMatchObject({ code: 'shutting_down' })
    expect(producer.records).toEqual([])
  })

  test('never has room for a request above buffer.memory: 413, which is not to be tried again', async () => {
    const small = new FakeProducer()
    const { producer } = build({}, [
      new FakeProducer({ producer: { ...small.stream.producer, bufferMemoryBytes: 300 } }),
    ])
    const response = await post(two)
    expect(response.statusCode).toBe(413)
    expect(response.json()).toMatchObject({ code: 'body_too_large', limitBytes: 300 })
    expect(producer.records).toEqual([])
  })
})

describe('a stream that Kafka does not take records of', () => {
  test.each([
    ['not_known_yet', 'stream_unavailable'],
    ['unknown_topic', 'stream_unavailable'],
    ['not_authorized', 'stream_unavailable'],
    ['closing', 'shutting_down'],
  ] as const)('refuses with 503 and Retry-After: %s', async (admission, code) => {
    const { producer, telemetry } = build()
    producer.admission = admission
    const response = await post(event)
    expect(response.statusCode).toBe(503)
    expect(response.headers['retry-after']).toBe('7')
    expect(response.json()).toMatchObject({ code })
    expect(producer.records).toEqual([])
    expect(telemetry.rejectedBy).toEqual({ [code]: 1 })
  })
})

test('streams have their own schema, delivery and producer', async () => {
  const orders = new FakeProducer({
    name: 'orders',
    topic: 'orders',
    delivery: 'at-least-once',
    schema: { file: 'orders.json', jsonSchema: { type: 'object', required: ['order'] } },
  })
  const anything = new FakeProducer({ name: 'any', schema: 'any' })
  const { app, producer } = build({}, [new FakeProducer(), orders, anything])
  const taken = await app.inject({ method: 'POST', url: '/v1/streams/orders', payload: '{"order":1}' })
  expect(taken.headers['chute-delivery']).toBe('at-least-once; no-dedupe')
  expect((await app.inject({ method: 'POST', url: '/v1/streams/orders', payload: event })).statusCode).toBe(
    400,
  )
  await app.inject({ method: 'POST', url: '/v1/streams/any', payload: '[1,null,"x",{"source":"k"}]' })
  expect(orders.values).toEqual(['{"order":1}'])
  expect(anything.records.map(({ key, value }) => [key, value])).toEqual([
    [null, '1'],
    [null, 'null'],
    [null, '"x"'],
    ['k', '{"source":"k"}'],
  ])
  expect(producer.records).toEqual([])
})

test('a schema that cannot be used stops the start', () => {
  build()
  const broken = new FakeProducer({ schema: { file: 'bad.json', jsonSchema: { type: 'strnig' } } })
  expect(() => buildEdge({ limits: fakeLimits }, [broken])).toThrow(/^bad\.json: /)
})
