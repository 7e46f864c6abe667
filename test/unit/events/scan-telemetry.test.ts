import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { decodeEvents } from '../../../src/events/decode.ts'
import { EventBatch } from '../../../src/events/event-batch.ts'
import { compileEventSchema, keyOf, type EventSchema } from '../../../src/events/event-schema.ts'
import { findFlaw } from '../../../src/events/json-flaw.ts'
import { TelemetryScanner } from '../../../src/events/scan-telemetry.ts'
import { checkTelemetry } from '../../../src/events/validate-telemetry.ts'
import { goodEvents } from '../../support/good-events.ts'
import { casesOf } from '../../support/forms.ts'

const depth = 4

function scan(text: string): number {
  return new TelemetryScanner().scan(Buffer.from(text), 0, depth)
}

describe('is told from its bytes:', () => {
  test.each([
    '{"name":"a","value":1}',
    '{ "name" : "a" , "value" : -0.5 }',
    '{"value":0,"name":"°C und 😀"}',
    '{"name":"a","value":1,"timestamp":1700000000000,"unit":"C","source":"dé","labels":{"a":"x","b":1.5,"c":true}}',
    '{"name":"a","value":1,"timestamp":"2025-01-31T12:00:00Z","labels":{},"message":"a \\"b\\"\\n\\u00e9"}',
    '{"name":"a","value":1,"other":{"x":[{}],"y":null},"more":[false,[1]],"none":[]}',
    `{"name":"${'n'.repeat(255)}","value":1}`,
  ])('%s', (text) => {
    expect(scan(text)).toBe(Buffer.byteLength(text))
    expect(scan(`${text},`)).toBe(Buffer.byteLength(text))
  })
})

test('a time in the unit of the stream is told from its bytes, and one in another unit is left to the parser', () => {
  const times = { s: '1700000000', ms: '1700000000000', us: '1700000000000000', ns: '1700000000000000000' }
  for (const unit of units) {
    for (const [of, time] of Object.entries(times)) {
      for (const number of [time, `${time}.25`]) {
        const text = `{"name":"a","value":1,"timestamp":${number}}`
        const isTold = unit === 'auto' || unit === of
        expect(new TelemetryScanner(unit).scan(Buffer.from(text), 0, depth)).toBe(isTold ? text.length : -1)
      }
    }
  }
})

describe('is left to the parser:', () => {
  test.each([
    '',
    '7',
    '{}',
    '{"name":"a"}',
    '{"name":"a","value":1',
    '{"name":"a","value":1,}',
    '{"name":"a","value":01}',
    '{"name":"a","value":1e2}',
    '{"name":"a","value":1.}',
    '{"name":"a","value":-}',
    '{"name":"a","value":"1"}',
    '{"name":"a","value":1,"value":"1"}',
    '{"name":"","value":1}',
    '{"name":"a\\n","value":1}',
    '{"name":"a\u0085","value":1}',
    `{"name":"${'n'.repeat(256)}","value":1}`,
    '{"name":"a","value":1,"id":"7"}',
    '{"name":"a","value":1,"timestamp":-1}',
    '{"name":"a","value":1,"timestamp":"yesterday"}',
    '{"name":"a","value":1,"timestamp":9000000000000000}',
    '{"name":"a","value":1,"labels":{"a":null}}',
    '{"name":"a","value":1,"labels":{"a":{}}}',
    '{"name":"a","value":1,"labels":[]}',
    '{"name":"a","value":1,"x":{"x":{"x":{"x":{}}}}}',
    '{"name":"a","value":1,"x":{"__proto__":1}}',
    '{"name":"a","value":1,"constructor":{"prototype":1}}',
    '{"name":"a","value":1,"\\u005f_proto__":1}',
    '{"name":"a","value":1,"x":"\\x"}',
    '{"name":"a","value":1,"x":"\\u00g0"}',
    '{"name":"a","value":1,"x":nul}',
    '{"name":"a","value":1,"x":"tab\there"}',
    '{"name":"a",\n"value":1}',
  ])('%j', (text) => {
    expect(scan(text)).toBe(-1)
  })
})

const units = ['auto', 'ms', 's', 'us', 'ns'] as const

/** Numbers about the years in which a unit is told from the others, in each unit, and others. */
const epochTimes = fc.oneof(
  fc.nat(),
  fc
    .tuple(
      fc.constantFrom(1, 1e3, 1e6, 1e9),
      fc.integer({ min: 900_000_000, max: 4_200_000_000 }),
      fc.constantFrom(0, 0, 0.5),
    )
    .map(([factor, seconds, fraction]) => seconds * factor + fraction),
)

