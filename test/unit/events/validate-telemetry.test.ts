import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import type { z } from 'zod'
import { maxLabels, telemetrySchema, telemetrySchemaOf } from '../../../src/events/telemetry-schema.ts'
import { checkTelemetry, isTelemetry, problemOf } from '../../../src/events/validate-telemetry.ts'
import { casesOf } from '../../support/forms.ts'

const event = { name: 'room.temp', value: 21.5 }
const text = (length: number): string => 'x'.repeat(length)

describe('checkTelemetry takes', () => {
  test.each([
    ['the least', event],
    [
      'all fields',
      { ...event, timestamp: 1, unit: 'C', labels: { a: 'x', b: 1, c: true }, source: 's', id: 'i' },
    ],
    ['other fields', { ...event, other: { nested: [1] } }],
    ['255 characters', { ...event, name: text(255) }],
    ['255 characters outside of the BMP', { ...event, name: '😀'.repeat(255) }],
    ['a time with an offset', { ...event, timestamp: '2025-01-31T12:00:00.123+05:30' }],
    ['a leap second', { ...event, timestamp: '2016-12-31T23:59:60Z' }],
    [
      '64 labels',
      { ...event, labels: Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`l${n}`, n])) },
    ],
  ])('%s', (_name, value) => {
    expect(checkTelemetry(value)).toBeNull()
    expect(isTelemetry(value), 'without zod').toBe(true)
  })
})

describe('checkTelemetry refuses, and says where and why:', () => {
  test.each([
    [3, '', 'must be an object, got a number'],
    [null, '', 'must be an object, got null'],
    [[event], '', 'must be an object, got an array'],
    [{ value: 1 }, '/name', 'must be a string, got nothing'],
    [{ ...event, name: '' }, '/name', 'must have 1 to 255 characters and no control characters'],
    [{ ...event, name: text(256) }, '/name', 'must have 1 to 255 characters and no control characters'],
    [{ ...event, name: 'a\nb' }, '/name', 'must have 1 to 255 characters and no control characters'],
    [{ ...event, name: 'a\u0085b' }, '/name', 'must have 1 to 255 characters and no control characters'],
    [{ ...event, value: '21.5' }, '/value', 'must be a finite number, got a string'],
    [{ ...event, value: null }, '/value', /^must be a finite number, got null .*NaN.*; leave the event out/],
    [{ ...event, name: null }, '/name', 'must be a string, got null'],
    [
      { ...event, value: JSON.parse('1e999') as number },
      '/value',
      'must be a finite number, got a number too large for a double',
    ],
    [{ ...event, timestamp: 'yesterday' }, '/timestamp', /RFC 3339/],
    [{ ...event, timestamp: '2025-02-30T00:00:00Z' }, '/timestamp', /RFC 3339/],
    [{ ...event, timestamp: '2025-01-01T00:00:00' }, '/timestamp', /RFC 3339/],
    [{ ...event, timestamp: -1 }, '/timestamp', /time/],
    [{ ...event, timestamp: 1e17 }, '/timestamp', /1970 to 2099 in milliseconds/],
    [{ ...event, timestamp: 1_700_000_000 }, '/timestamp', /looks like seconds.*timestampUnit: s /],
    [
      { ...event, timestamp: 1_700_000_000_000_000 },
      '/timestamp',
      /looks like microseconds.*timestampUnit: us /,
    ],
    [
      { ...event, timestamp: 1_700_000_000_000_000_000 },
      '/timestamp',
      /looks like nanoseconds.*timestampUnit: ns /,
    ],
    [{ ...event, timestamp: null }, '/timestamp', /RFC 3339 .*got null; leave the field out/],
    [{ ...event, unit: null }, '/unit', /got null; leave the field out/],
    [{ ...event, source: null }, '/source', /got null; leave the field out/],
    [{ ...event, id: null }, '/id', /got null; leave the field out/],
    [{ ...event, labels: null }, '/labels', /got null; leave the field out/],
    [{ ...event, labels: { room: null } }, '/labels/room', /got null; leave the field out/],
    [{ ...event, unit: 1 }, '/unit', 'must be a string, got a number'],
    [{ ...event, labels: [] }, '/labels', 'must be an object, got an array'],
    [
      { ...event, labels: { 'a/b~c': {} } },
      '/labels/a~1b~0c',
      'must be a string, a finite number or a boolean, got an object',
    ],
    [
      { ...event, labels: Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`l${n}`, n])) },
      '/labels',
      'must have 64 entries at most',
    ],
    [{ ...event, source: '' }, '/source', 'must have 1 to 255 characters and no control characters'],
    [{ ...event, id: 7 }, '/id', 'must be a string, got a number'],
  ])('%j at %s', (value, pointer, detail) => {
    const problem = checkTelemetry(value)
    expect(problem?.pointer).toBe(pointer)
    expect(problem?.detail).toMatch(detail)
  })
})

