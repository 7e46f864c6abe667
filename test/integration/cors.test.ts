import { afterEach, describe, expect, test } from 'vitest'
import { buildEdge, type Edge } from '../support/edge.ts'

const event = '{"name":"page.view","value":1}'
const routes = ['/v1/streams/metrics-realtime', '/v1/beacon/metrics-realtime']
const origin = 'https://shop.example'
let edge: Edge

afterEach(async () => {
  await edge.app.close()
})

describe.each(routes)('%s', (url) => {
  test('echoes an origin that is allowed, for sendBeacon sends credentials', async () => {
    edge = buildEdge({ corsOrigins: [origin] })
    const response = await edge.app.inject({ method: 'POST', url, payload: event, headers: { origin } })
    expect(response.statusCode).toBe(202)
    expect(response.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true',
      vary: 'Origin',
    })
  })

  test('answers its preflight', async () => {
    edge = buildEdge({ corsOrigins: [origin] })
    const headers = {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    }
    const response = await edge.app.inject({ method: 'OPTIONS', url, headers })
    expect(response.statusCode).toBe(204)
    expect(response.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-credentials': 'true',
      'access-control-max-age': '7200',
      vary: 'Origin',
    })
    expect(response.headers['access-control-allow-methods']).toContain('POST')
    expect(response.headers['access-control-allow-headers']).toContain('content-type')
  })

  test.each([
    ['another one', [origin], 'https://evil.example'],
    ['one that only begins the same', [origin], 'https://shop.example.evil'],
    ['another scheme', [origin], 'http://shop.example'],
    ['null', [origin], 'null'],
    ['any, while none is configured', [], origin],
  ])('refuses an origin that is not allowed, and takes nothing: %s', async (_name, corsOrigins, other) => {
    edge = buildEdge({ corsOrigins })
    for (const method of ['POST', 'OPTIONS'] as const) {
      const response = await edge.app.inject({ method, url, payload: event, headers: { origin: other } })
      expect(response.statusCode).toBe(403)
      expect(response.json()).toMatchObject({ code: 'origin_not_allowed' })
      expect(response.headers['access-control-allow-origin']).toBeUndefined()
      expect(response.headers['vary']).toBe('Origin')
    }
    expect(edge.producer.records).toEqual([])
  })

  test('echoes any origin, never *, where * is configured', async () => {
    edge = buildEdge({ corsOrigins: ['*'] })
    const response = await edge.app.inject({ method: 'POST', url, payload: event, headers: { origin } })
    expect(response.headers['access-control-allow-origin']).toBe(origin)
  })

  test('always takes its own origin, and who sends none', async () => {
    edge = buildEdge()
    const own = { host: 'chute.example:8080', origin: 'https://chute.example:8080' }
    expect((await edge.app.inject({ method: 'POST', url, payload: event, headers: own })).statusCode).toBe(
      202,
    )
    expect((await edge.app.inject({ method: 'POST', url, payload: event })).statusCode).toBe(202)
  })

  test.each([
    'traceparent,tracestate,baggage',
    'content-type, sentry-trace, x-requested-with',
    'x-datadog-trace-id',
  ])('allows the headers that tracing adds: %s', async (asked) => {
    edge = buildEdge({ corsOrigins: [origin] })
    const headers = {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': asked,
    }
    const response = await edge.app.inject({ method: 'OPTIONS', url, headers })
    expect(response.statusCode).toBe(204)
    expect(response.headers).toMatchObject({ 'access-control-allow-headers': asked })
  })

  test('echoes no headers that are too many', async () => {
    edge = buildEdge({ corsOrigins: [origin] })
    const headers = { origin, 'access-control-request-headers': 'x-a,'.repeat(1_000) }
    const response = await edge.app.inject({ method: 'OPTIONS', url, headers })
    expect(response.headers['access-control-allow-headers']).toMatch(/^content-type/)
  })

  test.each([
    ['https://*.example.com', 'https://app.example.com', true],
    ['https://*.example.com', 'https://a.b.example.com', true],
    ['https://*.example.com', 'https://APP.example.com:443', true],
    ['https://*.example.com', 'https://example.com', false],
    ['https://*.example.com', 'https://.example.com', false],
    ['https://*.example.com', 'https://evilexample.com', false],
    ['https://*.example.com', 'http://app.example.com', false],
    ['https://*.example.com', 'https://app.example.com:8443', false],
    ['https://*.example.com', 'https://app.example.com.evil.org', false],
    ['http://*.example.com:8080', 'http://app.example.com:8080', true],
    ['https://shop.example', 'https://Shop.example:443', true],
    ['http://shop.example', 'http://shop.example:80', true],
    ['http://shop.example', 'http://shop.example:443', false],
  ])('CORS_ORIGINS=%s and the origin %s: %j', async (configured, other, isAllowed) => {
    edge = buildEdge({ corsOrigins: [configured] })
    const response = await edge.app.inject({
      method: 'POST',
      url,
      payload: event,
      headers: { origin: other },
    })
    expect(response.statusCode).toBe(isAllowed ? 202 : 403)
    if (!isAllowed) expect(response.json<{ detail: string }>().detail).toContain(`"${other}"`)
  })

  test.each([
    ['chute.example', 'https://chute.example'],
    ['chute.example:443', 'https://chute.example'],
    ['Chute.Example:80', 'http://chute.example'],
    ['chute.example', 'https://chute.example:443'],
  ])('Host %s is the own origin %s', async (host, own) => {
    edge = buildEdge()
    const response = await edge.app.inject({
      method: 'POST',
      url,
      payload: event,
      headers: { host, origin: own },
    })
    expect(response.statusCode).toBe(202)
  })

  test('lets a page read a problem too', async () => {
    edge = buildEdge({ corsOrigins: [origin] })
    const response = await edge.app.inject({ method: 'POST', url, payload: '{', headers: { origin } })
    expect(response.statusCode).toBe(400)
    expect(response.headers['access-control-allow-origin']).toBe(origin)
  })
})

test('a page can read that a path or a stream is not there, after its preflight', async () => {
  edge = buildEdge({ corsOrigins: [origin] })
  for (const url of [
    '/v1/streams/none',
    '/v1/strems/metrics-realtime',
    '/v1/streams/a/b',
    '/nowhere',
    '/v1/%zz',
  ]) {
    const response = await edge.app.inject({ method: 'POST', url, payload: event, headers: { origin } })
    expect([url, response.headers['access-control-allow-origin']]).toEqual([url, origin])
    expect(response.headers['access-control-expose-headers']).toContain('idempotency-replayed')
  }
  const asked = {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'content-type',
  }
  const preflight = await edge.app.inject({ method: 'OPTIONS', url: '/v1/strems/a', headers: asked })
  expect(preflight.statusCode).toBe(204)
})
