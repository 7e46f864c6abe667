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

  test('lets a page read a problem too', async () => {
    edge = buildEdge({ corsOrigins: [origin] })
    const response = await edge.app.inject({ method: 'POST', url, payload: '{', headers: { origin } })
    expect(response.statusCode).toBe(400)
    expect(response.headers['access-control-allow-origin']).toBe(origin)
  })
})
