import { describe, expect, test } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { decodeEvents } from '../../../src/events/decode.ts'
import { PointerKey, RequestKey, type ChosenKey } from '../../../src/events/chosen-key.ts'
import { EventBatch } from '../../../src/events/event-batch.ts'
import type { EventLimits } from '../../../src/events/judged-event.ts'
import { compileEventSchema } from '../../../src/events/event-schema.ts'
import { goodEvents } from '../../support/good-events.ts'

function batchOf(
  lines: string,
  limits: Partial<EventLimits> = {},
  maxRecordBytes = 1000,
  options: {
    needsKey?: boolean
    rejectsKeyless?: boolean
    key?: ChosenKey
    schema?: 'any'
    collectIds?: boolean
  } = {},
): EventBatch {
  const batch = new EventBatch(Buffer.from(lines), {
    limits: { eventBytes: 1000, eventsPerRequest: 1000, depth: 4, ...limits },
    maxRecordBytes,
    ...options,
    schema: compileEventSchema(options.schema ?? 'telemetry'),
  })
  decodeEvents(batch.body, 'ndjson', batch)
  return batch
}

const good = '{"name":"a","value":1,"source":"dé"}'

describe('EventBatch', () => {
  test('keeps the bytes and the key of good events and the place of each', () => {
    const batch = batchOf(`${good}\nbad\n{"name":"b","value":2}`)
    expect(batch).toMatchObject({ received: 3, rejected: 1, good: 2 })
    const events = goodEvents(batch)
    expect(events.map(({ index, key }) => ({ index, key }))).toEqual([
      { index: 0, key: 'dé' },
      { index: 2, key: null },
    ])
    expect(batch.body.toString('utf8', events[1]!.start, events[1]!.end)).toBe('{"name":"b","value":2}')
  })

  test('lists each rejected event with its code', () => {
    const deep = '{"name":"a","value":1,"x":{"x":{"x":{"x":[]}}}}'
    const batch = batchOf(`{\n{"name":1}\n${deep}\n{"name":"a","value":1,"__proto__":{}}`)
    expect(batch.errors.map(({ index, code, pointer }) => [index, code, pointer])).toEqual([
      [0, 'invalid_json', ''],
      [1, 'invalid_event', '/name'],
      [2, 'too_deep', ''],
      [3, 'invalid_event', ''],
    ])
    expect(batch.errors[2]?.detail).toContain('4 levels')
    expect(batch.errors[3]?.detail).toContain('__proto__')
  })

  test('refuses events without a key where the topic is compacted, and names the field', () => {
    const long = `{"name":"a","value":1,"source":"${'s'.repeat(256)}"}`
    const batch = batchOf(`${good}\n{"name":"b","value":2}\n${long}`, {}, 1000, { needsKey: true })
    expect(batch).toMatchObject({ received: 3, rejected: 2, good: 1 })
    // The schema of telemetry has its own word on a source that is too long.
    expect(batch.errors.map(({ index, code, pointer }) => [index, code, pointer])).toEqual([
      [1, 'source_missing', '/source'],
      [2, 'invalid_event', '/source'],
    ])
    expect(batch.errors[0]?.detail).toContain('cleanup.policy')
  })

  test.each(['null', '1', '"source"', '[]', '{}', '{"source":""}', '{"source":7}', '{"source":null}'])(
    'refuses %s where the topic is compacted and the schema takes anything: it gives no key',
    (event) => {
      const options = { needsKey: true, schema: 'any' } as const
      expect(batchOf(event, {}, 1000, options).errors[0]?.code).toBe('source_missing')
      expect(batchOf(event, {}, 1000, { schema: 'any' }).good).toBe(1)
    },
  )

  test('lists a hundred errors and counts all', () => {
    const batch = batchOf('{}\n'.repeat(150))
    expect(batch.errors).toHaveLength(100)
    expect(batch.rejected).toBe(150)
    expect(batch.rejectedByCode).toEqual(new Map([['invalid_event', 150]]))
  })

  test('refuses an event above the limit of events, or above that of records with its key', () => {
    const length = Buffer.byteLength(good)
    expect(batchOf(good, { eventBytes: length }).good).toBe(1)
    expect(batchOf(good, { eventBytes: length - 1 }).errors[0]).toMatchObject({
      code: 'event_too_large',
      detail: `has ${length} bytes, and ${length - 1} is the most (MAX_EVENT_BYTES)`,
    })
    expect(batchOf(good, {}, length + 3).good).toBe(1)
    expect(batchOf(good, {}, length + 2).errors[0]).toMatchObject({
      code: 'event_too_large',
      detail: `has ${length} bytes, and ${length - 1} is the most: the topic takes no larger record (max.message.bytes, max.request.size)`,
    })
  })

  test('refuses the request as a whole above the number of events', () => {
    expect(batchOf(`${good}\n${good}`, { eventsPerRequest: 2 }).good).toBe(2)
    expect(() => batchOf(`${good}\nbad\n${good}`, { eventsPerRequest: 2 })).toThrow(GatewayError)
  })
})

