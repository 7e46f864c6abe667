import { expect, test } from 'vitest'
import { isTraceparent, isTracestate } from '../../../../src/routes/ingest/trace-context.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const parentId = 'b7ad6b7169203331'

test.each([
  [`00-${traceId}-${parentId}-01`, true],
  [`00-${traceId}-${parentId}-00`, true],
  // A later version may have more behind the flags.
  [`cc-${traceId}-${parentId}-01`, true],
  [`cc-${traceId}-${parentId}-01-what-comes`, true],
  [`00-${traceId}-${parentId}-01-what-comes`, false],
  [`cc-${traceId}-${parentId}-01.what`, false],
  [`ff-${traceId}-${parentId}-01`, false],
  [`00-${'0'.repeat(32)}-${parentId}-01`, false],
  [`00-${traceId}-${'0'.repeat(16)}-01`, false],
  [`00-${traceId.toUpperCase()}-${parentId}-01`, false],
  [`00-${traceId.slice(1)}-${parentId}-01`, false],
  [`00-${traceId}-${parentId}-1`, false],
  [`00-${traceId}-${parentId}-01, 00-${traceId}-${parentId}-01`, false],
  ['', false],
])('%s is a traceparent: %s', (text, is) => expect(isTraceparent(text)).toBe(is))

test.each([
  ['rojo=00f067aa0ba902b7,congo=t61rcWkgMzE', true],
  ['rojo=1 , ,\tcongo=2', true],
  ['fw529a3039@dt=FfLB.-_*/ ~z', true],
  ['a=', false],
  ['=a', false],
  ['A=1', false],
  ['a=b=c', false],
  ['a', false],
  ['', false],
  [' , ', false],
  [Array.from({ length: 33 }, (_, n) => `k${n}=v`).join(','), false],
])('%s is a tracestate: %s', (text, is) => expect(isTracestate(text)).toBe(is))

test('a tracestate of many blanks is judged in one pass', () => {
  const startedMs = performance.now()
  for (const blanks of [`a=1${' '.repeat(100_000)}b`, '\t'.repeat(100_000), `a=1${' \t,'.repeat(30_000)}`])
    isTracestate(blanks)
  expect(performance.now() - startedMs).toBeLessThan(1_000)
})
