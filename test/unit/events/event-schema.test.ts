import { describe, expect, test } from 'vitest'
import { compileEventSchema, identityOf, keyOf } from '../../../src/events/event-schema.ts'

function compile(jsonSchema: unknown): ReturnType<typeof compileEventSchema> {
  return compileEventSchema({ file: 'orders.json', jsonSchema })
}

describe('a schema of a stream', () => {
  test('`any` takes whatever is JSON', () => {
    expect(compileEventSchema('any').check(null)).toBeNull()
  })

  test('`telemetry` is the built-in one', () => {
    expect(compileEventSchema('telemetry').check({ name: 'a' })).toMatchObject({ pointer: '/value' })
  })

  test('of JSON Schema says where an event does not fit and why', () => {
    const { check } = compile({
      type: 'object',
      required: ['id'],
      properties: {
        id: { type: 'string', format: 'uuid' },
        'a/b': { type: 'array', items: { type: 'integer' } },
      },
      additionalProperties: false,
    })
    expect(check({ id: '01890a5d-ac96-774b-bcce-b302099a8057' })).toBeNull()
    expect(check({})).toEqual({ pointer: '', detail: "must have required property 'id'" })
    expect(check({ id: 'x' })).toEqual({ pointer: '/id', detail: 'must match format "uuid"' })
    expect(check({ id: '01890a5d-ac96-774b-bcce-b302099a8057', 'a/b': [1, 'x'] })).toEqual({
      pointer: '/a~1b/1',
      detail: 'must be integer',
    })
    expect(check({ id: '01890a5d-ac96-774b-bcce-b302099a8057', x: 1 })?.detail).toContain('"x"')
  })

  test('of draft 2020-12 has that draft’s keywords', () => {
    const { check } = compile({
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'array',
      prefixItems: [{ type: 'string' }],
      items: false,
    })
    expect(check(['a'])).toBeNull()
    expect(check([1])).toMatchObject({ pointer: '/0' })
  })

  test('never changes an event', () => {
    const event = Object.freeze({})
    const { check } = compile({ type: 'object', properties: { a: { type: 'integer', default: 1 } } })
    expect(check(event)).toBeNull()
    expect(event).toEqual({})
  })

  test.each([
    ['an unknown type', { type: 'strnig' }],
    ['an unknown keyword', { type: 'object', requierd: ['id'] }],
    ['an unknown format', { type: 'string', format: 'telephone' }],
    ['a reference to elsewhere', { $ref: 'https://example.com/other.json' }],
    ['an asynchronous schema', { $async: true, type: 'object' }],
    ['no schema at all', 'object'],
    ['null', null],
  ])('stops the start, naming the file, if it is %s', (_name, jsonSchema) => {
    expect(() => compile(jsonSchema)).toThrow(/^orders\.json: /)
  })
})

describe('the key of a record', () => {
  test.each([
    [{ source: 'device-1' }, 'device-1'],
    [{ source: 'x'.repeat(255) }, 'x'.repeat(255)],
    [{ source: 'x'.repeat(256) }, null],
    [{ source: '😀'.repeat(128) }, '😀'.repeat(128)],
    [{ source: '😀'.repeat(255) }, '😀'.repeat(255)],
    [{ source: '😀'.repeat(256) }, null],
    [{ source: '\ud83d'.repeat(256) }, null],
    [{ source: '' }, null],
    [{ source: 7 }, null],
    [{}, null],
    [null, null],
    ['source', null],
    [[], null],
    [Object.create({ source: 'inherited' }), null],
  ])('of %j is %j', (event, key) => {
    expect(keyOf(event)).toBe(key)
  })
})

test('each source that the built-in schema takes is a key, and each id is an identity', () => {
  const { fits } = compileEventSchema('telemetry')
  for (const character of ['x', 'é', '😀', '\ud83d', 'x😀']) {
    for (const count of [1, 100, 127, 128, 200, 255, 256]) {
      const text = character.repeat(count)
      const isTaken = fits({ name: 'a', value: 1, source: text, id: text })
      expect(keyOf({ source: text })).toBe(isTaken ? text : null)
      expect(identityOf({ id: text, source: 's' })).toEqual(isTaken ? { id: text, source: 's' } : null)
    }
  }
})