/** The key of each good event. */
function keysOf(batch: EventBatch): (string | null)[] {
  return goodEvents(batch).map(({ key }) => key)
}

describe('a key by choice', () => {
  const long = 'x'.repeat(256)

  test.each<[json: string, key: string | null]>([
    ['"u-1"', 'u-1'],
    ['"dé"', 'dé'],
    ['"a\\u00e9\\n"', 'aé\n'],
    ['"\\ud83d\\ude80"', '🚀'],
    [`"${'é'.repeat(255)}"`, 'é'.repeat(255)],
    [`"${'🚀'.repeat(255)}"`, '🚀'.repeat(255)],
    [`"${'\\ud83d\\ude80'.repeat(255)}"`, '🚀'.repeat(255)],
    ['7', '7'],
    ['-1.50E+2', '-1.50E+2'],
    ['12345678901234567890', '12345678901234567890'],
    ['""', null],
    ['true', null],
    ['null', null],
    ['{"id":1}', null],
    ['["a"]', null],
    [`"${long}"`, null],
    [`"${'\\u0078'.repeat(256)}"`, null],
    [`"${'🚀'.repeat(256)}"`, null],
    [`"${'\\ud83d\\ude80'.repeat(256)}"`, null],
  ])('at a pointer, %.40s is the key %.20s, whatever the schema and the way of decoding', (json, key) => {
    const chosen = new PointerKey('/user/id')
    const events = [
      `{"name":"a","value":1,"source":"s","user":{"id":${json}}}`,
      `{"user":{"id":${json}},"value":1e2,"name":"a"}`,
    ]
    for (const schema of [{}, { schema: 'any' } as const]) {
      const limits = { eventBytes: 5000 }
      expect(keysOf(batchOf(events.join('\n'), limits, 5000, { ...schema, key: chosen }))).toEqual([key, key])
      const strict = batchOf(events.join('\n'), limits, 5000, {
        ...schema,
        key: chosen,
        rejectsKeyless: true,
      })
      expect(keysOf(strict)).toEqual(key === null ? [] : [key, key])
      if (key !== null) continue
      expect(strict.errors[0]).toMatchObject({ code: 'record_key_missing', pointer: '/user/id' })
      expect(strict.errors[0]?.detail).toContain('keyMissing: reject')
    }
  })

  test('is found in a large event, which is read in slices', () => {
    const filler = `{"id":[${'"yyyyyy",'.repeat(12_000)}0]}`
    const event = `{"name":"a","value":1,"more":[${filler},${filler}],"user":{"more":${filler},"id":"u-1"}}`
    const key = new PointerKey('/user/id')
    const limits = { eventBytes: 1e6, eventsPerRequest: 10, depth: 8 }
    const body = Buffer.from(`${event}\n{"name":"b","value":2,"user":{"id":"u-2"}}`)
    for (const setting of ['telemetry', 'any'] as const) {
      const batch = new EventBatch(body, {
        schema: compileEventSchema(setting),
        limits,
        maxRecordBytes: 1e6,
        key,
      })
      let left = decodeEvents(body, 'ndjson', batch, 1_000)
      let slices = 0
      // Another request of the stream is decoded in between.
      for (; left !== undefined; left = left()) if (slices++ % 3 === 0) batchOf(good, {}, 1000, { key })
      expect(slices).toBeGreaterThan(50)
      expect(keysOf(batch)).toEqual(['u-1', 'u-2'])
    }
  })

  test('counts towards the size of a record', () => {
    const event = '{"name":"a","value":1,"id2":"12345"}'
    const key = new PointerKey('/id2')
    expect(batchOf(event, {}, event.length + 5, { key }).good).toBe(1)
    expect(batchOf(event, {}, event.length + 4, { key }).errors[0]?.code).toBe('event_too_large')
    expect(batchOf(`${event}\n${event}`, {}, 1000, { key }).ranges.totalBytes).toBe(2 * (event.length + 5))
  })

  test('of the request is the key of all of its events, and none where it is empty or too long', () => {
    const lines = `${good}\n{"name":"b","value":1e2}`
    const keyOf = (value: string | null): RequestKey =>
      new RequestKey(value === null ? null : Buffer.from(value), 'needs x-device')
    expect(keysOf(batchOf(lines, {}, 1000, { key: keyOf('device-1') }))).toEqual(['device-1', 'device-1'])
    expect(batchOf(lines, {}, 1000, { key: keyOf('device-1') }).ranges.totalBytes).toBe(
      lines.length + 1 - 1 + 16,
    )
    for (const none of [null, '', long]) {
      expect(keysOf(batchOf(lines, {}, 1000, { key: keyOf(none) }))).toEqual([null, null])
      const refused = batchOf(lines, {}, 1000, { key: keyOf(none), rejectsKeyless: true })
      expect(refused.rejectedByCode).toEqual(new Map([['record_key_missing', 2]]))
      expect(refused.errors[0]?.detail).toContain('x-device')
    }
  })

  test('is needed where the topic is compacted, and its code is not that of a missing source', () => {
    const batch = batchOf(good, {}, 1000, { key: new PointerKey('/user'), needsKey: true })
    expect(batch.errors[0]).toMatchObject({ code: 'record_key_missing', pointer: '/user' })
    expect(batch.errors[0]?.detail).toContain('cleanup.policy')
  })

  test('that is the source can be needed too', () => {
    const batch = batchOf(`${good}\n{"name":"b","value":1}`, {}, 1000, { rejectsKeyless: true })
    expect(keysOf(batch)).toEqual(['dé'])
    expect(batch.errors[0]).toMatchObject({ index: 1, code: 'record_key_missing', pointer: '/source' })
  })
})

describe('what an event is told by', () => {
  const told = (lines: string) =>
    batchOf(lines, {}, 1000, { schema: 'any', collectIds: true }).told?.map((each) => each?.source)

  test('has all digits of a source that is a number: JSON numbers above 2^53 share a value', () => {
    const numbers = ['9007199254740992', '9007199254740993', '1e400', '2e400', '0.1', '7', '-0']
    expect(told(numbers.map((source) => `{"id":"1","source":${source}}`).join('\n'))).toEqual(numbers)
  })

  test('has the source that counts, however it is named: the last one, and that of the event itself', () => {
    const lines = [
      '{"x":{"source":1},"source":2,"id":"1","sourc\\u0065": 3 ,"y":4}',
      '{"id":"1","source":"5"}',
    ]
    expect(told(lines.join('\n'))).toEqual(['3', '5'])
  })

  test('is not there for an id that is a number', () => {
    expect(told('{"id":9007199254740993,"source":1}')).toBeUndefined()
  })
})
