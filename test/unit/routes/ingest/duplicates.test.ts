import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { GatewayError } from '../../../../src/errors.ts'
import { readIdempotencyKey } from '../../../../src/routes/ingest/duplicates.ts'

test.each([
  ['"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
  ['8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
  [' "with a blank, and a comma" ', 'with a blank, and a comma'],
  [String.raw`"a \"quoted\" \\ text"`, String.raw`a "quoted" \ text`],
  ['order:17/3', 'order:17/3'],
])('%s is %s', (header, key) => {
  expect(readIdempotencyKey(header)).toBe(key)
})

test('there need not be one', () => {
  expect(readIdempotencyKey(undefined)).toBeNull()
})

test.each([
  '',
  '""',
  '"open',
  'two, keys',
  '"two", "keys"',
  'a b',
  'ü',
  String.raw`"\x"`,
  `"${'x'.repeat(256)}"`,
])('what is no key is refused, and not taken for none: %s', (header) => {
  expect(() => readIdempotencyKey(header)).toThrow(GatewayError)
})

test('any visible text can be a key, in quotes', () => {
  const text = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 255 })
  fc.assert(
    fc.property(text, (key) => {
      const quoted = `"${key.replaceAll('\\', String.raw`\\`).replaceAll('"', String.raw`\"`)}"`
      expect(readIdempotencyKey(quoted)).toBe(key)
    }),
  )
})
