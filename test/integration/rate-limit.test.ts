import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { sha256OfKey, type KeyConfig } from '../../src/config/config.ts'
import { buildEdge, type Edge, fakeLimits, limitOf } from '../support/edge.ts'
import { SocketClient } from '../support/socket-client.ts'

const event = '{"name":"page.view","value":1}'
const stream = '/v1/streams/metrics-realtime'
const beacon = '/v1/beacon/metrics-realtime'
const request = { method: 'POST', url: stream, payload: event } as const
let edge: Edge

afterEach(async () => {
  await edge.app.close()
})

test('an address above the limit gets 429 and is told when to come back; others are not harmed', async () => {
  edge = buildEdge({ rateLimit: limitOf({ requests: 2, windowMs: 60_000 }) })
  const { app, producer } = edge
  const first = await app.inject(request)
  expect(first.statusCode).toBe(202)
  expect(first.headers).toMatchObject({
    'ratelimit-policy': '"default";q=2;w=60',
    ratelimit: '"default";r=1;t=60',
  })
  await app.inject({ ...request, url: '/v1/beacon/metrics-realtime' })
  const third = await app.inject(request)
  expect(third.statusCode).toBe(429)
  expect(third.json()).toMatchObject({ code: 'rate_limited', status: 429 })
  expect(Number(third.headers['retry-after'])).toBeGreaterThanOrEqual(1)
  expect(third.headers['ratelimit']).toMatch(/^"default";r=0;t=\d+$/)
  expect(producer.values).toHaveLength(2)
  expect((await app.inject({ ...request, remoteAddress: '192.0.2.7' })).statusCode).toBe(202)
})

test('a reply tells every number that is left exactly, however it compares with the number before', async () => {
  edge = buildEdge({ rateLimit: limitOf({ bytes: 50_010, windowMs: 60_000 }) })
  let left = 50_010
  for (const bytes of [5, 5, 1, 10_000, 9_999, 20_005, 9_985, 1, 9]) {
    const { headers } = await edge.app.inject({ ...request, payload: '1'.padEnd(bytes) })
    left -= bytes
    expect(headers['ratelimit']).toMatch(new RegExp(`^"address-bytes";r=${left};t=\\d+$`))
  }
  expect(left).toBe(0)
})

test('health is never limited, and neither are preflights', async () => {
  edge = buildEdge({ rateLimit: limitOf({ requests: 1, windowMs: 60_000 }), corsOrigins: ['*'] })
  for (let n = 0; n < 5; n++) {
    expect((await edge.app.inject({ url: '/livez' })).statusCode).toBe(200)
    const preflight = {
      method: 'OPTIONS',
      url: request.url,
      headers: { origin: 'https://a.example' },
    } as const
    expect((await edge.app.inject(preflight)).statusCode).toBe(204)
  }
})

test('without a limit there are no headers of one', async () => {
  edge = buildEdge()
  expect((await edge.app.inject(request)).headers).not.toHaveProperty('ratelimit')
})

const from = (forwarded: string) => ({ ...request, headers: { 'x-forwarded-for': forwarded } })

test('an address is what the last trusted proxy saw, and a header of a client is not believed', async () => {
  edge = buildEdge({ rateLimit: limitOf({ requests: 1, windowMs: 60_000 }), trustProxyHops: 1 })
  expect((await edge.app.inject(from('198.51.100.1'))).statusCode).toBe(202)
  expect((await edge.app.inject(from('203.0.113.9, 198.51.100.1'))).statusCode).toBe(429)
  expect((await edge.app.inject(from('198.51.100.2'))).statusCode).toBe(202)
})

test('a port that a proxy writes behind an address is no part of it', async () => {
  edge = buildEdge({ rateLimit: limitOf({ requests: 1, windowMs: 60_000 }), trustProxyHops: 1 })
  expect((await edge.app.inject(from('203.0.113.9:50001'))).statusCode).toBe(202)
  expect((await edge.app.inject(from('203.0.113.9:50002'))).statusCode).toBe(429)
  expect((await edge.app.inject(from('[2001:db8::1]:50001'))).statusCode).toBe(202)
  expect((await edge.app.inject(from('[2001:db8::2]:50002'))).statusCode).toBe(429)
})

