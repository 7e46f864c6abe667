import { afterEach, describe, expect, test } from 'vitest'
import { sha256OfKey } from '../../src/config/config.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

const page = 'https://shop.example'
const value = 'chk_pub_of_the_shop'
const key = {
  name: 'shop',
  kind: 'public',
  sha256: [sha256OfKey(value)],
  streams: ['reports', 'old'],
  origins: [page],
  sources: null,
  notAfterMs: null,
  limits: null,
  addressLimits: null,
} as const
const violation =
  '{"age":2,"body":{"blockedURL":"inline"},"type":"csp-violation","url":"https://shop.example/","user_agent":"M"}'
const failure = '{"age":0,"body":{"phase":"dns"},"type":"network-error","url":"https://shop.example/a"}'
const oldForm =
  '{"csp-report":{"document-uri":"https://shop.example/","violated-directive":"script-src-elem"}}'

let edge: Edge

function build(): void {
  const reports = new FakeProducer({ name: 'reports', preset: 'reports', schema: 'reports', key: 'none' })
  edge = buildEdge({ keys: [key] }, [reports], { retiredStreams: ['old'] })
}

afterEach(async () => {
  expect(edge.faults).toEqual([])
  await edge.app.close()
})

describe.each(['/v1/streams/reports', '/v1/beacon/reports'])('reports to %s', (path) => {
  const url = `${path}?key=${value}`

  test('answers the preflight of the Reporting API, which has no key in a header', async () => {
    build()
    const headers = {
      origin: page,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    }
    const reply = await edge.app.inject({ method: 'OPTIONS', url, headers })
    expect(reply.statusCode).toBe(204)
    expect(reply.headers).toMatchObject({
      'access-control-allow-origin': page,
      'access-control-allow-headers': 'content-type',
      'access-control-allow-methods': 'POST, GET',
    })
  })

  test.each([
    ['application/reports+json', `[${violation}, ${failure}]`, [violation, failure]],
    ['application/reports+json', violation, [violation]],
    ['application/csp-report', oldForm, [oldForm]],
  ])('makes one record of each report of %s, as it came', async (type, payload, values) => {
    build()
    const headers = { origin: page, 'content-type': type }
    const reply = await edge.app.inject({ method: 'POST', url, payload, headers })
    expect(reply.statusCode).toBe(202)
    expect(edge.producer.records.map((record) => [record.key, record.value])).toEqual(
      values.map((each) => [null, each]),
    )
  })

  test('takes the good reports of a request, and names what is no report', async () => {
    build()
    const headers = { origin: page, 'content-type': 'application/reports+json' }
    const payload = `[${violation},{"name":"a","value":1}]`
    const reply = await edge.app.inject({ method: 'POST', url, payload, headers })
    expect(reply.statusCode).toBe(202)
    expect(edge.producer.values).toEqual([violation])
    expect(edge.telemetry.rejectedBy).toEqual({ invalid_event: 1 })
  })

  test('refuses reports of other pages, and reports without the key', async () => {
    build()
    const sent = async (to: string, origin: string) =>
      await edge.app.inject({ method: 'POST', url: to, payload: violation, headers: { origin } })
    expect((await sent(url, 'https://other.example')).json()).toMatchObject({ code: 'origin_not_allowed' })
    expect((await sent(path, page)).json()).toMatchObject({ code: 'key_missing' })
  })
})

describe('a retired stream', () => {
  test.each([
    ['POST', '/v1/streams/old', 'http'],
    ['POST', '/v1/beacon/old', 'beacon'],
    ['GET', '/v1/beacon/old.gif', 'pixel'],
  ] as const)('is gone (410) for %s %s, and the refusal counts', async (method, path, transport) => {
    build()
    const headers = { origin: page }
    const body = method === 'POST' ? { payload: violation } : {}
    const reply = await edge.app.inject({ method, url: `${path}?key=${value}`, headers, ...body })
    expect(reply.statusCode).toBe(410)
    expect(reply.headers['access-control-allow-origin']).toBe(page)
    expect(reply.json()).toMatchObject({ code: 'stream_retired', status: 410 })
    if (transport !== 'http') expect(reply.headers['chute-error']).toMatch(/^stream_retired; /)
    expect(edge.telemetry.refusals).toEqual([{ code: 'stream_retired', transport, stream: 'old' }])
    expect(edge.telemetry.keys['shop']).toEqual({ accepted: 0, refused: 1 })
  })

  test('still answers preflights: without one a browser would never see that it is gone', async () => {
    build()
    const headers = { origin: page, 'access-control-request-method': 'POST' }
    const reply = await edge.app.inject({ method: 'OPTIONS', url: '/v1/streams/old', headers })
    expect(reply.statusCode).toBe(204)
  })

  test('is none of the streams that a 404 names', async () => {
    build()
    const reply = await edge.app.inject({ method: 'POST', url: `/v1/streams/reports2?key=${value}` })
    expect(reply.json()).toMatchObject({ code: 'key_not_allowed' })
    const open = buildEdge({}, [new FakeProducer()], { retiredStreams: ['old'] })
    const unknown = await open.app.inject({ method: 'POST', url: '/v1/streams/none' })
    expect(unknown.json()).toMatchObject({ code: 'unknown_stream', streams: ['metrics-realtime'] })
    await open.app.close()
  })
})
