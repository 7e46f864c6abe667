import { Writable } from 'node:stream'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { formatOptions } from '../../../src/commands/log-format.ts'
import type { Config } from '../../../src/config/config.ts'

const fault = Object.assign(new TypeError('a is no b'), { stack: 'the stack' })
const fields = { err: fault, requestId: 'r1', traceId: 't1', spanId: 's1', stream: 'web' }

/** The line that a worker writes for `fields`. */
function lineOf(format: Config['logFormat']): Record<string, unknown> {
  const written: string[] = []
  const output = new Writable({
    write(chunk, _encoding, done) {
      written.push(String(chunk))
      done()
    },
  })
  pino({ level: 'info', ...formatOptions(format, 3) }, output).error(fields, 'text')
  return JSON.parse(written.join('')) as Record<string, unknown>
}

test.each([
  [
    'pino',
    { err: { type: 'TypeError' }, requestId: 'r1', traceId: 't1', spanId: 's1', stream: 'web', worker: 3 },
  ],
  [
    'ecs',
    {
      'log.level': 'error',
      error: { type: 'TypeError', message: 'a is no b', stack_trace: 'the stack' },
      http: { request: { id: 'r1' } },
      trace: { id: 't1' },
      span: { id: 's1' },
      chute: { stream: 'web', worker: 3 },
    },
  ],
  [
    'otel',
    {
      SeverityNumber: 17,
      TraceId: 't1',
      SpanId: 's1',
      Attributes: {
        'exception.type': 'TypeError',
        'exception.message': 'a is no b',
        'exception.stacktrace': 'the stack',
        'chute.requestId': 'r1',
        'chute.stream': 'web',
      },
      Resource: { 'chute.worker': 3 },
    },
  ],
] as const)('%s has a place of its own for errors, traces and the worker', (format, expected) => {
  expect(lineOf(format)).toMatchObject(expected)
})

test('a time of otel is in nanoseconds', () => {
  const before = BigInt(Date.now()) * 1_000_000n
  const { Timestamp } = lineOf('otel')
  expect(BigInt(String(Timestamp))).toBeGreaterThanOrEqual(before)
  expect(BigInt(String(Timestamp))).toBeLessThanOrEqual(BigInt(Date.now()) * 1_000_000n)
})
