import type { LightMyRequestResponse } from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { Deduplicator } from '../../src/dedupe/deduplicator.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeTopicsProducer } from '../support/fake-producer.ts'

const name = 'metrics-realtime'
const topics = {
  by: '/type',
  map: { click: 'web-clicks', tap: 'web-clicks', view: 'web-views', '7': 'web-sevens', ä: 'web-other' },
  else: 'web-other',
} as const

let edge: Edge

function build(settings: Partial<StreamConfig> = {}): FakeTopicsProducer {
  const producer = new FakeTopicsProducer({ topic: topics.else, topics, schema: 'any', ...settings })
  const dedupe = new Map(
    settings.dedupe == null
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
  edge = buildEdge({}, [producer], { dedupe })
  return producer
}

async function post(payload: string, headers: Record<string, string> = {}): Promise<LightMyRequestResponse> {
  return await edge.app.inject({ method: 'POST', url: `/v1/streams/${name}`, payload, headers })
}

const of = (type: string, more = ''): string => `{"name":"a","value":1,"type":${type}${more}}`

afterEach(async () => {
  expect(edge.faults).toEqual([])
  expect(edge.producer.openBytes, 'room that was reserved and neither used nor given back').toBe(0)
  await edge.app.close()
})

describe('the topic is chosen by content', () => {
  const large = of('"click"', `,"x":"${'x'.repeat(100_000)}"`)
  const escaped = of(String.raw`"vi\u0065w"`)
  const hidden = '{"name":"a","value":1,"x":{"type":"click"}}'
  const twice = '{"name":"a","type":"click","value":1,"type":"view"}'
  const others = ['"other"', 'null', 'true', '[7]', '{"a":"click"}', '""', '7.0', '"__proto__"'].map((type) =>
    of(type),
  )
  const events = [
    of('"click"'),
    of('"view"'),
    of('"tap"'),
    of('7'),
    of('"7"'),
    of('"ä"'),
    large,
    escaped,
    twice,
  ]
  const expected = {
    'web-clicks': [of('"click"'), of('"tap"'), large],
    'web-views': [of('"view"'), escaped, twice],
    'web-sevens': [of('7'), of('"7"')],
    'web-other': [of('"ä"'), hidden, ...others],
  }

  test.each(['any', 'telemetry'] as const)(
    'among a closed set, in the order of the request, and all else goes to else (schema: %s)',
    async (schema) => {
      for (const join of [(all: string[]) => all.join('\n'), (all: string[]) => `[${all.join(', ')}]`]) {
        const producer = build({ schema })
        const response = await post(join([...events, hidden, ...others]))
        expect(response.json()).toMatchObject({ accepted: events.length + 1 + others.length, rejected: 0 })
        expect(producer.byTopic).toEqual(expected)
        await edge.app.close()
      }
    },
  )

  test('of a single event, a beacon and a pixel', async () => {
    const producer = build({ schema: 'telemetry' })
    await post(of('"click"'))
    await edge.app.inject({ method: 'POST', url: `/v1/beacon/${name}`, payload: of('"view"') })
    await edge.app.inject(`/v1/beacon/${name}.gif?name=a&value=1&type=tap`)
    expect(producer.byTopic).toMatchObject({
      'web-clicks': [of('"click"'), '{"name":"a","value":1,"type":"tap"}'],
      'web-views': [of('"view"')],
    })
  })

  test('beside a key by choice and a rejected event', async () => {
    const producer = build({ schema: 'telemetry', key: '/user', keyMissing: 'reject' })
    const keyed = [of('"click"', ',"user":"u1"'), of('"view"', ',"user":2')]
    const response = await post([keyed[0], of('"click"'), '{}', keyed[1]].join('\n'))
    expect(response.json()).toMatchObject({ accepted: 2, rejected: 2 })
    const keys = producer.topics.map(({ stream, records }) => [stream.topic, records.map(({ key }) => key)])
    expect(Object.fromEntries(keys)).toMatchObject({ 'web-clicks': ['u1'], 'web-views': ['2'] })
  })
})

describe('a request with events of two topics', () => {
  const body = `${of('"click"')}\n${of('"view"')}`
  const topicOf = (producer: FakeTopicsProducer, topic: string) =>
    producer.topics.find(({ stream }) => stream.topic === topic)!
  const clicks = (producer: FakeTopicsProducer) => topicOf(producer, 'web-clicks')

  test('gets room for all of them or for none', async () => {
    const producer = build()
    producer.hasRoom = false
    expect((await post(body)).json()).toMatchObject({ status: 503, code: 'buffer_full' })
    expect(producer.records).toEqual([])
    producer.hasRoom = true
    expect((await post(body)).json()).toMatchObject({ accepted: 2 })
  })

  test('is refused as a whole where one topic takes nothing, and others go on', async () => {
    const producer = build()
    clicks(producer).admission = 'unknown_topic'
    clicks(producer).obstacle = { summary: 'topic web-clicks does not exist', cause: null }
    const refused = await post(body)
    expect(refused.json()).toMatchObject({ status: 503, code: 'stream_unavailable' })
    expect(refused.body).toContain('web-clicks')
    expect(producer.records).toEqual([])
    expect((await post(of('"view"'))).json()).toMatchObject({ accepted: 1 })
    expect(producer.byTopic).toMatchObject({ 'web-views': [of('"view"')], 'web-clicks': [] })
  })

  test('is refused after a wait for room too', async () => {
    const producer = build({ onBufferFull: 'block' })
    producer.hasRoom = false
    const waiting = post(body)
    await expect.poll(() => producer.waiters.length).toBe(1)
    clicks(producer).admission = 'closing'
    producer.waiters[0]!(true)
    expect((await waiting).json()).toMatchObject({ status: 503, code: 'shutting_down' })
  })

  test('that is dropped is counted topic by topic', async () => {
    const producer = build({ onBufferFull: 'drop' })
    producer.hasRoom = false
    const reply = await post(`${body}\n${of('"click"')}`, { prefer: 'wait=5' })
    expect(reply.json()).toMatchObject({
      status: 503,
      events: [{ topic: 'web-clicks' }, { topic: 'web-views' }, { topic: 'web-clicks' }],
    })
    const dropped = Object.fromEntries(
      producer.topics.map(({ stream, dropped: count }) => [stream.topic, count]),
    )
    expect(dropped).toEqual({ 'web-other': 0, 'web-clicks': 2, 'web-views': 1, 'web-sevens': 0 })
  })

  test('tells each outcome with its topic, those of repetitions too', async () => {
    const producer = build({ dedupe: { windowMs: 60_000, maxEntries: 100 } })
    const once = of('"view"', ',"id":"1"')
    expect((await post(once)).statusCode).toBe(202)
    const waiting = post(`${of('"click"', ',"id":"2"')}\n${once}\n${of('1', ',"id":"3"')}`, {
      prefer: 'wait=20',
    })
    const [other, clicked] = [producer.topics[0]!, clicks(producer)]
    await expect.poll(() => clicked.batch.listeners + other.batch.listeners).toBe(2)
    clicked.batch.settle()
    other.batch.settle()
    expect((await waiting).json()).toMatchObject({
      events: [
        { index: 0, outcome: 'confirmed', topic: 'web-clicks' },
        { index: 1, outcome: 'duplicate', topic: 'web-views' },
        { index: 2, outcome: 'confirmed', topic: 'web-other' },
      ],
    })
    expect(producer.byTopic).toMatchObject({ 'web-views': [once] })
  })

  test.each(['any', 'telemetry'] as const)(
    'is judged by what the topic of each event takes (%s)',
    async (schema) => {
      const producer = build({ schema })
      clicks(producer).maxRecordBytes = of('"click"').length
      topicOf(producer, 'web-views').needsKey = true
      const long = `,"x":"${'x'.repeat(100)}"`
      const huge = `,"x":"${'x'.repeat(200_000)}"`
      const lines = [
        of('"click"'),
        of('"click"', long),
        of('"other"', long),
        of('"view"'),
        of('"view"', ',"source":"s"'),
        of('"click"', huge),
        of('"other"', huge),
        of('"click"'),
      ]
      const response = await post(lines.join('\n'))
      expect(response.json()).toMatchObject({
        accepted: 5,
        errors: [
          { index: 1, code: 'event_too_large' },
          { index: 3, code: 'source_missing' },
          { index: 5, code: 'event_too_large' },
        ],
      })
      expect(producer.byTopic).toEqual({
        'web-clicks': [lines[0], lines[7]],
        'web-views': [lines[4]],
        'web-other': [lines[2], lines[6]],
        'web-sevens': [],
      })
    },
  )
})
