import { afterEach, expect, test } from 'vitest'
import { buildEdge, type Edge } from '../support/edge.ts'

const event = '{"name":"page.view","value":1}'
const request = { method: 'POST', url: '/v1/streams/metrics-realtime', payload: event } as const
let edge: Edge

afterEach(async () => {
  await edge.app.close()
})

test('an address above the limit gets 429 and is told when to come back; others are not harmed', async () => {
  edge = buildEdge({ rateLimit: { max: 2, windowMs: 60_000 } })
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

test('health is never limited, and neither are preflights', async () => {
  edge = buildEdge({ rateLimit: { max: 1, windowMs: 60_000 }, corsOrigins: ['*'] })
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
  edge = buildEdge({ rateLimit: { max: 1, windowMs: 60_000 }, trustProxyHops: 1 })
  expect((await edge.app.inject(from('198.51.100.1'))).statusCode).toBe(202)
  expect((await edge.app.inject(from('203.0.113.9, 198.51.100.1'))).statusCode).toBe(429)
  expect((await edge.app.inject(from('198.51.100.2'))).statusCode).toBe(202)
})

test('a port that a proxy writes behind an address is no part of it', async () => {
  edge = buildEdge({ rateLimit: { max: 1, windowMs: 60_000 }, trustProxyHops: 1 })
  expect((await edge.app.inject(from('203.0.113.9:50001'))).statusCode).toBe(202)
  expect((await edge.app.inject(from('203.0.113.9:50002'))).statusCode).toBe(429)
  expect((await edge.app.inject(from('[2001:db8::1]:50001'))).statusCode).toBe(202)
  expect((await edge.app.inject(from('[2001:db8::2]:50002'))).statusCode).toBe(429)
})

test('without proxies X-Forwarded-For says nothing', async () => {
  edge = buildEdge({ rateLimit: { max: 1, windowMs: 60_000 } })
  expect(
    (await edge.app.inject({ ...request, headers: { 'x-forwarded-for': '198.51.100.1' } })).statusCode,
  ).toBe(202)
  expect(
    (await edge.app.inject({ ...request, headers: { 'x-forwarded-for': '198.51.100.2' } })).statusCode,
  ).toBe(429)
})