describe('zod gets few of many labels', () => {
  const labels = (count: number, label: (nth: number) => unknown): object =>
    Object.fromEntries(Array.from({ length: count }, (_, nth) => [`l${nth}`, label(nth)]))
  const issue = { code: 'invalid_union', path: ['labels', 'l0'] }

  test.each([
    ['bad ones', labels(4000, () => null), [issue]],
    [
      'a bad one behind good ones',
      labels(4000, (nth) => (nth < 3000 ? nth : [])),
      [{ path: ['labels', 'l3000'] }],
    ],
    ['good ones', labels(4000, () => 'a'), [{ path: ['labels'] }]],
    ['bad ones, and a bad name', labels(4000, () => ({})), [{ path: ['name'] }, issue]],
  ])('%s', (name, many, issues) => {
    const value = { ...event, name: name.endsWith('name') ? 7 : 'a', labels: many }
    const whole = problemOf(telemetrySchema.safeParse(value), value)
    const parse = vi.spyOn(telemetrySchema, 'safeParse')
    expect(checkTelemetry(value)).toEqual(whole)
    const [got] = parse.mock.lastCall as [{ labels: object }]
    const { error } = parse.mock.results[0]!.value as z.ZodSafeParseError<unknown>
    parse.mockRestore()
    expect(Object.keys(got.labels).length).toBeLessThanOrEqual(maxLabels + 1)
    expect(error.issues).toMatchObject(issues)
  })
})

test('the fast check and the schema agree on every value', { timeout: 30_000 }, () => {
  const anything = fc.jsonValue({ maxDepth: 2 })
  const time = fc.oneof(
    fc.double(),
    fc.integer(),
    fc
      .tuple(fc.constantFrom(1, 1e3, 1e6, 1e9), fc.integer({ min: 900_000_000, max: 4_200_000_000 }))
      .map(([factor, seconds]) => factor * seconds),
    fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
    fc.stringMatching(/^20\d\d-[01]\d-[0-3]\dT[012]\d:[0-6]\d:[0-6]\d(\.\d)?(Z|[+-][012]\d:[0-6]\d)$/),
  )
  const label = fc.oneof(fc.string(), fc.double(), fc.boolean(), anything)
  const short = fc.oneof(
    { weight: 3, arbitrary: fc.string() },
    fc.string({ unit: 'binary', minLength: 250, maxLength: 260, size: 'max' }),
    anything,
  )
  const field = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
    fc.oneof({ weight: 6, arbitrary }, { weight: 1, arbitrary: anything })
  const almostEvents = fc.record(
    {
      name: field(short),
      value: field(fc.double()),
      timestamp: field(time),
      unit: field(short),
      labels: field(fc.dictionary(fc.string(), label, { maxKeys: 70, size: '+1' })),
      source: field(short),
      id: field(short),
      more: anything,
    },
    { requiredKeys: [] },
  )
  const unit = fc.constantFrom('auto' as const, 'ms' as const, 's' as const, 'us' as const, 'ns' as const)
  fc.assert(
    fc.property(fc.oneof({ weight: 9, arbitrary: almostEvents }, anything), unit, (value, of) => {
      const problem = problemOf(telemetrySchemaOf(of).safeParse(value), value)
      expect(isTelemetry(value, of)).toBe(problem === null)
      expect(checkTelemetry(value, of)).toEqual(problem)
    }),
    { numRuns: casesOf(500) },
  )
})