/** Texts that are good events, nearly good ones, and such with a byte of them changed, so that every branch is met. */
const nearlyEvents = (() => {
  const anything = fc.jsonValue({ maxDepth: 3 })
  const field = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
    fc.oneof({ weight: 20, arbitrary }, { weight: 1, arbitrary: anything })
  const time = fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) })
  const plain = fc.stringMatching(/^[ -!#-[\]-~\u00a0-\uffff]{1,20}$/u)
  const short = fc.oneof(
    { weight: 9, arbitrary: plain },
    fc.string({ maxLength: 300, unit: 'binary', size: 'max' }),
  )
  const number = fc.oneof(
    { weight: 9, arbitrary: fc.integer().map((integer) => integer / 8) },
    fc.double({ noNaN: true, noDefaultInfinity: true }),
  )
  const keys = fc.constantFrom('a', 'b', 'c', 'd', 'constructor', 'prototype', '__proto__', 'ü')
  const label = fc.oneof(fc.string(), number, fc.boolean())
  const event = fc
    .record(
      {
        name: field(short),
        value: field(number),
        timestamp: field(
          fc.oneof(
            epochTimes,
            time.map((date) => date.toISOString()),
          ),
        ),
        unit: field(short),
        labels: field(fc.dictionary(plain, label, { maxKeys: 3 })),
        source: field(short),
        id: fc.option(short, { freq: 1, nil: undefined }),
        more: anything,
        other: fc.dictionary(keys, fc.dictionary(keys, anything, { maxKeys: 2 }), { maxKeys: 2 }),
      },
      { requiredKeys: ['name', 'value'] },
    )
    .chain((fields) => {
      const entries = Object.entries(fields)
      const minLength = Math.max(1, entries.length - 1)
      return fc.shuffledSubarray(entries, { minLength }).map((some) => Object.fromEntries(some))
    })
  const spaced = fc.tuple(event, fc.constantFrom('', ' ', '\t')).map(([value, space]) => {
    const text = JSON.stringify(value)
    return space === '' ? text : text.replaceAll(/":(?=[^ ]*)/g, `"${space}:${space}`)
  })
  const alien = fc.constantFrom(
    '"',
    '\\',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '0',
    '1',
    'e',
    '-',
    '.',
    ' ',
    '\n',
    't',
    '\u0085',
  )
  const changed = fc.tuple(spaced, fc.nat(), alien, fc.nat({ max: 1 })).map(([text, at, char, cut]) => {
    const place = at % text.length
    return text.slice(0, place) + char + text.slice(place + cut)
  })
  return fc.oneof(spaced, changed)
})()

test(
  'whatever is told from its bytes is what the parser and the schema say of it',
  { timeout: 60_000 },
  () => {
    const scanners = units.map((unit) => new TelemetryScanner(unit))
    const cases = casesOf(5_000)
    let told = 0
    fc.assert(
      fc.property(nearlyEvents, fc.nat({ max: units.length - 1 }), (text, nth) => {
        const body = Buffer.from(text)
        const scanner = scanners[nth]!
        const end = scanner.scan(body, 0, depth)
        if (end === -1) return
        told++
        const value: unknown = JSON.parse(body.toString('utf8', 0, end))
        expect(findFlaw(value, depth)).toBeNull()
        expect(checkTelemetry(value, units[nth])).toBeNull()
        expect(Object.hasOwn(value as object, 'id')).toBe(false)
        const source = body.toString('utf8', scanner.sourceStart, scanner.sourceEnd)
        expect(source === '' ? null : source).toBe(keyOf(value))
      }),
      { numRuns: cases },
    )
    expect(told, 'the property must not hold for want of cases').toBeGreaterThan(0.03 * cases)
  },
)

test(
  'a request has the same events and errors with and without the scanner, at once and in slices',
  { timeout: 60_000 },
  () => {
    const telemetry = compileEventSchema('telemetry')
    const parsing: EventSchema = { ...telemetry, scanner: null }
    const separators: Readonly<Record<string, readonly [string, string, string]>> = {
      json: ['[', ' ,', ']'],
      ndjson: ['', ' \r\n', '\n\n'],
      text: ['', '\n', '\n'],
    }
    fc.assert(
      fc.property(
        fc.constantFrom('json' as const, 'ndjson' as const, 'text' as const),
        fc.array(nearlyEvents, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 60, max: 400 }),
        fc.integer({ min: 1, max: 200 }),
        (kind, texts, eventsPerRequest, eventBytes, sliceBytes) => {
          const [open, between, close] = separators[kind]!
          const body = Buffer.from(open + texts.join(between) + close)
          const limits = { eventBytes, eventsPerRequest, depth }
          const read = (schema: EventSchema, slice = Infinity): unknown => {
            const batch = new EventBatch(body, { schema, limits, maxRecordBytes: 300 })
            try {
              let left = decodeEvents(body, kind, batch, slice)
              while (left !== undefined) left = left()
            } catch (error) {
              if (error instanceof GatewayError) return [error.code, error.message]
              throw error
            }
            const { received, rejected, errors } = batch
            return { events: goodEvents(batch), received, rejected, errors }
          }
          const parsed = read(parsing)
          expect(read(telemetry)).toEqual(parsed)
          expect(read(telemetry, sliceBytes)).toEqual(parsed)
          expect(read(parsing, sliceBytes)).toEqual(parsed)
        },
      ),
      { numRuns: casesOf(2_000) },
    )
  },
)
