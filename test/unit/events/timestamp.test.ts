import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { isRfc3339 } from '../../../src/events/timestamp.ts'

test('every instant that a Date writes in the years 0 to 9999 is a time of RFC 3339', () => {
  const instants = fc.date({
    min: new Date('0000-01-01T00:00:00Z'),
    max: new Date('9999-12-31T23:59:59Z'),
    noInvalidDate: true,
  })
  fc.assert(fc.property(instants, (instant) => isRfc3339(instant.toISOString())))
})

test.each([
  ['2024-02-29T00:00:00Z', true],
  ['2023-02-29T00:00:00Z', false],
  ['1900-02-29T00:00:00Z', false],
  ['2000-02-29T00:00:00Z', true],
  ['2025-04-31T00:00:00Z', false],
  ['2025-01-01t00:00:00z', true],
  ['2025-01-01 00:00:00+01:00', true],
  ['2025-01-01T24:00:00Z', false],
  ['2025-01-01T00:00Z', false],
  ['2025-01-01T00:00:00.Z', false],
  ['2025-01-01T00:00:00+0100', false],
  ['2025-1-1T00:00:00Z', false],
  ['2025-01-01', false],
  ['', false],
])('%s is a time of RFC 3339: %s', (text, is) => {
  expect(isRfc3339(text)).toBe(is)
})
