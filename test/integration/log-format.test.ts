import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { chuteArguments, chuteEnvironment } from '../support/served-gateway.ts'

type Line = Readonly<Record<string, unknown>>

/** Starts a gateway whose Kafka is away, has it refuse a request, and ends it. @returns the lines of its log. */
async function linesOf(format: string): Promise<Line[]> {
  const child = spawn(process.execPath, [...chuteArguments, 'serve'], {
    env: chuteEnvironment({
      PORT: '0',
      DRAIN_DELAY_MS: '0',
      KAFKA_BROKERS: '127.0.0.1:1',
      LOG_FORMAT: format,
    }),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines: Line[] = []
  // Not `onTestFinished`: of tests that run side by side, it can belong to another one, which then ends this gateway.
  try {
    for await (const line of createInterface(child.stdout)) {
      lines.push(JSON.parse(line) as Line)
      const url = /listening on (http:\S+)"/.exec(line)?.[1]
      if (url !== undefined) {
        const headers = { 'x-request-id': 'proxy-1', 'content-type': 'application/json' }
        await fetch(`${url}/v1/streams/none`, { method: 'POST', body: '1', headers })
      }
      if (line.includes('requests were refused')) child.kill('SIGTERM')
    }
    if (child.exitCode === null) await once(child, 'exit')
    return lines
  } finally {
    child.kill('SIGKILL')
  }
}

/** What stands at a path of names, each of which may have dots itself. */
function at(line: Line, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((value, name) => (value as Line | undefined)?.[name], line)
}

const formats = [
  {
    format: 'pino',
    everywhere: { level: 'string', time: 'string', pid: 'number', hostname: 'string', msg: 'string' },
    text: ['msg'],
    refused: [
      [['level'], 'info'],
      [['requestId'], 'proxy-1'],
      [['client'], '127.0.0.0/24'],
      [['code'], 'unknown_stream'],
    ],
  },
  {
    format: 'ecs',
    everywhere: {
      '@timestamp': 'string',
      'log.level': 'string',
      message: 'string',
      'ecs.version': 'string',
      service: 'object',
      host: 'object',
      process: 'object',
    },
    text: ['message'],
    refused: [
      [['log.level'], 'info'],
      [['http', 'request', 'id'], 'proxy-1'],
      [['client', 'address'], '127.0.0.0/24'],
      [['chute', 'code'], 'unknown_stream'],
      [['service', 'name'], 'chute'],
    ],
  },
  {
    format: 'otel',
    everywhere: {
      Timestamp: 'string',
      SeverityText: 'string',
      SeverityNumber: 'number',
      Body: 'string',
      Attributes: 'object',
      Resource: 'object',
    },
    text: ['Body'],
    refused: [
      [['SeverityText'], 'INFO'],
      [['SeverityNumber'], 9],
      [['Attributes', 'chute.requestId'], 'proxy-1'],
      [['Attributes', 'client.address'], '127.0.0.0/24'],
      [['Attributes', 'chute.code'], 'unknown_stream'],
      [['Resource', 'service.name'], 'chute'],
    ],
  },
] as const

test.concurrent.each(formats)(
  'the log has the names of its format on every line: $format',
  { timeout: 120_000 },
  async ({ format, everywhere, text, refused }) => {
    const lines = await linesOf(format)
    expect(lines.length).toBeGreaterThan(3)
    const names = new Set(Object.keys(everywhere))
    for (const line of lines) {
      const types = Object.fromEntries(Object.keys(everywhere).map((name) => [name, typeof line[name]]))
      expect(types).toEqual(everywhere)
      // Nothing of Chute's own stands where the receiver of such lines expects a field of its own.
      const others = Object.keys(line).filter((name) => !names.has(name))
      if (format === 'ecs') expect(['chute', 'client', 'http']).toEqual(expect.arrayContaining(others))
      if (format === 'otel') expect(others).toEqual([])
    }
    const line = lines.find((each) => at(each, ...text) === 'requests were refused')!
    for (const [path, value] of refused) expect([path, at(line, ...path)]).toEqual([path, value])
    expect(at(lines.at(-1)!, ...text)).toMatch(/^stopped: /)
  },
)
