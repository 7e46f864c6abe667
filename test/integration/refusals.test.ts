import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { errorTable, type ErrorCode } from '../../src/errors.ts'
import type { StreamConfig } from '../../src/config/config.ts'
import type { DedupeStore } from '../../src/dedupe/dedupe-store.ts'
import { Deduplicator } from '../../src/dedupe/deduplicator.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import type { Producer } from '../../src/kafka/producer/producer.ts'
import { EdgeCounters } from '../../src/metrics/edge-metrics.ts'
import { type EdgeTransport, edgeTransports } from '../../src/metrics/edge-telemetry.ts'
import { buildEdge, FakeTelemetry, fakeLimits, type Edge, limitOf } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { SocketClient } from '../support/socket-client.ts'

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
  /** In the place of the path, by transport; it names no stream then. */
  readonly paths?: Readonly<Record<EdgeTransport, string>>
  readonly method?: 'DELETE'
  /** The edgeTransports that can be refused for it; left out: all. */
  readonly by?: readonly EdgeTransport[]
  readonly http?: Parameters<typeof buildEdge>[0]
  readonly config?: Partial<StreamConfig>
  readonly producer?: Partial<FakeProducer>
  readonly store?: DedupeStore
  /** A request that comes before, and the difference. `waits`: it has no reply yet. */
  readonly before?: { readonly payload?: string; readonly query?: string; readonly waits?: true }
}

const limits = { ...fakeLimits, bodyBytes: 5_000, eventsPerRequest: 2 }
const dedupe = { windowMs: 600_000, maxEntries: 1_000 }
const key = { 'idempotency-key': '"k-1"' }
const manyFields = Array.from({ length: 1_000 }, (_, nth) => `f${nth}=1`).join('&')

const brokenStore: DedupeStore = {
  claim: (_keys, done) => done(new Error('no connection'), [], 0),
  keep() {},
  release() {},
  learn() {},
  unlearn() {},
  size: null,
  forgotten: 0,
}

/** A disk that takes nothing; undecided: nor the removal of what it may have taken. */
function failingDisk(isUndecided: boolean): Producer['durability'] {
  return {
    isLasting: true,
    commit: (listener) => void setImmediate(() => listener.committed('EIO', isUndecided)),
    begin: () => expect.fail('no request is large'),
    note() {},
    noteLater() {},
    readNotes() {},
    whenDecided() {},
  }
}

const kinds: readonly Refusal[] = [
  { code: 'malformed_json', payload: '{"name":' },
  { code: 'invalid_utf8', payload: Buffer.from([0x22, 0xff, 0x22]), query: 'name=%ff' },
  { code: 'empty_body', payload: ' ' },
  { code: 'all_events_invalid', payload: '{"name":"a"}', query: 'name=a' },
  {
    code: 'strict_rejected',
    payload: `[${good},{"name":"a"}]`,
    headers: { prefer: 'handling=strict' },
    by: ['http'],
  },
  { code: 'origin_not_allowed', headers: evil, query },
  { code: 'unknown_stream', stream: 'none', query },
  { code: 'body_too_large', payload: ' '.repeat(6_000), http: { limits } },
  { code: 'too_many_events', payload: `[${good},${good},${good}]`, http: { limits } },
  {
    code: 'too_many_fields',
    payload: manyFields,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    query: manyFields,
    by: ['beacon', 'pixel'],
  },
  { code: 'unsupported_encoding', headers: { 'content-encoding': 'zstd' } },
  { code: 'invalid_encoding', headers: { 'content-encoding': 'gzip' } },
  { code: 'unsupported_media_type', headers: { 'content-type': 'multipart/form-data' } },
  {
    code: 'rate_limited',
    http: { rateLimit: limitOf({ requests: 1, windowMs: 60_000 }) },
    before: {},
    query,
  },
  { code: 'stream_unavailable', producer: { admission: 'not_authorized' }, query },
  { code: 'shutting_down', producer: { admission: 'closing' }, query },
  {
    code: 'buffer_full',
    config: { beaconOnBufferFull: 'reject' },
    producer: { hasRoom: false, openBytes: 0 },
    query,
  },
  { code: 'spool_unavailable', producer: { durability: failingDisk(false) }, query },
  { code: 'spool_undecided', producer: { durability: failingDisk(true) }, query },
  { code: 'invalid_idempotency_key', config: { dedupe }, headers: { 'idempotency-key': 'a, b' }, query },
  { code: 'idempotency_key_missing', config: { dedupe, exactlyOnce: true }, query },
  {
    code: 'idempotency_key_reused',
    config: { dedupe },
    headers: key,
    query,
    before: { payload: '{"name":"b","value":1}', query: 'name=b&value=1' },
  },
  {
    code: 'request_in_progress',
    config: { dedupe, onBufferFull: 'block', beaconOnBufferFull: 'block' },
    producer: { hasRoom: false },
    headers: key,
    query,
    before: { waits: true },
  },
  {
    code: 'id_conflict',
    config: { dedupe },
    payload: '{"name":"a","value":1,"id":"1"}',
    query: 'name=a&value=1&id=1',
    before: { payload: '{"name":"a","value":2,"id":"1"}', query: 'name=a&value=2&id=1' },
  },
  { code: 'dedupe_unavailable', config: { dedupe }, store: brokenStore, headers: key, query },
  {
    code: 'not_found',
    paths: { http: '/v1/strems/a', beacon: '/v1/beacon/a/b', pixel: '/v1/beacon/a/b.gif' },
    query,
  },
  {
    code: 'method_not_allowed',
    paths: {
      http: `/v1/streams/${stream}`,
      beacon: `/v1/beacon/${stream}`,
      pixel: `/v1/beacon/${stream}.gif`,
    },
    method: 'DELETE',
    query,
  },
  {
    code: 'invalid_request',
    paths: { http: '/v1/streams/%zz', beacon: '/v1/beacon/%zz', pixel: '/v1/beacon/%zz.gif' },
    query,
  },
]

