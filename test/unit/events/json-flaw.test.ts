import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { findFlaw } from '../../../src/events/json-flaw.ts'

const nested = (levels: number): unknown =>
  JSON.parse(`${'{"a":['.repeat(levels / 2)}1${']}'.repeat(levels / 2)}`)

describe('findFlaw', () => {
  test('takes what nests as deep as the limit and refuses one level more', () => {
    expect(findFlaw(nested(32), 32)).toBeNull()
    expect(findFlaw(nested(32), 31)).toBe('too_deep')
    expect(findFlaw(nested(100_000), 32)).toBe('too_deep')
  })

  test.each([
    ['{"__proto__":1}', 'proto_key'],
    [String.raw`{"\u005f\u005fproto__":{}}`, 'proto_key'],
    ['{"a":[{"b":{"__proto__":{}}}]}', 'proto_key'],
    ['{"constructor":{"prototype":{}}}', 'constructor_prototype'],
    [String.raw`[{"constructor":{"proto\u0074ype":1}}]`, 'constructor_prototype'],
    ['{"constructor":"x"}', null],
    ['{"constructor":{"name":"x"}}', null],
    ['{"prototype":{}}', null],
    ['{"a":"__proto__"}', null],
    ['"__proto__"', null],
    ['null', null],
  ])('finds in %s: %s', (text, flaw) => {
    expect(findFlaw(JSON.parse(text), 32)).toBe(flaw)
  })

  test('finds a forbidden key wherever it is', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('object', 'array'), { maxLength: 20 }), (path) => {
        let text = '{"x":1,"__proto__":{}}'
        for (const step of path) text = step === 'object' ? `{"a":1,"b":${text}}` : `[null,${text}]`
        expect(findFlaw(JSON.parse(text), 32)).toBe('proto_key')
      }),
    )
  })
})
