import type { LightMyRequestResponse } from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { decodeHeaders } from '../../src/kafka/protocol/record-format.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

const stream = 'metrics-realtime'
let edge: Edge

function build(settings: Partial<StreamConfig>): FakeProducer {
  const producer = new FakeProducer(settings)
  edge = buildEdge({}, [producer])
  return producer
}

async function post(payload: string, headers: Record<string, string> = {}): Promise<LightMyRequestResponse> {
  return await edge.app.inject({ method: 'POST', url: `/v1/streams/${stream}`, payload, headers })
}

afterEach(async () => {
  expect(edge.faults).toEqual([])
  expect(edge.producer.openBytes, 'room that was reserved and neither used nor given back').toBe(0)
  await edge.app.close()
})

describe('the key of records', () => {
  const events = [
    '{"name":"a","value":1,"source":"s","user":{"id":"u-1"}}',
    '{"name":"b","value":2,"user":{"id":7}}',
    '{"name":"c","value":3}',
  ]

  test.each<[StreamConfig['key'], (string | null)[]]>([
    ['source', ['s', null, null]],
    ['none', [null, null, null]],
    ['/user/id', ['u-1', '7', null]],
    ['header:x-device', ['device-1', 'device-1', 'device-1']],
  ])('is %s, and the value stays as it came', async (key, keys) => {
    const producer = build({ key })
    const headers = { 'x-device': 'device-1' }
    for (const body of [events.join('\n'), `[${events.join(', ')}]`]) {
      expect((await post(body, headers)).json()).toMatchObject({ accepted: 3 })
      expect(producer.records.splice(0).map((record) => [record.key, record.value])).toEqual(
        events.map((event, nth) => [keys[nth], event]),
      )
    }
  })

  test('that is a header is that of each request, with the bytes that came', async () => {
    const producer = build({ key: 'header:x-device' })
    await post(events[0]!, { 'x-device': 'one' })
    await post(events[0]!)
    await post(events[0]!, { 'x-device': 'two' })
    expect(producer.records.map(({ key }) => key)).toEqual(['one', null, 'two'])
  })

  test('that is missing is refused where the stream says so, and the other events are accepted', async () => {
    const producer = build({ key: '/user/id', keyMissing: 'reject' })
    const response = await post(events.join('\n'))
    expect(response.json()).toMatchObject({
      accepted: 2,
      rejected: 1,
      errors: [{ index: 2, code: 'record_key_missing', pointer: '/user/id' }],
    })
    expect(producer.records.map(({ key }) => key)).toEqual(['u-1', '7'])
    expect((await post(events[2]!)).json()).toMatchObject({ status: 400, code: 'all_events_invalid' })
    expect(edge.telemetry.rejectedBy).toEqual({ record_key_missing: 2 })
  })

  test('that is a header is missing in a whole request', async () => {
    const producer = build({ key: 'header:x-device', keyMissing: 'reject' })
    const response = await post(events.join('\n'))
    expect(response.statusCode).toBe(400)
    expect(response.json()).toMatchObject({ errors: [{ code: 'record_key_missing' }, {}, {}] })
    expect(response.body).toContain('x-device')
    expect(producer.records).toEqual([])
  })

  test('can be a field of a pixel and of a form', async () => {
    const producer = build({ key: '/device' })
    await edge.app.inject(`/v1/beacon/${stream}.gif?name=a&value=1&device=d%201`)
    expect(producer.records[0]).toMatchObject({ key: 'd 1', value: '{"name":"a","value":1,"device":"d 1"}' })
  })
})

describe('the headers of records', () => {
  const event = '{"name":"a","value":1}'
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

  /** The own headers of each record, as text. */
  function textOf({ headers }: FakeProducer): (Record<string, string> | null)[] {
    return headers.map((encoded) =>
      encoded === null
        ? null
        : Object.fromEntries(decodeHeaders(encoded).map(({ key, value }) => [key, value.toString()])),
    )
  }

  test('are those that the stream asks for, the same in each record of a request, and their room is reserved', async () => {
    const producer = build({
      headers: {
        trace: 'header:traceparent',
        agent: 'header:user-agent',
        net: 'client:address/24',
        tenant: 'key:name',
      },
    })
    await post(`${event}\n${event}`, { traceparent, 'user-agent': 'one', authorization: 'Bearer secret' })
    await post(event, { traceparent: 'broken', 'user-agent': 'two' })
    const one = { trace: traceparent, agent: 'one', net: '127.0.0.0/24' }
    expect(textOf(producer)).toEqual([one, one, { agent: 'two', net: '127.0.0.0/24' }])
    expect(producer.headers[0]).not.toBe(null)
    expect(producer.values).toEqual([event, event, event])
  })

  test('are none unless the stream asks, whatever a client sends', async () => {
    const producer = build({})
    await post(event, { traceparent, 'user-agent': 'one', tracestate: 'a=1' })
    expect(producer.headers).toEqual([null])
  })

  test('are those of a beacon and a pixel too', async () => {
    const producer = build({ headers: { agent: 'header:user-agent' } })
    const headers = { 'user-agent': 'a browser' }
    await edge.app.inject({ method: 'POST', url: `/v1/beacon/${stream}`, payload: event, headers })
    await edge.app.inject({ url: `/v1/beacon/${stream}.gif?name=a&value=1`, headers })
    expect(textOf(producer)).toEqual([{ agent: 'a browser' }, { agent: 'a browser' }])
  })

  test('count towards the size that the topic takes', async () => {
    const producer = build({ headers: { agent: 'header:user-agent' } })
    // The number of headers, two sizes and the name.
    producer.maxRecordBytes = event.length + 10 + 1 + 1 + 5 + 1
    expect((await post(event, { 'user-agent': 'u'.repeat(10) })).statusCode).toBe(202)
    expect((await post(event, { 'user-agent': 'u'.repeat(11) })).json()).toMatchObject({
      errors: [{ code: 'event_too_large' }],
    })
  })
})

describe('a timestamp', () => {
  const at = (timestamp: string): string => `{"name":"a","value":1,"timestamp":${timestamp}}`
  const times = {
    s: '1700000000',
    ms: '1700000000000',
    us: '1700000000000000',
    ns: '1700000000000000001',
  } as const

  test.each(['auto', 'ms', 's', 'us', 'ns'] as const)(
    'in %s is taken, and written as it came',
    async (timestampUnit) => {
      const producer = build({ timestampUnit })
      const body = Object.values(times).map(at).join('\n')
      const taken = timestampUnit === 'auto' ? Object.values(times) : [times[timestampUnit]]
      expect((await post(body)).json()).toMatchObject({ accepted: taken.length, rejected: 4 - taken.length })
      expect(producer.values).toEqual(taken.map(at))
      // The record's own time is the time of receipt.
      for (const { timestampMs } of producer.records)
        expect(Math.abs(timestampMs - Date.now())).toBeLessThan(60_000)
    },
  )

  test('in another unit is refused with the way out', async () => {
    build({})
    expect((await post(at(times.us))).json()).toMatchObject({
      code: 'all_events_invalid',
      errors: [
        {
          code: 'invalid_event',
          pointer: '/timestamp',
          detail:
            'looks like microseconds, and the stream takes milliseconds: send milliseconds, or set timestampUnit: us for the stream',
        },
      ],
    })
  })
})