function kindsBy(transport: EdgeTransport): readonly Refusal[] {
  return kinds.filter(
    ({ by, query: of }) => by?.includes(transport) ?? (transport !== 'pixel' || of !== undefined),
  )
}

/** Sends one request the given way. */
async function send(transport: EdgeTransport, kind: Refusal) {
  const name = kind.stream ?? stream
  const path =
    kind.paths?.[transport] ??
    {
      http: `/v1/streams/${name}`,
      beacon: `/v1/beacon/${name}`,
      pixel: `/v1/beacon/${name}.gif`,
    }[transport]
  const headers = { 'content-type': 'application/json', ...kind.headers }
  return transport === 'pixel'
    ? await edge.app.inject({
        method: kind.method ?? 'GET',
        url: `${path}?${kind.query}`,
        headers: kind.headers ?? {},
      })
    : await edge.app.inject({
        method: kind.method ?? 'POST',
        url: path,
        headers,
        payload: kind.payload ?? good,
      })
}

/** A gateway that refuses requests of the kind, and its producer. */
function startEdge(kind: Refusal): FakeProducer {
  const producer = Object.assign(new FakeProducer(kind.config), kind.producer)
  const deduplicator = new Deduplicator({
    store: kind.store ?? new MemoryDedupeStore(1_000),
    windowMs: 600_000,
    journal: producer.durability,
    isShared: false,
  })
  const isOn = kind.config?.dedupe !== undefined
  edge = buildEdge(kind.http, [producer], { dedupe: new Map(isOn ? [[stream, deduplicator]] : []) })
  return producer
}

describe.each(edgeTransports)('a request that is refused, by %s', (transport) => {
  test.each(kindsBy(transport))(
    'is counted as $code, once, and a beacon says so in its header',
    async (kind) => {
      const producer = startEdge(kind)
      const { before } = kind
      const first = before === undefined ? null : send(transport, { ...kind, ...before })
      if (before?.waits === true) await vi.waitUntil(() => producer.waiters.length === 1)
      else await first
      const reply = await send(transport, kind)
      expect(reply.json()).toMatchObject({ code: kind.code, status: errorTable[kind.code].status })
      const isKnown = kind.stream === undefined && kind.paths === undefined
      expect(edge.telemetry.refusals).toEqual([{ code: kind.code, transport, stream: isKnown ? stream : '' }])
      const header = reply.headers['chute-error']
      if (transport === 'http') expect(header).toBeUndefined()
      else
        expect(header).toMatch(
          kind.code === 'all_events_invalid'
            ? /^invalid_event; \/value must/
            : new RegExp(`^${kind.code}; .`),
        )
      for (const waiter of producer.waiters) waiter(false)
      await first
    },
  )
})

describe('what is refused before a route has it', () => {
  const cases = [
    [
      'a header that is too large',
      'headers_too_large',
      'http',
      `GET / HTTP/1.1\r\nHost: a\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`,
    ],
    ['what is no HTTP', 'invalid_request', 'http', 'nonsense\r\n\r\n'],
    [
      'a beacon with two hosts',
      'invalid_request',
      'beacon',
      `POST /v1/beacon/${stream} HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n`,
    ],
    [
      'a pixel without a host',
      'invalid_request',
      'pixel',
      `GET /v1/beacon/${stream}.gif?${query} HTTP/1.1\r\n\r\n`,
    ],
    [
      'a body that does not come',
      'body_timeout',
      'http',
      `POST /v1/streams/${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{`,
    ],
    [
      'a beacon that does not come',
      'body_timeout',
      'beacon',
      `POST /v1/beacon/${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{`,
    ],
  ] as const

  test.each(cases)('is counted once: %s', async (_name, code, transport, bytes) => {
    edge = buildEdge({ limits: { ...fakeLimits, bodyTimeoutMs: 200 } })
    await edge.app.listen({ host: '127.0.0.1', port: 0 })
    const client = new SocketClient((edge.app.server.address() as AddressInfo).port, '/')
    client.socket.write(bytes)
    await client.receives(new RegExp(`"code":"${code}"`))
    const isOfRoute = code === 'body_timeout'
    expect(edge.telemetry.refusals).toEqual([{ code, transport, stream: isOfRoute ? stream : '' }])
    const header = /^chute-error: (.*)$/im.exec(client.received)?.[1]
    if (transport === 'http') expect(header).toBeUndefined()
    else expect(header).toMatch(new RegExp(`^${code}; .`))
    client.socket.destroy()
  })
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

test('there are twenty kinds of refusal or more for each transport', () => {
  for (const transport of edgeTransports) {
    const codes = new Set(kindsBy(transport).map(({ code }) => code))
    expect(codes.size).toBeGreaterThanOrEqual(20)
  }
})
