import { Ajv } from 'ajv'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { compileEventSchema } from '../../../src/events/event-schema.ts'
import { useUniqueItems } from '../../../src/events/unique-items.ts'
import { casesOf } from '../../support/forms.ts'

const own = new Ajv({ strictTypes: false })
useUniqueItems(own)
const schema = { uniqueItems: true }

test('uniqueItems judges arrays as Ajv does', () => {
  const [judge, judgeAsAjv] = [own.compile(schema), new Ajv({ strictTypes: false }).compile(schema)]
  const item = fc.oneof(
    fc.constantFrom(
      0,
      -0,
      1,
      '1',
      '{}',
      {},
      [],
      '[]',
      null,
      'null',
      { a: 1, b: 2 },
      { b: 2, a: 1 },
      [0],
      [-0],
    ),
    fc.jsonValue({ maxDepth: 2 }),
  )
  fc.assert(
    fc.property(fc.array(item, { maxLength: 6 }), (items) => {
      expect(judge(items)).toBe(judgeAsAjv(items))
    }),
    { numRuns: casesOf(2_000) },
  )
})

test('uniqueItems names the items that are the same, and where they are', () => {
  const { check } = compileEventSchema({ file: 'a.json', jsonSchema: { properties: { tags: schema } } })
  expect(check({ tags: ['a', { x: [1], y: 2 }, 'b', { y: 2, x: [1] }] })).toEqual({
    pointer: '/tags',
    detail: 'must NOT have duplicate items (items ## 1 and 3 are identical)',
  })
  expect(check({ tags: 'aa' })).toBeNull()
})

test('a schema that asks for no unique items gets none', () => {
  expect(own.compile({ uniqueItems: false })([1, 1])).toBe(true)
  expect(() => own.compile({ uniqueItems: 'yes' })).toThrow('uniqueItems')
})

test('uniqueItems looks at each item a few times, however many there are', () => {
  const judge = own.compile(schema)
  const count = 5_000
  let reads = 0
  const items = new Proxy(
    Array.from({ length: count }, (_, nth) => nth),
    {
      get(target, name, receiver) {
        reads++
        return Reflect.get(target, name, receiver) as unknown
      },
    },
  )
  expect(judge(items)).toBe(true)
  expect(reads).toBeLessThan(10 * count)
})
