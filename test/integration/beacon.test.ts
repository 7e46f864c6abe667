import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

const event = '{"name":"page.view","value":1}'
const url = '/v1/beacon/metrics-realtime'
let edge: Edge

afterEach(async () => {
  expect(edge.faults).toEqual([])
  await edge.app.close()
})

describe('POST /v1/beacon', () => {
  test.each([
    ['a string', 'text/plain;charset=UTF-8', event],
    ['a Blob of JSON', 'application/json', event],
    ['a Blob without a type, or bytes', '', event],
    ['a Blob of some type', 'application/octet-stream', event],
    ['fields of a form', 'application/x-www-form-urlencoded;charset=UTF-8', 'name=page.view&value=1'],
    ['JSON in the guise of a form', 'application/x-www-form-urlencoded', event],
    ['such JSON with a byte order mark', 'application/x-www-form-urlencoded', `\u{feff}${event}`],
  ])('takes %s and answers without a body', async (_name, type, payload) => {
    edge = buildEdge()
    const headers = type === '' ? {} : { 'content-type': type }
    const response = await edge.app.inject({ method: 'POST', url, payload, headers })
    expect(response.statusCode).toBe(202)
    expect(response.body).toBe('')
    expect(edge.producer.values).toEqual([event])
    expect(edge.telemetry.acceptedBy).toEqual({ http: 0, beacon: 1, pixel: 0 })
  })

  test('takes an array', async () => {
    edge = buildEdge()
    await edge.app.inject({ method: 'POST', url, payload: `[${event},${event}]` })
    expect(edge.producer.values).toEqual([event, event])
  })

  test('does not read multipart forms', async () => {
    edge = buildEdge()
    const headers = { 'content-type': 'multipart/form-data; boundary=x' }
    const response = await edge.app.inject({ method: 'POST', url, payload: '--x--', headers })
    expect(response.statusCode).toBe(415)
    // The network panel of a browser shows this header alone.
    expect(response.headers['chute-error']).toContain('new URLSearchParams(new FormData(form))')
  })

  test('drops and counts what finds the buffer full, since nobody would come back', async () => {
    edge = buildEdge()
    edge.producer.hasRoom = false
    const response = await edge.app.inject({ method: 'POST', url, payload: event })
    expect(response.statusCode).toBe(202)
    expect(edge.producer.dropped).toBe(1)
  })

  test('refuses instead where the stream is set to', async () => {
    edge = buildEdge({}, [new FakeProducer({ beaconOnBufferFull: 'reject' })])
    edge.producer.hasRoom = false
    const response = await edge.app.inject({ method: 'POST', url, payload: event })
    expect(response.json()).toMatchObject({ code: 'buffer_full' })
    expect(edge.telemetry.rejectedBy).toEqual({ buffer_full: 1 })
  })
})

describe('GET /v1/beacon/….gif', () => {
  test('takes one event from the query and answers an image that is never cached', async () => {
    edge = buildEdge()
    const query = 'name=page.view&value=1.5&source=s1&labels.page=%2Fhome&campaign=x'
    const response = await edge.app.inject({ url: `${url}.gif?${query}` })
    expect(response.statusCode).toBe(200)
    expect(response.headers).toMatchObject({ 'content-type': 'image/gif', 'content-length': '43' })
    expect(response.headers['cache-control']).toContain('no-store')
    expect(response.rawPayload.toString('latin1', 0, 10)).toBe('GIF89a\u0001\u0000\u0001\u0000')
    expect(edge.producer.records.map(({ key, value }) => [key, value])).toEqual([
      ['s1', '{"name":"page.view","value":1.5,"source":"s1","campaign":"x","labels":{"page":"/home"}}'],
    ])
    expect(edge.telemetry.acceptedBy).toEqual({ http: 0, beacon: 0, pixel: 1 })
  })

  test('finds streams with dots and dashes in their names', async () => {
    edge = buildEdge({}, [new FakeProducer({ name: 'a.b-c_d.gif' })])
    const response = await edge.app.inject({ url: '/v1/beacon/a.b-c_d.gif.gif?name=a&value=1' })
    expect(response.statusCode).toBe(200)
  })

  test.each([
    '',
    '?',
    '?name=a',
    '?name=a&value=x',
    '?name=a&value=1&__proto__=x',
    '?name=a&value=1&labels.__proto__=x',
  ])('refuses the query %s', async (query) => {
    edge = buildEdge()
    const response = await edge.app.inject({ url: `${url}.gif${query}` })
    expect(response.statusCode).toBe(400)
    expect(response.json()).toMatchObject({ code: 'all_events_invalid' })
    expect(edge.telemetry).toMatchObject({ accepted: 0, rejected: 1 })
  })

  test('takes no event for a HEAD', async () => {
    edge = buildEdge()
    const response = await edge.app.inject({ method: 'HEAD', url: `${url}.gif?name=a&value=1` })
    expect(response.statusCode).toBe(405)
    expect(edge.producer.records).toEqual([])
  })
})