test('without proxies X-Forwarded-For says nothing', async () => {
  edge = buildEdge({ rateLimit: limitOf({ requests: 1, windowMs: 60_000 }) })
  expect(
    (await edge.app.inject({ ...request, headers: { 'x-forwarded-for': '198.51.100.1' } })).statusCode,
  ).toBe(202)
  expect(
    (await edge.app.inject({ ...request, headers: { 'x-forwarded-for': '198.51.100.2' } })).statusCode,
  ).toBe(429)
})

test('each refusal tells its own limit, and the time that is left at its moment', async () => {
  let openMs = 0
  const rateLimit = limitOf({ requests: 1, events: 5 })
  edge = buildEdge({ rateLimit }, undefined, {
    limitStore: {
      charge: ({ cost }, done) =>
        done({
          refusedBy: cost.requests === 1 ? 0 : -1,
          usages: [{ requests: 1, events: 5, bytes: 0, openMs }],
        }),
      chargeNow: () => null,
      adopt() {},
    },
  })
  const told: unknown[] = []
  for (const each of [0, 0, 30_500, 30_500, 59_500]) {
    openMs = each
    const reply = await edge.app.inject(request)
    const { detail, limit } = reply.json<{ detail: string; limit: { quantity: string } }>()
    told.push([reply.headers['retry-after'], /after (\d+) s/.exec(detail)?.[1], limit.quantity])
  }
  expect(told).toEqual(['60', '60', '30', '30', '1'].map((seconds) => [seconds, seconds, 'requests']))
  expect(edge.telemetry.refusals).toHaveLength(5)
})

test('clients that are refused in turn are each told of their own limit', async () => {
  const keys = ['one', 'two'].map((name): KeyConfig => ({
    name,
    kind: 'secret',
    sha256: [sha256OfKey(name)],
    streams: ['*'],
    origins: [],
    sources: null,
    notAfterMs: null,
    addressLimits: null,
    limits: limitOf({ requests: 1 }),
  }))
  edge = buildEdge({ keys })
  const send = async (name: string) => await edge.app.inject({ ...request, headers: { 'x-chute-key': name } })
  await send('one')
  await send('two')
  for (const name of ['one', 'one', 'two', 'one', 'two'])
    expect((await send(name)).json()).toMatchObject({
      status: 429,
      detail: expect.stringContaining(`the key ${name} may send 1 requests`),
    })
})

