import { expect, test } from 'vitest'
import { eventFromFields } from '../../../src/routes/query-event.ts'

test.each([
  ['name=a&value=1.5', '{"name":"a","value":1.5}'],
  ['name=a+b%20c&value=-1e3', '{"name":"a b c","value":-1000}'],
  ['value=0x10', '{"value":"0x10"}'],
  ['value=Infinity', '{"value":"Infinity"}'],
  ['value=', '{"value":""}'],
  ['value=%201', '{"value":" 1"}'],
  ['timestamp=1735689600000', '{"timestamp":1735689600000}'],
  ['timestamp=2025-01-01T00:00:00Z', '{"timestamp":"2025-01-01T00:00:00Z"}'],
  ['id=7', '{"id":"7"}'],
  ['labels.room=k&labels.floor=2', '{"labels":{"room":"k","floor":"2"}}'],
  ['name=a&name=b', '{"name":"b"}'],
  ['__proto__=x', '{"__proto__":"x"}'],
  ['labels.__proto__=x', '{"labels":{"__proto__":"x"}}'],
  ['name=%ff', '{"name":"\ufffd"}'],
  ['', '{}'],
])('the fields %s are the event %s', (fields, event) => {
  expect(eventFromFields(fields).toString()).toBe(event)
})
