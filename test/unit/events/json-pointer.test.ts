import { expect, test } from 'vitest'
import { shortPointer, toJsonPointer } from '../../../src/events/json-flaw.ts'

// The table of RFC 6901, section 5, as far as it has steps.
test.each([
  [[], ''],
  [['foo'], '/foo'],
  [['foo', 0], '/foo/0'],
  [[''], '/'],
  [['a/b'], '/a~1b'],
  [['m~n'], '/m~0n'],
  [['~1'], '/~01'],
])('the path %j is the pointer %s', (path, pointer) => {
  expect(toJsonPointer(path)).toBe(pointer)
})

test('a pointer to a very long key is cut to one that points to what holds the key', () => {
  expect(shortPointer('/labels/a')).toBe('/labels/a')
  expect(shortPointer(`/labels/${'k'.repeat(2_000)}`)).toBe('/labels')
  expect(shortPointer(`/${'k'.repeat(2_000)}`)).toBe('')
  expect(toJsonPointer(['labels', 'k'.repeat(2_000)])).toBe('/labels')
})