describe('events and bytes', () => {
  const array = (events: number): string =>
    JSON.stringify(Array.from({ length: events }, (_, value) => ({ name: 'a', value })))

  test('events are counted before any is accepted, bad ones too, and the refused request has accepted nothing', async () => {
    edge = buildEdge({ rateLimit: limitOf({ events: 10 }) })
    const { app, producer } = edge
    const mixed = JSON.stringify([{ name: 'a', value: 1 }, { bad: true }, ...JSON.parse(array(4))])
    const first = await app.inject({ ...request, payload: mixed })
    expect(first.json()).toMatchObject({ accepted: 5, rejected: 1 })
    expect(first.headers).toMatchObject({
      'ratelimit-policy': '"address-events";q=10;qu="events";w=60',
      ratelimit: '"address-events";r=4;t=60',
    })
    const refused = await app.inject({ ...request, payload: array(5) })
    expect(refused.statusCode).toBe(429)
    expect(refused.json()).toMatchObject({
      code: 'rate_limited',
      detail: expect.stringMatching(
        /an address may send 10 events in 60000 ms; nothing .* again after \d+ s/,
      ),
      limit: { of: 'address', quantity: 'events', quota: 10, windowMs: 60_000, burst: 1 },
    })
    expect(producer.values).toHaveLength(5)
    expect((await app.inject({ ...request, payload: array(4) })).statusCode).toBe(202)
  })

  test('a body that tells its length is refused before it is read, and one that does not after', async () => {
    edge = buildEdge({ rateLimit: limitOf({ bytes: 100 }) })
    const { app, producer } = edge
    expect((await app.inject({ ...request, payload: '{"name":"a","value":1}'.padEnd(60) })).statusCode).toBe(
      202,
    )
    const told = await app.inject({ ...request, payload: 'x'.repeat(60) })
    expect(told.json()).toMatchObject({ code: 'rate_limited', limit: { quantity: 'bytes' } })
    const untold = Readable.from(['{"name":"a","value":1}'.padEnd(60)])
    const refused = await app.inject({
      ...request,
      payload: untold,
      headers: { 'content-type': 'text/plain' },
    })
    expect(refused.json()).toMatchObject({ code: 'rate_limited', limit: { quantity: 'bytes' } })
    expect(producer.values).toHaveLength(1)
  })

  test('a body counts as it is inflated', async () => {
    edge = buildEdge({ rateLimit: limitOf({ bytes: 1_000 }) })
    const payload = gzipSync('{"name":"a","value":1}'.padEnd(900))
    const headers = { 'content-encoding': 'gzip' }
    expect((await edge.app.inject({ ...request, payload, headers })).statusCode).toBe(202)
    expect((await edge.app.inject({ ...request, payload, headers })).statusCode).toBe(429)
  })

  const left = (headers: Record<string, unknown>): number =>
    Number(/"address-bytes";r=(\d+)/.exec(String(headers['ratelimit']))?.[1])

  test.each([
    [
      'a form that is larger than the JSON made of it',
      beacon,
      Buffer.from(`name=a&value=1&key=${'x'.repeat(600)}`),
      { 'content-type': 'application/x-www-form-urlencoded' },
    ],
    [
      'bytes behind the end of what is inflated',
      stream,
      Buffer.concat([gzipSync('{"name":"a","value":1}'), Buffer.alloc(600)]),
      { 'content-encoding': 'gzip' },
    ],
  ])('a good body of untold length counts as it came: %s', async (_what, url, payload, headers) => {
    edge = buildEdge({ rateLimit: limitOf({ bytes: 1_000 }) })
    const reply = await edge.app.inject({
      ...request,
      url,
      payload: Readable.from([payload]),
      headers: { ...headers, 'transfer-encoding': 'chunked' },
    })
    expect(reply.statusCode).toBe(202)
    expect(left(reply.headers)).toBe(1_000 - payload.length)
  })

  describe('a body that is refused for itself is charged for what came of it', () => {
    const chunked = (text: string | Buffer) => ({
      payload: Readable.from([text]),
      headers: { 'content-type': 'text/plain', 'transfer-encoding': 'chunked' },
    })
    const zipped = (body: Buffer) => ({ payload: body, headers: { 'content-encoding': 'gzip' } })

    test.each([
      ['no JSON, of untold length', stream, chunked('x'.repeat(600)), 'malformed_json', 600],
      ['no JSON, of told length', stream, { payload: 'x'.repeat(600) }, 'malformed_json', 600],
      ['no JSON, inflated', stream, zipped(gzipSync('x'.repeat(700))), 'malformed_json', 700],
      [
        'no gzip, of untold length',
        stream,
        {
          ...chunked('x'.repeat(500)),
          headers: { 'content-encoding': 'gzip', 'transfer-encoding': 'chunked' },
        },
        'invalid_encoding',
        500,
      ],
      ['too many bytes, of untold length', stream, chunked('x'.repeat(900)), 'body_too_large', 900],
      [
        'too many bytes, of told length, of which none is read',
        stream,
        { payload: 'x'.repeat(900) },
        'body_too_large',
        0,
      ],
      ['too many bytes, inflated', stream, zipped(gzipSync('x'.repeat(850))), 'body_too_large', 850],
      [
        'too many bytes of a beacon, inflated',
        beacon,
        { payload: gzipSync('x'.repeat(5_000)) },
        'body_too_large',
        800,
      ],
      [
        'a form of too many fields',
        beacon,
        {
          ...chunked('&'.repeat(700)),
          headers: { 'content-type': 'application/x-www-form-urlencoded', 'transfer-encoding': 'chunked' },
        },
        'too_many_fields',
        700,
      ],
    ])('%s', async (_name, url, body, code, bytes) => {
      edge = buildEdge({
        rateLimit: limitOf({ bytes: 1_000 }),
        limits: { ...fakeLimits, bodyBytes: 800 },
      })
      const reply = await edge.app.inject({ ...request, url, ...body })
      expect(reply.statusCode).toBeGreaterThanOrEqual(400)
      expect(reply.json()).toMatchObject({ code })
      expect(left(reply.headers)).toBe(1_000 - bytes)
    })

    test('as far as the limit has bytes left, and then the next one is refused unread', async () => {
      edge = buildEdge({ rateLimit: limitOf({ bytes: 1_000 }) })
      const codes: string[] = []
      for (let n = 0; n < 3; n++) {
        const reply = await edge.app.inject({ ...request, ...chunked('x'.repeat(600)) })
        codes.push(reply.json<{ code: string }>().code)
        expect(left(reply.headers)).toBe([400, 0, 0][n])
      }
      expect(codes).toEqual(['malformed_json', 'malformed_json', 'rate_limited'])
      expect(edge.rateLimits.limited.address.bytes).toBe(1)
    })

    test('once, where the body was good and its events were not', async () => {
      edge = buildEdge({ rateLimit: limitOf({ bytes: 1_000, events: 10 }) })
      const reply = await edge.app.inject({ ...request, ...chunked('{"bad":true}'.padEnd(300)) })
      expect(reply.statusCode).toBe(400)
      expect(left(reply.headers)).toBe(700)
    })

    test('where its client goes away before its end', async () => {
      edge = buildEdge({ rateLimit: limitOf({ bytes: 1_000 }) })
      await edge.app.listen({ port: 0, host: '127.0.0.1' })
      const { port } = edge.app.server.address() as AddressInfo
      const client = new SocketClient(port, stream)
      const head = `POST ${stream} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`
      client.socket.write(`${head}100\r\n${'x'.repeat(256)}\r\n`)
      await vi.waitUntil(() => edge.bounds.bodies === 1, { timeout: 10_000, interval: 2 })
      client.socket.destroy()
      await vi.waitUntil(() => edge.bounds.bodies === 0, { timeout: 10_000, interval: 2 })
      const next = await edge.app.inject({ ...request, remoteAddress: '127.0.0.1' })
      expect(left(next.headers)).toBe(1_000 - 256 - event.length)
    })
  })

  test('a request that is refused for its events stays counted as a request, since its body was read', async () => {
    edge = buildEdge({ rateLimit: limitOf({ requests: 3, events: 2 }) })
    for (const requestsLeft of [2, 1, 0]) {
      const refused = await edge.app.inject({ ...request, payload: array(3) })
      expect(refused.statusCode).toBe(413)
      expect(refused.headers['ratelimit']).toBe(`"default";r=${requestsLeft};t=60, "address-events";r=2;t=60`)
    }
    expect((await edge.app.inject(request)).json()).toMatchObject({ limit: { quantity: 'requests' } })
  })

  test('a request that no window could take is told to come in parts, and not to come again', async () => {
    edge = buildEdge({ rateLimit: limitOf({ events: 5, burst: 2, bytes: 1_000 }) })
    const events = await edge.app.inject({ ...request, payload: array(11) })
    expect(events.json()).toMatchObject({ status: 413, code: 'too_many_events' })
    const bytes = await edge.app.inject({ ...request, payload: 'x'.repeat(2_001) })
    expect(bytes.json()).toMatchObject({ status: 413, code: 'body_too_large' })
    expect(events.headers).not.toHaveProperty('retry-after')
  })

  test('beacons and pixels are limited as well, and a refused beacon says why in its header', async () => {
    edge = buildEdge({ rateLimit: limitOf({ events: 2 }) })
    const { app, producer } = edge
    const pixel = '/v1/beacon/metrics-realtime.gif?name=a&value=1'
    expect((await app.inject({ ...request, url: '/v1/beacon/metrics-realtime' })).statusCode).toBe(202)
    expect((await app.inject(pixel)).statusCode).toBe(200)
    const refused = await app.inject(pixel)
    expect(refused.statusCode).toBe(429)
    expect(refused.headers['chute-error']).toMatch(/^rate_limited; an address may send 2 events/)
    expect(producer.values).toHaveLength(2)
  })
})

