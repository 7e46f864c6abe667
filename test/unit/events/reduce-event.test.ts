import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeEvents } from '../../../src/events/decode.ts'
import { EventBatch } from '../../../src/events/event-batch.ts'
import {
  compileEventSchema,
  identityOf,
  keyOf,
  type EventSchemaSetting,
} from '../../../src/events/event-schema.ts'
import { reduceEvent } from '../../../src/events/reduce-event.ts'
import { checkTelemetry } from '../../../src/events/validate-telemetry.ts'
import { casesOf } from '../../support/forms.ts'

const names = ['name', 'value', 'timestamp', 'unit', 'labels', 'source', 'id']
const namedFields = names.map((name) => Buffer.from(name))

function reduce(body: Buffer, sliceBytes: number): unknown {
  const parts = reduceEvent(body, 0, body.length, namedFields, sliceBytes)
  for (;;) {
    const { done, value } = parts.next()
    if (done === true) return value
  }
}

test('of a name that is given twice the last value counts, however it is spelled', () => {
  const body = Buffer.from(String.raw`{"name":1,"n\u0061me":2,"name":{"a":3}, "value" :[1]}`)
  expect(reduce(body, 1)).toEqual({ name: { a: 3 }, value: [] })
})

test('a name is found whose letters are all escapes, however long it is', () => {
  const escaped = 'properties'.replaceAll(/./g, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`)
  const body = Buffer.from(`{"${escaped}":"text"}`)
  const parts = reduceEvent(body, 0, body.length, [Buffer.from('name'), Buffer.from('properties')], Infinity)
  expect(parts.next()).toEqual({ done: true, value: { properties: 'text' } })
})

test('a text is read in slices as JSON.parse reads it, wherever a slice ends', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 3 }).map((text) => JSON.stringify(text).slice(1, -1)),
    fc.constantFrom(
      String.raw`\ud83d\ude00`,
      String.raw`\udc00`,
      String.raw`\\`,
      String.raw`\"`,
      '\u{10ffff}',
      'é',
    ),
  )
  const text = fc.array(piece).map((pieces) => `"${pieces.join('')}"`)
  fc.assert(
    fc.property(text, text, fc.integer({ min: 1, max: 15 }), (one, other, sliceBytes) => {
      const body = Buffer.from(`{"name": ${one}, "labels":{${other}:${one},"x":-1.5e3 }}`)
      expect(reduce(body, sliceBytes)).toEqual(JSON.parse(body.toString()))
    }),
    { numRuns: casesOf(2_000) },
  )
})

test('a reduced event is judged as the whole event is', () => {
  const scalar = fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.constant(null))
  const anything = fc.oneof(scalar, fc.jsonValue({ maxDepth: 3 }))
  const name = fc.oneof(fc.constantFrom(...names), fc.string({ maxLength: 4 }))
  const event = fc
    .array(fc.tuple(name, fc.oneof(anything, fc.dictionary(fc.string(), anything, { maxKeys: 70 }))))
    .map((members) => ({ name: 'a', value: 1, ...Object.fromEntries(members) }))
  const spaces = fc.constantFrom(0, 1, '\t')
  fc.assert(
    fc.property(
      fc.oneof({ weight: 9, arbitrary: event }, anything),
      spaces,
      fc.boolean(),
      fc.constantFrom(1, 10, Infinity),
      (value, space, escaped, sliceBytes) => {
        const json = JSON.stringify(value, null, space)
        const text = escaped
          ? json.replaceAll('"name"', '"n\\u0061me"').replaceAll('"id"', '"\\u0069d"')
          : json
        const body = Buffer.from(text)
        const whole: unknown = JSON.parse(text)
        const reduced = reduce(body, sliceBytes)
        expect(checkTelemetry(reduced)).toEqual(checkTelemetry(whole))
        expect([keyOf(reduced), identityOf(reduced)]).toEqual([keyOf(whole), identityOf(whole)])
      },
    ),
    { numRuns: casesOf(1_000) },
  )
})

const filler = 'x'.repeat(40_000)
const manyKeys = `{${Array.from({ length: 30_000 }, (_, nth) => `"k${nth}":1`).join(',')}}`

test.each([
  ['a text of escapes', `{"name":"${String.raw`\u0041`.repeat(20_000)}","value":1}`],
  ['a key', `{"name":"a","value":1,"labels":{"${'é'.repeat(60_000)}":null}}`],
  ['a number', `{"name":"a","value":${'1'.repeat(120_000)}}`],
])('an event with %s of 120 KB is read in steps of a slice', (_, text) => {
  for (const kind of ['json', 'ndjson', 'array'] as const) {
    const body = Buffer.from(kind === 'array' ? `[${text}]` : text)
    const schema = compileEventSchema('telemetry')
    const limits = { eventBytes: 1 << 20, eventsPerRequest: 10, depth: 8 }
    const batch = new EventBatch(body, { schema, limits, maxRecordBytes: 1 << 20 })
    let steps = 1
    let left = decodeEvents(body, kind === 'array' ? 'json' : kind, batch, 1_000)
    for (; left !== undefined; steps++) left = left()
    expect(batch.rejected).toBe(1)
    // Once for the syntax, and once for the parts that are looked at.
    expect(steps).toBeGreaterThan(240)
  }
})

