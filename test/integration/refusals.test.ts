import { afterEach, describe, expect, test, vi } from 'vitest'
import { errorTable, type ErrorCode } from '../../src/errors.ts'
import { EdgeCounters } from '../../src/metrics/edge-counters.ts'
import { buildEdge, FakeTelemetry, fakeLimits, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

let edge: Edge

afterEach(async () => {
  vi.useRealTimers()
  await edge.app.close()
})

const stream = 'metrics-realtime'
const good = '{"name":"a","value":1}'
const query = 'name=a&value=1'
const evil = { origin: 'https://evil.example' }

interface Refusal {
  readonly code: ErrorCode
  readonly payload?: string | Buffer
  readonly headers?: Record<string, string>
  /** Of the pixel; left out: a pixel cannot be refused for it. */
  readonly query?: string
  /** In the place of the stream's name. */
  readonly stream?: string
  readonly http?: Parameters<typeof buildEdge>[0]
  readonly producer?: Partial<FakeProducer>
  /** Requests before it. */
  readonly before?: number
}

const limits = { ...fakeLimits, bodyBytes: 100, eventsPerRequest: 2 }
const kinds: readonly Refusal[] = [
  { code: 'malformed_json', payload: '{"name":' },
  { code: 'invalid_utf8', payload: Buffer.from([0x22, 0xff, 0x22]), query: 'name=%ff' },
  { code: 'empty_body', payload: ' ' },
  { code: 'all_events_invalid', payload: '{"name":"a"}', query: 'name=a' },
  { code: 'origin_not_allowed', headers: evil, query },
  { code: 'unknown_stream', stream: 'none', query },
  { code: 'body_too_large', payload: ' '.repeat(200), http: { limits } },
  { code: 'too_many_events', payload: `[${good},${good},${good}]`, http: { limits } },
  { code: 'unsupported_encoding', headers: { 'content-encoding': 'zstd' } },
  { code: 'invalid_encoding', headers: { 'content-encoding': 'gzip' } },
  { code: 'unsupported_media_type', headers: { 'content-type': 'multipart/form-data' } },
  { code: 'rate_limited', http: { rateLimit: { max: 1, windowMs: 60_000 } }, before: 1, query },
  { code: 'stream_unavailable', producer: { admission: 'not_authorized' }, query },
  { code: 'shutting_down', producer: { admission: 'closing' }, query },
]

/** Sends one request the given way. */
async function send(transport: 'http' | 'beacon' | 'pixel', kind: Refusal) {
  const name = kind.stream ?? stream
  const url = {
    http: `/v1/streams/${name}`,
    beacon: `/v1/beacon/${name}`,
    pixel: `/v1/beacon/${name}.gif?${kind.query}`,
  }[transport]
  const headers = { 'content-type': 'application/json', ...kind.headers }
  return transport === 'pixel'
    ? await edge.app.inject({ method: 'GET', url, headers: kind.headers ?? {} })
    : await edge.app.inject({ method: 'POST', url, headers, payload: kind.payload ?? good })
}

describe.each(['http', 'beacon', 'pixel'] as const)('a request that is refused, by %s', (transport) => {
  test.each(kinds.filter(({ query: of }) => transport !== 'pixel' || of !== undefined))(
    'is counted as $code, once, and a beacon says so in its header',
    async (kind) => {
      const producer = Object.assign(new FakeProducer(), kind.producer)
      edge = buildEdge(kind.http, [producer])
      for (let nth = 0; nth < (kind.before ?? 0); nth++) await send(transport, kind)
      const reply = await send(transport, kind)
      expect(reply.json()).toMatchObject({ code: kind.code, status: errorTable[kind.code].status })
      const isKnown = kind.stream === undefined
      expect(edge.telemetry.refusals).toEqual([{ code: kind.code, transport, stream: isKnown ? stream : '' }])
      const header = reply.headers['chute-error']
      if (transport === 'http') expect(header).toBeUndefined()
      else
        expect(header).toMatch(
          kind.code === 'all_events_invalid'
            ? /^invalid_event; \/value must/
            : new RegExp(`^${kind.code}; .`),
        )
    },
  )
})

test('a path, a method and a URL that no route takes are counted', async () => {
  edge = buildEdge()
  await edge.app.inject({ method: 'POST', url: '/v1/strems/a', payload: good })
  await edge.app.inject({ method: 'GET', url: '/v1/streams/metrics-realtime' })
  await edge.app.inject({ method: 'POST', url: '/v1/beacon/%zz', payload: good })
  expect(edge.telemetry.refusals).toEqual([
    { code: 'not_found', transport: 'http', stream: '' },
    { code: 'method_not_allowed', transport: 'http', stream: '' },
    { code: 'invalid_request', transport: 'beacon', stream: '' },
  ])
})

test('a beacon that is taken in part says in its header what was not', async () => {
  edge = buildEdge()
  const reply = await send('beacon', {
    code: 'invalid_event',
    payload: `[${good},{"name":"a"},{"name":"b"}]`,
  })
  expect(reply.statusCode).toBe(202)
  expect(reply.headers['chute-error']).toBe(
    'invalid_event; /value must be a finite number, got nothing; event 1, 2 of 3 refused',
  )
  expect(edge.telemetry.refusals).toEqual([])
})

test('the header holds nothing but visible ASCII, whatever the client sent, and has an end', async () => {
  edge = buildEdge()
  for (const name of ['\u{1f600}\r\nx: y', 'x'.repeat(5_000)]) {
    const payload = JSON.stringify({ name: 'a', value: 1, labels: { [name]: null } })
    const header = String((await send('beacon', { code: 'invalid_event', payload })).headers['chute-error'])
    expect(header).toMatch(/^invalid_event; [\x20-\x7e]*$/)
    expect(header.length).toBeLessThanOrEqual(300)
  }
})

test('a code has one log line a second, with the number of requests and the network of a client', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  const lines: { code: string; requests?: number }[] = []
  const debugged: object[] = []
  const nothing = (): void => {}
  const logger = {
    debug: (fields: object) => debugged.push(fields),
    info: (fields: object) => lines.push(fields as { code: string }),
    warn: nothing,
    error: nothing,
  }
  edge = buildEdge({ corsOrigins: ['https://shop.example'] }, [new FakeProducer()], {
    logger,
    telemetry: new FakeTelemetry(),
  })
  for (let nth = 0; nth < 50; nth++) await send('http', { code: 'origin_not_allowed', headers: evil })
  await send('http', { code: 'malformed_json', payload: '{' })
  expect(lines.map(({ code, requests }) => [code, requests])).toEqual([
    ['origin_not_allowed', 1],
    ['malformed_json', 1],
  ])
  expect(lines[0]).toMatchObject({
    transport: 'http',
    stream,
    origin: evil.origin,
    client: '127.0.0.0/24',
    allowedOrigins: ['https://shop.example'],
  })
  vi.advanceTimersByTime(1_000)
  expect(lines.slice(2).map(({ code, requests }) => [code, requests])).toEqual([['origin_not_allowed', 49]])
  vi.advanceTimersByTime(5_000)
  expect(lines).toHaveLength(3)
  expect(debugged).toHaveLength(51)
})

test('the counter has every code and transport from zero on, and the streams that were met', () => {
  const counters = new EdgeCounters()
  counters.refused('malformed_json', 'beacon', stream)
  const { refused } = counters.totals()
  expect(refused.filter(({ stream: of }) => of === '')).toHaveLength(3 * Object.keys(errorTable).length)
  expect(refused.filter(({ requests }) => requests > 0)).toEqual([
    { code: 'malformed_json', transport: 'beacon', stream, requests: 1 },
  ])
})