describe('keys', () => {
  const keyed = (name: string, more: Partial<KeyConfig> = {}): KeyConfig => ({
    name,
    kind: 'secret',
    sha256: [sha256OfKey(name)],
    streams: ['*'],
    origins: [],
    sources: null,
    notAfterMs: null,
    limits: null,
    addressLimits: null,
    ...more,
  })
  const by = (key: string, remoteAddress = '192.0.2.1') => ({
    ...request,
    remoteAddress,
    headers: { 'x-chute-key': key },
  })

  test('a key has its limit whatever its address is, and an address whatever its keys are', async () => {
    const keys = [keyed('busy', { limits: limitOf({ requests: 2 }) }), keyed('other')]
    edge = buildEdge({ keys, rateLimit: limitOf({ requests: 3 }) })
    const { app } = edge
    const first = await app.inject(by('busy'))
    expect(first.headers).toMatchObject({
      'ratelimit-policy': '"key-requests";q=2;w=60, "default";q=3;w=60',
      ratelimit: '"key-requests";r=1;t=60, "default";r=2;t=60',
    })
    await app.inject(by('busy', '192.0.2.2'))
    const refused = await app.inject(by('busy'))
    expect(refused.json()).toMatchObject({
      status: 429,
      detail: expect.stringContaining('the key busy may send 2 requests'),
      limit: { of: 'key' },
    })
    // What the key was refused was not charged to the address.
    expect((await app.inject(by('other'))).statusCode).toBe(202)
    expect((await app.inject(by('other'))).statusCode).toBe(202)
    expect((await app.inject(by('other'))).json()).toMatchObject({ status: 429, limit: { of: 'address' } })
  })

  test('each address that uses a key can have a limit of its own', async () => {
    edge = buildEdge({ keys: [keyed('web', { addressLimits: limitOf({ requests: 1 }) })] })
    const { app } = edge
    expect((await app.inject(by('web'))).headers['ratelimit-policy']).toBe('"key-address-requests";q=1;w=60')
    expect((await app.inject(by('web', '192.0.2.2'))).statusCode).toBe(202)
    expect((await app.inject(by('web'))).json()).toMatchObject({
      status: 429,
      detail: expect.stringContaining('an address with web may send 1 requests'),
    })
  })

  test('addresses of the allow-list have no limit, and their keys have theirs', async () => {
    const keys = [keyed('web', { limits: limitOf({ requests: 3 }), addressLimits: limitOf({ requests: 1 }) })]
    const rateLimitAllow = ['192.0.2.0/24', '2001:db8::7', '::ffff:198.51.100.0/120']
    edge = buildEdge({ keys, rateLimit: limitOf({ requests: 1 }), rateLimitAllow })
    const codes: number[] = []
    for (const address of ['192.0.2.1', '::ffff:192.0.2.1', '198.51.100.7', '192.0.2.1'])
      codes.push((await edge.app.inject(by('web', address))).statusCode)
    expect(codes).toEqual([202, 202, 202, 429])
    expect(
      ['2001:db8::7', '::ffff:198.51.100.8', '198.51.101.8'].map(
        (address) => edge.rateLimits.lookUp(address).isAllowed,
      ),
    ).toEqual([true, true, false])
  })

  test('limits can be replaced while requests come, and what was counted stays', async () => {
    edge = buildEdge({ rateLimit: limitOf({ requests: 2 }) })
    const { app, rateLimits } = edge
    for (let n = 0; n < 2; n++) await app.inject(request)
    expect((await app.inject(request)).statusCode).toBe(429)
    rateLimits.reload({ rateLimit: limitOf({ requests: 3 }), rateLimitAllow: [] })
    expect((await app.inject(request)).statusCode).toBe(202)
    expect((await app.inject(request)).statusCode).toBe(429)
    rateLimits.reload({ rateLimit: null, rateLimitAllow: [] })
    expect((await app.inject(request)).headers).not.toHaveProperty('ratelimit')
  })
})