describe('a beacon that begins as gzip does', () => {
  const post = async (payload: Buffer, headers: Record<string, string> = {}) =>
    await edge.app.inject({ method: 'POST', url, payload, headers })

  test('is inflated, although no header says so: a page could not set one without a preflight', async () => {
    edge = buildEdge()
    expect((await post(gzipSync(`[${event},${event}]`))).statusCode).toBe(202)
    expect((await post(gzipSync(event), { 'content-type': 'text/plain;charset=UTF-8' })).statusCode).toBe(202)
    expect((await post(gzipSync(event), { 'content-encoding': 'gzip' })).statusCode).toBe(202)
    expect(edge.producer.values).toEqual([event, event, event, event])
  })

  test('is refused where it would inflate to more than a body may have, and where it is no gzip', async () => {
    edge = buildEdge()
    const bomb = gzipSync(Buffer.alloc(fakeLimits.bodyBytes + 1, ' '))
    expect((await post(bomb)).json()).toMatchObject({ code: 'body_too_large', status: 413 })
    const broken = await post(Buffer.from([0x1f, 0x8b, 1, 2, 3]))
    expect(broken.json()).toMatchObject({ code: 'invalid_encoding', status: 400 })
    const cut = await post(gzipSync(event).subarray(0, 20))
    expect(cut.json()).toMatchObject({ code: 'invalid_encoding', status: 400 })
    expect(edge.producer.values).toEqual([])
    // The largest body that may be.
    const text = event + ' '.repeat(fakeLimits.bodyBytes - event.length)
    expect((await post(gzipSync(text))).statusCode).toBe(202)
  })
})

describe('BEACON_PATH', () => {
  test('is another path of the beacon routes, which stay where they are', async () => {
    edge = buildEdge({ beaconPath: '/in', corsOrigins: ['https://shop.example'] })
    const headers = { origin: 'https://shop.example' }
    for (const path of ['/in/metrics-realtime', '/in/metrics-realtime?key=x', url]) {
      const reply = await edge.app.inject({ method: 'POST', url: path, payload: event, headers })
      expect([path, reply.statusCode]).toEqual([path, 202])
    }
    const pixel = await edge.app.inject({ url: '/in/metrics-realtime.gif?name=a&value=1' })
    expect([pixel.statusCode, pixel.headers['content-type']]).toEqual([200, 'image/gif'])
    expect(
      (await edge.app.inject({ method: 'OPTIONS', url: '/in/metrics-realtime', headers })).statusCode,
    ).toBe(204)
    expect(edge.telemetry.acceptedBy).toEqual({ http: 0, beacon: 3, pixel: 1 })
  })

  test('takes no more than the parts below it', async () => {
    edge = buildEdge({ beaconPath: '/in' })
    for (const path of ['/in', '/inn/metrics-realtime', '/v1/in/metrics-realtime'])
      expect((await edge.app.inject({ method: 'POST', url: path, payload: event })).statusCode).toBe(404)
    const refused = await edge.app.inject({ method: 'POST', url: '/in/none', payload: event })
    expect(refused.headers['chute-error']).toMatch(/^unknown_stream; /)
    expect(edge.telemetry.refusals.at(-1)).toMatchObject({ code: 'unknown_stream', transport: 'beacon' })
  })
})
