import { expect, test } from 'vitest'
import type { RecordHeaderSource } from '../../../../src/config/record-sources.ts'
import { decodeHeaders } from '../../../../src/kafka/protocol/record-format.ts'
import { compileHeaders } from '../../../../src/routes/ingest/chosen-headers.ts'

interface Sent {
  readonly headers?: Readonly<Record<string, string>>
  readonly ip?: string
  readonly keyName?: string
}

/** The headers of a request's records, as text. */
function headersOf(
  sources: Readonly<Record<string, RecordHeaderSource>>,
  { headers = {}, ip = '203.0.113.7', keyName }: Sent = {},
): Record<string, string> | null {
  const encoded = compileHeaders(sources)!({ raw: { headers }, ip }, keyName ?? null)
  if (encoded === null) return null
  return Object.fromEntries(decodeHeaders(encoded).map(({ key, value }) => [key, value.toString()]))
}

const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

test('a stream without headers has nothing to do', () => expect(compileHeaders({})).toBeNull())

test('each source gives its value, in the order of the file', () => {
  const beforeMs = Date.now()
  const found = headersOf(
    {
      traceparent: 'header:traceparent',
      state: 'header:tracestate',
      tenant: 'key:name',
      ip: 'client:address/24',
      whole: 'client:address',
      ua: 'header:user-agent',
      received: 'time',
    },
    { headers: { traceparent, tracestate: 'a=1', 'user-agent': 'curl/8' }, keyName: 'wéb' },
  )!
  const { received, ...others } = found
  expect(Object.entries(others)).toEqual([
    ['traceparent', traceparent],
    ['state', 'a=1'],
    ['tenant', 'wéb'],
    ['ip', '203.0.113.0/24'],
    ['whole', '203.0.113.7'],
    ['ua', 'curl/8'],
  ])
  expect(Number(received)).toBeGreaterThanOrEqual(beforeMs)
  expect(Number(received)).toBeLessThanOrEqual(Date.now())
})

test('what has no value is left out, and a request without any has no headers', () => {
  const sources = {
    tenant: 'key:name',
    a: 'header:x-a',
    ip: 'client:address',
    net: 'client:address/24',
  } as const
  expect(headersOf(sources, { ip: 'unknown' })).toBeNull()
  expect(headersOf(sources, { ip: 'unknown', headers: { 'x-a': '' } })).toBeNull()
  expect(headersOf(sources, { ip: '_hidden', headers: { 'x-a': '1' } })).toEqual({ a: '1' })
})

test.each([
  ['::ffff:203.0.113.7', '203.0.113.7', '203.0.113.0/24'],
  ['203.0.113.7:4711', '203.0.113.7', '203.0.113.0/24'],
  ['[2001:db8:1:2:3:4:5:6]:443', '2001:db8:1:2:3:4:5:6', '2001:db8:1::/48'],
  ['fe80::1%eth0', 'fe80::1%eth0', 'fe80::/48'],
])('the address %s is written whole as %s, and cut as %s', (ip, whole, cut) => {
  expect(headersOf({ whole: 'client:address', cut: 'client:address/24' }, { ip })).toEqual({ whole, cut })
})

test('a value of more than 512 bytes is left out, and not cut', () => {
  const most = 'x'.repeat(512)
  expect(
    headersOf(
      { ua: 'header:user-agent', a: 'header:x-a' },
      { headers: { 'user-agent': most, 'x-a': `${most}x` } },
    ),
  ).toEqual({ ua: most })
})

test('as many and as long headers as there can be have room', () => {
  const names = Array.from({ length: 16 }, (_, n) => `${n}-`.padEnd(64, 'n'))
  const sources = Object.fromEntries(names.map((name) => [name, 'header:x-a' as const]))
  const found = headersOf(sources, { headers: { 'x-a': 'x'.repeat(512) } })
  expect(found).toEqual(Object.fromEntries(names.map((name) => [name, 'x'.repeat(512)])))
})

test('the bytes of a header are written as they came', () => {
  // node:http reads each byte as a character.
  const sent = Buffer.from('Gerät').toString('latin1')
  expect(headersOf({ a: 'header:x-a' }, { headers: { 'x-a': sent } })).toEqual({ a: 'Gerät' })
})

test('a parent that is not as W3C has it is left out, and its state with it', () => {
  const sources = { parent: 'header:traceparent', state: 'header:tracestate', a: 'header:x-a' } as const
  const headers = { traceparent: traceparent.toUpperCase(), tracestate: 'a=1', 'x-a': '1' }
  expect(headersOf(sources, { headers })).toEqual({ a: '1' })
  expect(headersOf(sources, { headers: { tracestate: 'a=1', 'x-a': '1' } })).toEqual({ a: '1' })
  expect(headersOf(sources, { headers: { traceparent, tracestate: 'A', 'x-a': '1' } })).toEqual({
    parent: traceparent,
    a: '1',
  })
  expect(headersOf({ state: 'header:tracestate' }, { headers: { traceparent, tracestate: 'a=1' } })).toEqual({
    state: 'a=1',
  })
})

test('a tracestate of nothing but blanks takes no time', () => {
  const startedMs = performance.now()
  headersOf(
    { state: 'header:tracestate' },
    { headers: { traceparent, tracestate: `a=${' '.repeat(60_000)}b` } },
  )
  expect(performance.now() - startedMs).toBeLessThan(500)
})
