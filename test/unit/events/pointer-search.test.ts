import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toJsonPointer } from '../../../src/events/json-flaw.ts'
import { PointerSearch } from '../../../src/events/pointer-search.ts'
import { casesOf } from '../../support/forms.ts'

/** The JSON at the pointer, as it is written; null where there is none. */
function find(json: string, pointer: string, sliceBytes = Infinity): string | null {
  const body = Buffer.from(` ${json},`)
  const search = new PointerSearch(pointer, sliceBytes)
  search.begin(body, 1)
  let slices = 0
  while (!search.goOn()) if (++slices > body.length * 20) throw new Error('the search does not end')
  return search.end === 0 ? null : body.toString('utf8', search.start, search.end)
}

describe('a pointer finds', () => {
  test.each([
    ['/user/id', '{"a":{"id":1},"user":{"name":"x","id":"u-1"}}', '"u-1"'],
    ['/user/id', '{ "user" :\n{ "id" : 1.50e+2 } }', '1.50e+2'],
    ['/a/1/b', '{"a":[{"b":1},{"b":[2, 3]}]}', '[2, 3]'],
    ['/0', '[{"x":"]"},7]', '{"x":"]"}'],
    ['/1', '{"1":true}', 'true'],
    ['/', '{"":null}', 'null'],
    ['/a~1b/m~0n', '{"a/b":{"m~n":5}}', '5'],
    ['/é', '{"\\u00e9":1}', '1'],
    ['/a"b', '{"a\\"b":1}', '1'],
    ['/a\nb', '{"a\\nb":1}', '1'],
    ['/id', '{"id":1,"id":2}', '2'],
    ['/id', '{"id":1,"i\\u0064":2}', '2'],
    ['/user/id', '{"user":{"id":1},"user":{"id":2}}', '2'],
  ])('%s in %s', (pointer, json, value) => {
    expect(find(json, pointer)).toBe(value)
    expect(find(json, pointer, 1)).toBe(value)
  })
})

describe('a pointer finds nothing', () => {
  test.each([
    ['/user/id', '{"user":{"name":"id"}}'],
    ['/user/id', '{"user":"id"}'],
    ['/user/id', '{"user":{"id":1},"user":{}}'],
    ['/id', '"id"'],
    ['/id', '["id"]'],
    ['/01', '[1,2]'],
    ['/-', '[1,2]'],
    ['/2', '[1,2]'],
    ['/a', '{}'],
    // The name has a backslash and an n. The event's name has a line break.
    ['/a\\nb', '{"a\\nb":1}'],
  ])('%s in %s', (pointer, json) => expect(find(json, pointer)).toBeNull())
})

/** What the pointer leads to in the parsed value. */
function valueAt(value: unknown, path: readonly string[]): unknown {
  let at = value
  for (const step of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined
    if (Array.isArray(at) && !/^\d+$/.test(step)) return undefined
    at = (at as Readonly<Record<string, unknown>>)[step]
  }
  return at
}

test('a pointer finds what JSON.parse has there, in any event and in slices of any size', () => {
  const name = fc.constantFrom('a', 'b', 'id', '0', '1', 'é', 'a/b', 'm~n', '"', '\\', 'a\\nb', '\n', '')
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'medium' },
      fc.oneof(fc.string({ unit: 'binary' }), fc.double({ noNaN: true }), fc.boolean(), fc.constant(null)),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(name, tie('tree'), { maxKeys: 4 }),
    ),
  }))
  const spaced = fc.constantFrom(undefined, 1)
  const path = fc.array(name, { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(tree, path, spaced, fc.integer({ min: 1, max: 40 }), (value, steps, space, sliceBytes) => {
      const json = JSON.stringify(value, null, space)
      const parsed: unknown = JSON.parse(json)
      const found = find(json, toJsonPointer(steps), sliceBytes)
      expect(found === null ? undefined : JSON.parse(found)).toEqual(valueAt(parsed, steps))
    }),
    { numRuns: casesOf(1_000) },
  )
})
