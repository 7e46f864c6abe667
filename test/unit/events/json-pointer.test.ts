import { expect, test } from 'vitest'
import { toJsonPointer } from '../../../src/events/json-pointer.ts'

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