/** What becomes of one event, among small ones, that is too large to be parsed in one go. */
function judge(text: string, setting: EventSchemaSetting = 'telemetry', kind: 'json' | 'ndjson' = 'json') {
  const small = '{"name":"a","value":1}'
  const body = Buffer.from(kind === 'json' ? `[${small},${text},${small}]` : `${small}\n${text}\n${small}`)
  const limits = { eventBytes: 1 << 20, eventsPerRequest: 10, depth: 8 }
  const schema = compileEventSchema(setting)
  const batch = new EventBatch(body, { schema, limits, maxRecordBytes: 1 << 20, collectIds: true })
  for (let left = decodeEvents(body, kind, batch, 65_536); left !== undefined;) left = left()
  expect(batch.received).toBe(3)
  return batch
}

describe('a large event', () => {
  test.each(['json', 'ndjson'] as const)('keeps its bytes, key and id, as %s', (kind) => {
    const text = `{"name":"b","x":${manyKeys},"id":"7","source":"d\\u0065","value":1e3,"text":"${filler}"}`
    const batch = judge(text, 'telemetry', kind)
    expect(batch.good).toBe(3)
    expect(batch.body.toString('utf8', batch.ranges.start(1), batch.ranges.end(1))).toBe(text)
    expect(batch.told?.[1]).toMatchObject({ id: '7', source: 'de' })
    const key = batch.ranges.key(1, batch.body)!
    expect(key.toString('utf8', batch.ranges.keyStart(1), batch.ranges.keyEnd(1))).toBe('de')
  })

  test('is told by all digits of a source that is a number', () => {
    for (const setting of ['any', 'page', { file: 'x.json', jsonSchema: {} }] as const) {
      const batch = judge(`{"id":"7","text":"${filler}","source":9007199254740993,"name":"b"}`, setting)
      expect(batch.told?.[1]).toMatchObject({ id: '7', source: '9007199254740993' })
    }
  })

  test.each([
    [`{"name":"b","value":"1","text":"${filler}"}`, 'invalid_event', '/value'],
    [`{"name":"b","value":1,"labels":${manyKeys}}`, 'invalid_event', '/labels'],
    [`{"name":"b","value":1,"labels":{"a":${manyKeys}}}`, 'invalid_event', '/labels/a'],
    [`{"name":"b","value":1,"x":${'['.repeat(20_000)}${']'.repeat(20_000)}}`, 'too_deep', ''],
    [`{"name":"b","value":1,"text":"${filler}","x":[{"__proto__":1}]}`, 'invalid_event', ''],
    [`{"name":"b","value":1,"text":"${'x'.repeat(1 << 20)}"}`, 'event_too_large', ''],
  ])('%.60s… is refused with %s at %s, and no other is', (text, code, pointer) => {
    const batch = judge(text)
    expect(batch.errors).toMatchObject([{ index: 1, code, pointer }])
    expect(batch.good).toBe(2)
  })

  test('is taken whole by a JSON Schema, unless it has too many members', () => {
    const jsonSchema = { type: 'object', required: ['name'] }
    expect(judge(`{"name":"b","text":"${filler}"}`, { file: 'a.json', jsonSchema }).good).toBe(3)
    expect(judge(`{"text":"${filler}"}`, { file: 'a.json', jsonSchema }).errors).toMatchObject([
      { index: 1, code: 'invalid_event' },
    ])
    const manyNumbers = `[1${',1'.repeat(200_000)}]`
    expect(judge(`{"name":"b","x":${manyNumbers}}`, { file: 'a.json', jsonSchema }).errors).toMatchObject([
      { index: 1, code: 'too_complex', detail: 'has 200002 texts and numbers, and 100000 is the most' },
    ])
    expect(judge(`{"name":"b","x":${manyKeys}}`, { file: 'a.json', jsonSchema }).errors).toMatchObject([
      {
        index: 1,
        code: 'too_complex',
        detail: 'has 30004 members, objects and arrays, and 20000 is the most',
      },
    ])
  })

  test('has a quarter of the room where a JSON Schema asks for unique items', () => {
    const schemaOf = (uniqueItems: boolean) => ({
      file: 'a.json',
      jsonSchema: { properties: { x: { uniqueItems } } },
    })
    const textOf = (count: number): string =>
      `{"name":"b","x":[${Array.from({ length: count }, (_, nth) => nth + 10_000).join(',')}]}`
    expect(judge(textOf(24_000), schemaOf(true)).good).toBe(3)
    expect(judge(textOf(26_000), schemaOf(true)).errors).toMatchObject([
      { index: 1, code: 'too_complex', detail: 'has 26001 texts and numbers, and 25000 is the most' },
    ])
    expect(judge(textOf(26_000), schemaOf(false)).good).toBe(3)
    const keys = textOf(6_000).replaceAll(/(\d+)/g, '[$1]')
    expect(judge(keys, schemaOf(true)).errors).toMatchObject([
      { index: 1, code: 'too_complex', detail: 'has 6004 members, objects and arrays, and 5000 is the most' },
    ])
  })

  test('that is not JSON harms no other line', () => {
    const batch = judge(`{"name":"b","value":1,"text":"${filler}"`, 'telemetry', 'ndjson')
    expect(batch.errors).toMatchObject([{ index: 1, code: 'invalid_json' }])
    expect(batch.good).toBe(2)
  })
})
