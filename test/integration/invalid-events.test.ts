import { createHash } from 'node:crypto'
import type { LightMyRequestResponse } from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import type { HttpConfig, KeyConfig, StreamConfig } from '../../src/config/config.ts'
import { Deduplicator } from '../../src/dedupe/deduplicator.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import type { ProducerStats } from '../../src/kafka/producer/producer.ts'
import { decodeHeaders } from '../../src/kafka/protocol/record-format.ts'
import { InvalidEvents } from '../../src/routes/ingest/invalid-events.ts'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { LogKeeper } from '../support/producer-fixture.ts'
import { producerStats } from '../support/producer-stats.ts'

const name = 'metrics-realtime'
const good = '{"name":"a","value":1}'

/** The producer of the topic for invalid events. Records that it took are in flight. */
class InvalidTopic extends FakeProducer {
  counts: Partial<ProducerStats> = {}

  get stats(): ProducerStats {
    return producerStats({
      stream: name,
      topic: 'web-invalid',
      inFlight: this.records.length,
      ...this.counts,
    })
  }

  /** Each record as text: its value and its headers. */
  get kept(): { value: string; headers: Record<string, string> }[] {
    return this.records.map(({ value }, nth) => ({
      value,
      headers: Object.fromEntries(
        decodeHeaders(this.headers[nth]!).map(({ key, value: of }) => [
          key.replace('__chute.errors.', ''),
          of.toString(),
        ]),
      ),
    }))
  }
}

let edge: Edge
let topic: InvalidTopic
let invalid: InvalidEvents
let logs: LogKeeper

function build(
  stream: Partial<StreamConfig> = {},
  { maxPerSecond = 1_000, http = {} }: { maxPerSecond?: number; http?: Partial<HttpConfig> } = {},
): FakeProducer {
  const producer = new FakeProducer(stream)
  topic = new InvalidTopic({})
  logs = new LogKeeper()
  invalid = new InvalidEvents({ producer: topic, maxPerSecond, logger: logs })
  const dedupe = new Map(
    stream.dedupe == null
      ? []
      : [
          [
            name,
            new Deduplicator({
              store: new MemoryDedupeStore(100),
              windowMs: 60_000,
              journal: null,
              isShared: false,
            }),
          ],
        ],
  )
  edge = buildEdge(http, [producer], { invalid: new Map([[name, invalid]]), dedupe })
  return producer
}

async function post(payload: string, headers: Record<string, string> = {}): Promise<LightMyRequestResponse> {
  return await edge.app.inject({ method: 'POST', url: `/v1/streams/${name}`, payload, headers })
}

/** The results that are not zero, and what is pending. */
function results(): Record<string, number> {
  const { stats } = invalid
  const some = Object.entries({ ...stats.results, pending: stats.pending }).filter(([, count]) => count > 0)
  return Object.fromEntries(some)
}

afterEach(async () => {
  expect(edge.faults).toEqual([])
  for (const producer of [edge.producer, topic])
    expect(producer.openBytes, 'room that was reserved and neither used nor given back').toBe(0)
  expect(logs.lines.filter(({ level }) => level === 'error')).toEqual([])
  await edge.app.close()
})

