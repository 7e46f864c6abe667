import * as fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { eventFromFields, maxFields } from '../../../../src/routes/ingest/query-event.ts'

test.each([
  ['name=a&value=1.5', '{"name":"a","value":1.5}'],
  ['name=a+b%20c&value=-1e3', '{"name":"a b c","value":-1e3}'],
  ['value=0x10', '{"value":"0x10"}'],
  ['value=Infinity', '{"value":"Infinity"}'],
  ['value=', '{"value":""}'],
  ['value=%201', '{"value":" 1"}'],
  ['timestamp=1735689600000', '{"timestamp":1735689600000}'],
  ['timestamp=2025-01-01T00:00:00Z', '{"timestamp":"2025-01-01T00:00:00Z"}'],
  ['id=7', '{"id":"7"}'],
  ['labels=foo&labels.x=1', '{"labels":"foo","labels.x":"1"}'],
  ['labels.room=k&labels.floor=2', '{"labels":{"room":"k","floor":"2"}}'],
  ['name=a&name=b', '{"name":"b"}'],
  ['__proto__=x', '{"__proto__":"x"}'],
  ['labels.__proto__=x', '{"labels":{"__proto__":"x"}}'],
  ['value=9007199254740993', '{"value":9007199254740993}'],
  ['value=1.10', '{"value":1.10}'],
  ['value=01', '{"value":"01"}'],
  ['timestamp=17356896000001234567', '{"timestamp":17356896000001234567}'],
  ['name=100%&value=1', '{"name":"100%","value":1}'],
  ['name=a%2', '{"name":"a%2"}'],
  ['&&name=a&', '{"name":"a"}'],
  ['name', '{"name":""}'],
  ['a=b=c', '{"a":"b=c"}'],
  ['', '{}'],
])('the fields %s are the event %s', (fields, event) => {
  expect(eventFromFields(Buffer.from(fields)).toString()).toBe(event)
})

test('fields are read as URLSearchParams reads them, where they are UTF-8', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'é', '%', '+', ' ', '&', '=', '4', '\u{1f600}') })
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text)), (pairs) => {
      const fields = new URLSearchParams(pairs.map(([name, value]): [string, string] => [`x${name}`, value]))
      const event = JSON.parse(eventFromFields(Buffer.from(fields.toString())).toString()) as object
      expect(event).toEqual(Object.fromEntries(fields))
    }),
  )
})

test.each(['name=%ff', 'name=%c3', 'n%ff=1', 'name=\u00ff'])(
  '%s, which is not UTF-8, is refused',
  (fields) => {
    expect(() => eventFromFields(Buffer.from(fields, 'latin1'))).toThrow(
      expect.objectContaining({ code: 'invalid_utf8' }),
    )
  },
)

test('empty fields count, so a megabyte of ampersands is refused before it is gone over', () => {
  const fields = Buffer.from(`a=1${'&'.repeat(1_000_000)}b=2`)
  const search = vi.spyOn(fields, 'indexOf')
  expect(() => eventFromFields(fields)).toThrow(expect.objectContaining({ code: 'too_many_fields' }))
  expect(search).toHaveBeenCalledTimes(maxFields)
})

test('there is a limit of fields', () => {
  const fields = (count: number): Buffer => Buffer.from('a=1&'.repeat(count))
  expect(eventFromFields(fields(maxFields)).toString()).toBe('{"a":"1"}')
  expect(() => eventFromFields(fields(maxFields + 1))).toThrow(
    expect.objectContaining({ code: 'too_many_fields' }),
  )
})
