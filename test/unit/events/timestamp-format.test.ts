import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  epochMsBounds,
  flawOfEpochTime,
  isEpochTime,
  isRfc3339,
  type TimestampUnit,
} from '../../../src/events/timestamp-format.ts'

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

describe('a number is a time', () => {
  const factors = { s: 1, ms: 1e3, us: 1e6, ns: 1e9 } as const
  const units = Object.keys(factors) as (keyof typeof factors)[]
  const seconds = fc.integer({ min: 946_684_800, max: 4_102_444_799 })

  test('of 2000 to 2099 in one unit alone, and in auto', () => {
    fc.assert(
      fc.property(seconds, fc.constantFrom(...units), (time, unit) => {
        const number = time * factors[unit]
        expect(units.filter((each) => isEpochTime(number, each))).toEqual([unit])
        expect(isEpochTime(number, 'auto')).toBe(true)
      }),
    )
  })

  test('of a clock that was not set, in each unit', () => {
    for (const unit of [...units, 'auto'] as const)
      for (const number of [0, 0.5, 12_345, 86_400_000]) expect(isEpochTime(number, unit)).toBe(true)
  })

  test.each<[number, TimestampUnit, RegExp]>([
    [-1, 'ms', /1970/],
    [4_102_444_800_000, 'ms', /2099 in milliseconds/],
    [1_700_000_000_000_000, 'ms', /looks like microseconds.*send milliseconds, or set timestampUnit: us/],
    [1_700_000_000_000, 's', /looks like milliseconds.*send seconds, or set timestampUnit: ms/],
    [1_700_000_000, 'ns', /looks like seconds/],
    [8.64e15, 'ms', /2099/],
    [5_000_000_000, 'auto', /seconds, milliseconds, microseconds, nanoseconds/],
    [1e300, 'auto', /2099/],
  ])('but not %d in %s', (number, unit, flaw) => {
    expect(isEpochTime(number, unit)).toBe(false)
    expect(flawOfEpochTime(number, unit)).toMatch(flaw)
  })
})

test('the contract takes the milliseconds that a stream takes', () => {
  const { minimum, exclusiveMaximum, not } = epochMsBounds
  const fits = (time: number): boolean =>
    time >= minimum && time < exclusiveMaximum && !(time >= not.minimum && time < not.exclusiveMaximum)
  const edges = [minimum, exclusiveMaximum, not.minimum, not.exclusiveMaximum]
  for (const time of [
    ...edges,
    ...edges.map((edge) => edge - 1),
    1_790_000_000_000,
    1_790_000_000,
    1e15,
    1e300,
  ])
    expect([time, fits(time)]).toEqual([time, isEpochTime(time, 'ms')])
})
