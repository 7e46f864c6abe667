import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ConsumedRecord } from '../../../src/kafka/consumer/consumer.ts'
import { ndjsonLine } from '../../../src/sinks/ndjson.ts'

function recordOf(changes: Partial<ConsumedRecord>): ConsumedRecord {
  const bare = { key: null, value: null, headers: {} }
  return {
    topic: 't',
    partition: 3,
    offset: '9007199254740993',
    timestampMs: 1_700_000_000_000,
    ...bare,
    ...changes,
  }
}

function lineOf(changes: Partial<ConsumedRecord>): Record<string, unknown> {
  return JSON.parse(ndjsonLine(recordOf(changes))) as Record<string, unknown>
}

test('a JSON value stands in the line as it was written', () => {
  const value = Buffer.from('{"n":12345678901234567890,"f":1.0,\n"s":"a\\nb"}')
  expect(ndjsonLine(recordOf({ value, key: Buffer.from('k') }))).toBe(
    '{"topic":"t","partition":3,"offset":"9007199254740993","timestamp":1700000000000,"key":"k",' +
      '"value":{"n":12345678901234567890,"f":1.0, "s":"a\\nb"},"headers":{}}\n',
  )
})

test('what is not JSON says what it is', () => {
  expect(lineOf({ value: Buffer.from('plain\ntext') })).toMatchObject({
    value: 'plain\ntext',
    valueEncoding: 'utf8',
  })
  expect(lineOf({ value: Buffer.from([0xff, 0]) })).toMatchObject({ value: '/wA=', valueEncoding: 'base64' })
  expect(lineOf({ value: null })).toMatchObject({ value: null, valueEncoding: 'none' })
  expect(lineOf({ value: Buffer.from('null') })).not.toHaveProperty('valueEncoding')
  expect(lineOf({ value: Buffer.alloc(0) })).toMatchObject({ value: '', valueEncoding: 'utf8' })
})

test('headers that come twice are a list, and bytes are base64', () => {
  const headers = { a: Buffer.from('x'), b: [Buffer.from('1'), Buffer.from([0xfe])] }
  expect(lineOf({ headers })['headers']).toEqual({ a: 'x', b: ['1', { base64: '/g==' }] })
  expect(lineOf({ key: Buffer.from([0x80]) })['key']).toEqual({ base64: 'gA==' })
})

test('any value makes exactly one line, from which it can be had again', () => {
  const texts = fc.oneof(fc.json(), fc.string()).map((text) => Buffer.from(text))
  const bytes = fc.uint8Array().map((array) => Buffer.from(array))
  fc.assert(
    fc.property(fc.oneof(texts, bytes), (value) => {
      const line = ndjsonLine(recordOf({ value, headers: { '"\n': value } }))
      expect(line.indexOf('\n')).toBe(line.length - 1)
      const read = JSON.parse(line) as { value: string; valueEncoding?: 'utf8' | 'base64' }
      if (read.valueEncoding === undefined) expect(read.value).toEqual(JSON.parse(value.toString()))
      else expect(Buffer.from(read.value, read.valueEncoding).equals(value)).toBe(true)
    }),
    { numRuns: 200 },
  )
})