describe('an invalid event goes to invalidTopic', () => {
  test('as it came, beside the good ones, with the reason in its headers, and the reply is as without', async () => {
    const producer = build()
    const bad = '{"name": "a",  "value": "1.50", "labels":{"\\u0061": 1e400}}'
    const broken = '{"name":"a",}'
    const response = await post(`${good}\n  ${bad} \n${broken}\n${good}\n[]`)
    expect(response.json()).toMatchObject({ accepted: 2, rejected: 3 })
    expect(producer.values).toEqual([good, good])
    const { errors } = response.json<{ errors: { code: string; pointer: string; detail: string }[] }>()
    expect(topic.kept.map(({ value }) => value)).toEqual([bad, broken, '[]'])
    expect(topic.kept.map(({ headers }) => headers)).toEqual(
      errors.map(({ code, pointer, detail }) => ({
        stream: name,
        code,
        pointer,
        detail,
        transport: 'http',
        time: expect.stringMatching(/^\d{13}$/),
      })),
    )
    expect(topic.kept[0]!.headers['pointer']).toBe('/value')
    expect(topic.records.map(({ key }) => key)).toEqual([null, null, null])
    expect(results()).toEqual({ pending: 3 })
  })

  test.each([
    ['a single event', '{"name":"a"}', ['{"name":"a"}']],
    ['an array', `[ {"name":"b"} ,\n ${good}, 7 ]`, ['{"name":"b"}', '7']],
  ])('of %s', async (_what, body, values) => {
    build()
    await post(body)
    expect(topic.values).toEqual(values)
  })

  const deep = `{"a":${'['.repeat(40)}${']'.repeat(40)}}`
  test.each<[string, string, Partial<StreamConfig>]>([
    ['invalid_json', '{"a"', {}],
    ['invalid_event', '{"name":"a","__proto__":1,"value":1}', {}],
    ['event_too_large', `{"name":"a","value":1,"x":"${'x'.repeat(300_000)}"}`, {}],
    ['too_deep', deep, {}],
    ['record_key_missing', good, { key: '/device', keyMissing: 'reject' }],
    [
      'too_complex',
      `{"a":[${'0,'.repeat(110_000)}0]}`,
      { schema: { file: 'a.json', jsonSchema: { type: 'object' } } },
    ],
  ])('for its own fault: %s', async (code, event, stream) => {
    build(stream)
    const lines = { 'content-type': 'application/x-ndjson' }
    expect((await post(`${event}\n${event}`, lines)).json()).toMatchObject({ errors: [{ code }, { code }] })
    expect(topic.kept.map(({ value, headers }) => [value, headers['code']])).toEqual([
      [event, code],
      [event, code],
    ])
  })

  test('by beacon, by form and by pixel, whose query became JSON', async () => {
    build()
    await edge.app.inject({ method: 'POST', url: `/v1/beacon/${name}`, payload: '{"name":"b"}' })
    await edge.app.inject(`/v1/beacon/${name}.gif?name=p&value=x%20y`)
    await edge.app.inject({
      method: 'POST',
      url: `/v1/beacon/${name}`,
      payload: 'name=f',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    expect(topic.kept.map(({ value, headers }) => [value, headers['transport']])).toEqual([
      ['{"name":"b"}', 'beacon'],
      ['{"name":"p","value":"x y"}', 'pixel'],
      ['{"name":"f"}', 'beacon'],
    ])
  })

  test('with the name of the key that it came with, and never with the key', async () => {
    const key: KeyConfig = {
      name: 'web',
      kind: 'public',
      sha256: [createHash('sha256').update('value-of-web').digest('hex')],
      streams: ['*'],
      origins: [],
      sources: ['mine'],
      notAfterMs: null,
      limits: null,
      addressLimits: null,
    }
    build({}, { http: { keys: [key] } })
    await post('{"name":"a","value":1,"source":"other"}', { 'x-chute-key': 'value-of-web' })
    await edge.app.inject(`/v1/beacon/${name}.gif?name=p&key=value-of-web`)
    expect(topic.kept.map(({ headers }) => [headers['code'], headers['key.name']])).toEqual([
      ['source_not_allowed', 'web'],
      ['invalid_event', 'web'],
    ])
    expect(JSON.stringify(topic.kept)).not.toContain('value-of-web')
    expect((await post('{"name":"a"}')).statusCode).toBe(401)
    expect(topic.records).toHaveLength(2)
  })

  test("with the headers that the stream's records have, before those with the reason", async () => {
    build({ headers: { agent: 'header:user-agent' } })
    await post('{"name":"a"}', { 'user-agent': 'u' })
    expect(Object.keys(topic.kept[0]!.headers).slice(0, 2)).toEqual(['agent', 'stream'])
    expect(topic.kept[0]!.headers['agent']).toBe('u')
  })

  test('whose id stands for other content', async () => {
    build({ dedupe: { windowMs: 60_000, maxEntries: 100 } })
    const one = '{"name":"a","value":1,"id":"1"}'
    const other = '{"name":"a","value":2,"id":"1"}'
    await post(one)
    await post(`${good}\n${other}`)
    await post(other)
    expect(topic.kept.map(({ value, headers }) => [value, headers['code'], headers['pointer']])).toEqual([
      [other, 'id_conflict', '/id'],
      [other, 'id_conflict', '/id'],
    ])
  })
})

describe('what goes there once', () => {
  test('is not repeated with a request that was accepted before', async () => {
    build({ dedupe: { windowMs: 60_000, maxEntries: 100 } })
    for (let time = 0; time < 3; time++)
      expect((await post(`${good}\n{}`, { 'idempotency-key': 'k' })).json()).toMatchObject({ rejected: 1 })
    expect(topic.values).toEqual(['{}'])
  })

  test('waits for the reply that names it: a full buffer is told first', async () => {
    const producer = build()
    producer.hasRoom = false
    expect((await post(`${good}\n{}`)).statusCode).toBe(503)
    expect(topic.values).toEqual([])
    producer.hasRoom = true
    expect((await post(`${good}\n{}`)).statusCode).toBe(202)
    expect(topic.values).toEqual(['{}'])
  })

  test('is kept with strict handling too, and the good events are not', async () => {
    const producer = build()
    expect((await post(`${good}\n{}`, { prefer: 'handling=strict' })).statusCode).toBe(400)
    expect([topic.values, producer.values]).toEqual([['{}'], []])
  })
})

test.each([
  ['a body that is no JSON', '{"name":', {}, 400],
  ['a broken array', `[${good},{]`, {}, 400],
  ['too many events', `{}\n`.repeat(3), {}, 413],
  ['an unknown media type', '{}', { 'content-type': 'image/png' }, 415],
])('%s is refused as a request, and nothing of it is kept', async (_what, body, headers, status) => {
  build({}, { http: { limits: { ...fakeLimits, eventsPerRequest: 2 } } })
  expect((await post(body, headers)).statusCode).toBe(status)
  expect(topic.records).toEqual([])
  expect(results()).toEqual({})
})

describe('what is not kept is counted, and the reply is the same', () => {
  const rubbish = Array.from({ length: 10 }, (_, n) => `{"n":${n}}`)

  test('above the rate', async () => {
    build({}, { maxPerSecond: 4 })
    expect((await post(`${good}\n${rubbish.join('\n')}`)).json()).toMatchObject({ accepted: 1, rejected: 10 })
    expect(topic.values).toEqual(rubbish.slice(0, 4))
    expect(results()).toEqual({ pending: 4, over_rate: 6 })
    expect(logs.lines).toEqual([
      {
        level: 'warn',
        message: 'invalid events were not kept',
        fields: { stream: name, topic: 'web-invalid', events: { over_rate: 6 } },
      },
    ])
  })

  test.each<[string, (topic: InvalidTopic) => void]>([
    ['buffer_full', (fake) => (fake.hasRoom = false)],
    ['too_large', (fake) => (fake.maxRecordBytes = 20)],
    ['unavailable', (fake) => (fake.admission = 'not_authorized')],
    ['unavailable', (fake) => (fake.needsKey = true)],
    ['shutdown', (fake) => (fake.admission = 'closing')],
  ])('where the topic takes nothing: %s', async (result, spoil) => {
    const producer = build()
    spoil(topic)
    expect((await post(`${good}\n${rubbish.join('\n')}`)).json()).toMatchObject({ accepted: 1, rejected: 10 })
    expect(producer.values).toEqual([good])
    expect(topic.records).toEqual([])
    expect(results()).toEqual({ [result]: 10 })
  })

  test('by what Kafka said', async () => {
    build()
    topic.counts = {
      acked: 5,
      suspectedLost: 2,
      inFlight: 0,
      dropped: { ...producerStats().dropped, message_too_large: 3, shutdown: 4 },
    }
    expect(results()).toEqual({ kept: 5, suspected_lost: 2, refused: 3, shutdown: 4 })
  })
})

test('10,000 invalid events of one body are kept a part a turn, and their body stays as it is until then', async () => {
  build({}, { maxPerSecond: 100_000 })
  const rubbish = Array.from({ length: 10_000 }, (_, n) => `{"n":${n}}`)
  const response = await post(rubbish.join('\n'))
  expect(response.json()).toMatchObject({ code: 'all_events_invalid', rejected: 10_000 })
  // The reply comes first. Another large body takes the buffer as soon as it is free.
  const other = rubbish.map((line) => line.replace('n', 'm'))
  await post(other.join('\n'))
  await expect.poll(() => topic.records.length, { timeout: 20_000 }).toBe(20_000)
  expect(topic.values.slice(0, 10_000)).toEqual(rubbish)
  // The reply lists 100 of them.
  expect(topic.kept[99]!.headers['detail']).toBeDefined()
  expect(topic.kept[100]!.headers).toEqual({
    stream: name,
    code: 'invalid_event',
    transport: 'http',
    time: expect.any(String),
  })
  expect(results()).toEqual({ pending: 20_000 })
})
