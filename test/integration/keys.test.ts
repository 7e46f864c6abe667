import { createHash } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { HttpConfig, KeyConfig } from '../../src/config/config.ts'
import { decodeHeaders } from '../../src/kafka/protocol/record-format.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { SocketClient } from '../support/socket-client.ts'

const event = '{"name":"page.view","value":1}'
const stream = '/v1/streams/metrics-realtime'
const page = 'https://app.example.com'
let edge: Edge

afterEach(async () => {
  await edge.app.close()
})

/** Every key is `value-of-NAME`, and whatever a test says. */
function key(name: string, more: Partial<KeyConfig> = {}): KeyConfig {
  return {
    name,
    kind: 'secret',
    sha256: [sha256(`value-of-${name}`)],
    streams: ['metrics-realtime'],
    origins: [],
    sources: null,
    notAfterMs: null,
    limits: null,
    addressLimits: null,
    ...more,
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function open(keys: readonly KeyConfig[], http: Partial<HttpConfig> = {}): Edge {
  edge = buildEdge({ keys, ...http }, [new FakeProducer()], {
    admin: (app) => void app.get('/metrics', async () => 'the numbers'),
  })
  return edge
}

async function send(
  headers: Record<string, string> = {},
  url = stream,
  method: 'POST' | 'GET' | 'OPTIONS' = 'POST',
) {
  return await edge.app.inject({ method, url, headers, ...(method === 'POST' && { payload: event }) })
}

const bearer = (name: string) => ({ authorization: `Bearer value-of-${name}` })
const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` })

describe('the forms of a key', () => {
  test.each([
    ['Bearer', bearer('web'), ''],
    ['bearer, since a scheme has no case', { authorization: 'bearer value-of-web' }, ''],
    ['Basic, as the user', basic('value-of-web:'), ''],
    ['Basic, as the password', basic(':value-of-web'), ''],
    ['Token', { authorization: 'Token value-of-web' }, ''],
    ['X-Chute-Key', { 'x-chute-key': 'value-of-web' }, ''],
    ['the query', {}, '?key=value-of-web'],
    ['the query, escaped', {}, '?a=b&key=value%2Dof-web'],
    [
      'the query, beside an Authorization that a browser sent of its own accord',
      basic('someone:secret'),
      '?key=value-of-web',
    ],
    [
      'X-Chute-Key, beside an Authorization of a proxy',
      { ...basic('proxy:secret'), 'x-chute-key': 'value-of-web' },
      '',
    ],
    ['Bearer, beside an empty X-Chute-Key', { ...bearer('web'), 'x-chute-key': '' }, ''],
    ['Bearer, beside an empty key in the query', bearer('web'), '?key='],
    ['the query, beside an empty X-Chute-Key', { 'x-chute-key': '' }, '?key=value-of-web'],
  ])('%s', async (_form, headers, query) => {
    open([key('web')])
    for (const path of [stream, '/v1/beacon/metrics-realtime']) {
      const response = await send(headers, path + query)
      expect(response.statusCode).toBe(202)
    }
    expect(edge.telemetry.keys).toEqual({ web: { accepted: 2, refused: 0 } })
  })

  test('a pixel has it in its query, and the key is no part of the event', async () => {
    open([key('web')])
    const response = await send({}, '/v1/beacon/metrics-realtime.gif?name=a&value=1&key=value-of-web', 'GET')
    expect(response.statusCode).toBe(200)
    expect(edge.producer.records.map(({ value }) => value)).toEqual(['{"name":"a","value":1}'])
  })

  test.each([
    ['none', {}, '', 'key_missing'],
    ['an empty Authorization', { authorization: '' }, '', 'key_missing'],
    ['a scheme that is none of ours', { authorization: 'Digest value-of-web' }, '', 'key_missing'],
    ['the key without a scheme', { authorization: 'value-of-web' }, '', 'key_missing'],
    ['another value', { authorization: 'Bearer other' }, '', 'key_unknown'],
    ['an empty X-Chute-Key', { 'x-chute-key': '' }, '', 'key_missing'],
    ['an X-Chute-Key of spaces', { 'x-chute-key': '  ' }, '', 'key_missing'],
    ['an empty key in the query', {}, '?key=', 'key_missing'],
    ['Basic with neither user nor password', basic(':'), '', 'key_missing'],
    ['an empty X-Chute-Key beside a wrong key', { ...bearer('other'), 'x-chute-key': '' }, '', 'key_unknown'],
    ['the hash of the value', { authorization: `Bearer ${sha256('value-of-web')}` }, '', 'key_unknown'],
    ['the name of the key', { authorization: 'Bearer web' }, '', 'key_unknown'],
    ['a member of every object', { authorization: 'Bearer __proto__' }, '', 'key_unknown'],
    ['a key in a cookie', { cookie: 'key=value-of-web' }, '', 'key_missing'],
    [
      'a wrong one in the query beside a good one in Authorization',
      bearer('web'),
      '?key=other',
      'key_unknown',
    ],
  ])('what is none: %s', async (_form, headers, query, code) => {
    open([key('web')])
    for (const path of [stream, '/v1/beacon/metrics-realtime']) {
      const response = await send(headers, path + query)
      expect(response.statusCode).toBe(401)
      expect(response.json()).toMatchObject({ code })
      expect(response.headers['www-authenticate']).toMatch(/^Bearer realm="chute"/)
    }
    expect(edge.producer.records).toEqual([])
    expect(edge.telemetry.refusals.map((refusal) => refusal.code)).toEqual([code, code])
  })
})

describe('what a key may do', () => {
  const keys = [
    key('public', { kind: 'public', origins: [page] }),
    key('prefix', { streams: ['metrics-*'] }),
    key('all', { streams: ['*'] }),
    key('other', { streams: ['web', 'metrics-real'] }),
    key('admin', { kind: 'admin', streams: [] }),
    key('ended', { notAfterMs: Date.parse('2020-01-01') }),
    key('lasting', { notAfterMs: Date.parse('2200-01-01') }),
  ]

  test.each([
    ['prefix', {}, null],
    ['all', {}, null],
    ['lasting', {}, null],
    ['public', {}, null],
    ['public', { origin: page }, null],
    ['public', { origin: 'https://app.example.com:443' }, null],
    // The page is one of CORS_ORIGINS, and this key has origins of its own.
    ['public', { origin: 'https://cors.example.com' }, 'key_not_allowed'],
    ['all', { origin: 'https://cors.example.com' }, null],
    // The page may send with another key only.
    ['all', { origin: page }, 'key_not_allowed'],
    ['all', { origin: 'https://evil.example.com' }, 'origin_not_allowed'],
    ['other', {}, 'key_not_allowed'],
    ['admin', {}, 'key_not_allowed'],
    ['ended', {}, 'key_unknown'],
  ])('%s with %j: %s', async (name, headers, code) => {
    open(keys, { corsOrigins: ['https://cors.example.com'] })
    const { statusCode, body, headers: replied } = await send({ ...bearer(name), ...headers })
    expect(code === null ? statusCode : (JSON.parse(body) as { code: string }).code).toBe(code ?? 202)
    expect(edge.producer.records.length).toBe(code === null ? 1 : 0)
    const { origin } = headers as { origin?: string }
    // A page can read why its key is refused.
    if (origin !== undefined && code !== 'origin_not_allowed')
      expect(replied['access-control-allow-origin']).toBe(origin)
  })

  test('a preflight needs no key, for a page of any key', async () => {
    open(keys)
    for (const path of [stream, '/v1/beacon/metrics-realtime']) {
      const response = await edge.app.inject({
        method: 'OPTIONS',
        url: path,
        headers: {
          origin: page,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization',
        },
      })
      expect(response.statusCode).toBe(204)
      expect(response.headers['access-control-allow-headers']).toBe('authorization')
    }
  })

  test('a key that is rotated has two values for a while', async () => {
    open([key('web', { sha256: [sha256('old'), sha256('new')] })])
    for (const value of ['old', 'new']) expect((await send({ 'x-chute-key': value })).statusCode).toBe(202)
    expect(edge.telemetry.keys).toEqual({ web: { accepted: 2, refused: 0 } })
  })

  test('nobody without a good key learns which streams there are', async () => {
    open(keys)
    const without = await send({}, '/v1/streams/nope')
    const wrong = await send(bearer('other'), '/v1/streams/nope')
    expect([without.json().code, wrong.json().code]).toEqual(['key_missing', 'key_not_allowed'])
    expect(without.body + wrong.body).not.toContain('metrics-realtime')
  })

  test('no key is needed where there are none', async () => {
    open([])
    expect((await send()).statusCode).toBe(202)
    expect((await send(bearer('web'))).statusCode).toBe(202)
  })
})

describe('one connection', () => {
  /** Sends events over one connection, each behind the answer to the one before. @param heads without the length of the body. */
  async function answersTo(heads: readonly string[]): Promise<number[]> {
    const { port } = edge.app.server.address() as AddressInfo
    const client = new SocketClient(port, stream)
    for (const [nth, head] of heads.entries()) {
      client.socket.write(`${head}Content-Length: ${event.length}\r\n\r\n${event}`)
      await vi.waitUntil(() => client.statuses.length === nth + 1, { timeout: 10_000, interval: 2 })
    }
    client.socket.destroy()
    return client.statuses
  }

  test('has a key of its own in each request, whatever the request before had', async () => {
    open([key('web'), key('other', { streams: ['other'] }), key('ended', { notAfterMs: 1 })])
    await edge.app.listen({ port: 0, host: '127.0.0.1' })
    const own = (name: string): string => `X-Chute-Key: value-of-${name}\r\n`
    const authorization = (name: string): string => `Authorization: Bearer value-of-${name}\r\n`
    const sent = [
      ['', own('web'), 202],
      ['', own('web'), 202],
      ['', own('nobody'), 401],
      ['', own('nobody'), 401],
      ['', own('web'), 202],
      ['', '', 401],
      ['', '', 401],
      ['', own('other'), 403],
      ['', own('other'), 403],
      ['', own('ended'), 401],
      ['', own('ended'), 401],
      ['', authorization('web'), 202],
      ['', authorization('web') + own('nobody'), 401],
      ['', authorization('web'), 202],
      ['?key=value-of-web', '', 202],
      ['?key=value-of-web', '', 202],
      ['?key=value-of-nobody', authorization('web'), 401],
      ['?kei=value-of-web', '', 401],
      // The same text in another place.
      ['', 'X-Chute-Key: key=value-of-web\r\n', 401],
      ['', 'Authorization: value-of-web\r\n', 401],
      ['', 'X-Chute-Key: Bearer value-of-web\r\n', 401],
      ['', own('web'), 202],
    ] as const
    const statuses = await answersTo(
      sent.map(([query, lines]) => `POST ${stream}${query} HTTP/1.1\r\nHost: a\r\n${lines}`),
    )
    expect(statuses).toEqual(sent.map(([, , status]) => status))
  })

  test('may write what its key allows, whatever the request before was allowed', async () => {
    open([key('web', { origins: [page] }), key('any')], { corsOrigins: ['https://cors.example.com'] })
    await edge.app.listen({ port: 0, host: '127.0.0.1' })
    const origin = (text: string): string => `Origin: ${text}\r\n`
    const sent = [
      ['metrics-realtime', 'web', '', 202],
      ['metrics-realtime', 'web', '', 202],
      ['metrics-realtime', 'web', origin(page), 202],
      ['metrics-realtime', 'web', origin(page), 202],
      ['metrics-realtime', 'web', origin('https://cors.example.com'), 403],
      ['metrics-realtime', 'web', origin(page), 202],
      ['metrics-other', 'web', origin(page), 403],
      ['metrics-realtime', 'any', origin(page), 403],
      ['metrics-realtime', 'any', origin('https://cors.example.com'), 202],
      ['metrics-realtime', 'web', origin('https://cors.example.com'), 403],
      ['metrics-realtime', 'any', origin('https://cors.example.com'), 202],
      ['metrics-other', 'any', origin('https://cors.example.com'), 403],
      // The gateway's own page, which goes by the Host of each request.
      ['metrics-realtime', 'any', `${origin('http://own.example.com')}Host: own.example.com\r\n`, 202],
      ['metrics-realtime', 'any', `${origin('http://own.example.com')}Host: own.example.com\r\n`, 202],
      ['metrics-realtime', 'any', `${origin('http://own.example.com')}Host: a\r\n`, 403],
      ['metrics-realtime', 'web', `${origin('http://own.example.com')}Host: own.example.com\r\n`, 403],
    ] as const
    const statuses = await answersTo(
      sent.map(([name, keyName, lines]) => {
        const host = lines.includes('Host: ') ? '' : 'Host: a\r\n'
        return `POST /v1/streams/${name} HTTP/1.1\r\n${host}${lines}X-Chute-Key: value-of-${keyName}\r\n`
      }),
    )
    expect(statuses).toEqual(sent.map(([, , , status]) => status))
  })

  test('is judged by the keys of a reload from its next request on, and by the end of a key', async () => {
    open([key('web'), key('soon', { notAfterMs: Date.now() + 60_000 })])
    await edge.app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = edge.app.server.address() as AddressInfo
    const client = new SocketClient(port, stream)
    const statuses: number[] = []
    const sendWith = async (name: string): Promise<void> => {
      client.received = ''
      client.post(event, [`X-Chute-Key: value-of-${name}`])
      await client.receives(/HTTP\/1\.1 /)
      statuses.push(...client.statuses)
    }
    await sendWith('web')
    await sendWith('web')
    edge.reload({ keys: [key('new')] })
    await sendWith('web')
    await sendWith('new')
    edge.reload({ keys: [key('web'), key('soon', { notAfterMs: Date.now() + 60_000 })] })
    await sendWith('new')
    await sendWith('soon')
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 60_001 })
    onTestFinished(() => void vi.useRealTimers())
    await sendWith('soon')
    await sendWith('web')
    edge.reload({ keys: [key('web', { streams: ['other'] })] })
    await sendWith('web')
    client.socket.destroy()
    expect(statuses).toEqual([202, 202, 401, 202, 401, 202, 401, 202, 403])
  })
})

describe('sources', () => {
  const events = [
    '{"name":"a","value":1,"source":"pump-7"}',
    '{"name":"a","value":1,"source":"hall-2-x"}',
    '{"name":"a","value":1}',
    '{"name":"a","value":1,"source":"pump-8"}',
    String.raw`{"name":"a","value":1,"source":"pump-\u0038"}`,
    String.raw`{"name":"a","value":1,"source":"pump\u002d7"}`,
    '{"name":"a","value":1,"sour\\u0063e":"pump-8"}',
    '{"name":"a","value":1,"source":"pump-7","source":"pump-8"}',
  ]

  test.each(['telemetry', 'any'] as const)(
    'one device cannot speak for another: schema %s',
    async (schema) => {
      const producer = new FakeProducer({ schema })
      edge = buildEdge({ keys: [key('device', { sources: ['pump-7', 'hall-2-*'] })] }, [producer])
      const response = await edge.app.inject({
        method: 'POST',
        url: stream,
        headers: { ...bearer('device'), 'content-type': 'application/x-ndjson' },
        payload: events.join('\n'),
      })
      const { accepted, errors } = response.json() as {
        accepted: number
        errors: { index: number; code: string; detail: string }[]
      }
      expect(accepted).toBe(4)
      expect(errors.map(({ index, code }) => [index, code])).toEqual(
        [3, 4, 6, 7].map((index) => [index, 'source_not_allowed']),
      )
      for (const { detail } of errors)
        expect(detail).toBe('"pump-8" is not a source that the key of the request may claim')
    },
  )
})

describe('sources, where the stream takes the key of a record from the client', () => {
  const sources = ['pump-7', '17', 'hall-2-*']
  const sendTo = async (
    settings: ConstructorParameters<typeof FakeProducer>[0],
    lines: readonly string[],
    device?: string,
  ) => {
    edge = buildEdge({ keys: [key('device', { sources }), key('service')] }, [new FakeProducer(settings)])
    const headers = {
      'content-type': 'application/x-ndjson',
      ...(device !== undefined && { 'x-device': device }),
    }
    const request = {
      method: 'POST',
      url: '/v1/streams/metrics-realtime',
      payload: lines.join('\n'),
    } as const
    const asDevice = await edge.app.inject({ ...request, headers: { ...headers, ...bearer('device') } })
    const written = edge.producer.records.map((record) => record.key)
    const asService = await edge.app.inject({ ...request, headers: { ...headers, ...bearer('service') } })
    expect(asService.json()).toMatchObject({ accepted: lines.length })
    const { errors } = asDevice.json() as {
      errors: { index: number; code: string; detail: string; pointer: string }[]
    }
    for (const { detail } of errors)
      expect(detail).toMatch(/^"(pump-8|18|hall-3-x)" would be the key of the record/)
    return { written, errors: errors.map(({ index, code, pointer }) => [index, code, pointer]) }
  }

  test.each(['telemetry', 'any'] as const)(
    'a pointer leads to no key of another device: schema %s',
    async (schema) => {
      const eventOf = (device: string) => `{"name":"a","value":1,"device":{"id":${device}}}`
      const { written, errors } = await sendTo({ schema, key: '/device/id' }, [
        eventOf('"pump-7"'),
        eventOf('17'),
        eventOf('"hall-2-x"'),
        '{"name":"a","value":1}',
        eventOf('"pump-8"'),
        eventOf('18'),
        eventOf(String.raw`"pump-\u0038"`),
        eventOf(String.raw`"pump\u002d7"`),
      ])
      expect(written).toEqual(['pump-7', '17', 'hall-2-x', null, 'pump-7'])
      expect(errors).toEqual([4, 5, 6].map((index) => [index, 'source_not_allowed', '/device/id']))
    },
  )

  test.each([
    ['pump-7', 1],
    ['hall-2-x', 1],
    ['pump-8', 0],
    [undefined, 1],
  ])('a header %s gives the record its key: %d accepted', async (device, accepted) => {
    const { written } = await sendTo({ key: 'header:x-device' }, ['{"name":"a","value":1}'], device)
    expect(written).toEqual(accepted === 0 ? [] : [device ?? null])
  })
})

test('a request whose events were accepted and then lost counts as accepted alone', async () => {
  edge = buildEdge({ keys: [key('web')] }, [new FakeProducer({ onBufferFull: 'drop' })])
  edge.producer.hasRoom = false
  const reply = await edge.app.inject({
    method: 'POST',
    url: stream,
    headers: { ...bearer('web'), prefer: 'wait=1' },
    payload: '{"name":"a","value":1}',
  })
  expect(reply.json()).toMatchObject({ code: 'delivery_failed' })
  expect(edge.telemetry.keys).toEqual({ web: { accepted: 1, refused: 0 } })
})

describe('guessing', () => {
  test('an address that sends many wrong keys is told to wait, and a right one is still taken', async () => {
    open([key('web')])
    const statuses: number[] = []
    for (let nth = 0; nth < 25; nth++)
      statuses.push((await send({ 'x-chute-key': `guess-${nth}` })).statusCode)
    expect(statuses.slice(0, 20).every((status) => status === 401)).toBe(true)
    expect(statuses.slice(20).every((status) => status === 429)).toBe(true)
    const last = await send({ 'x-chute-key': 'guess' })
    expect(Number(last.headers['retry-after'])).toBeGreaterThan(0)
    expect((await send(bearer('web'))).statusCode).toBe(202)
  })
})

describe('a refusal names its reason', () => {
  test('of a key that ended, whose clients do not guess, and which the counters name', async () => {
    open([key('old', { notAfterMs: Date.parse('2020-01-01') }), key('web')])
    const replies = []
    for (let nth = 0; nth < 22; nth++) replies.push(await send(bearer('old')))
    expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([401]))
    expect(replies[21]!.json()).toMatchObject({
      code: 'key_unknown',
      detail: expect.stringMatching(/^the key old ended at 2020-01-01T.*notAfter/),
    })
    expect((await send({ 'x-chute-key': 'guess' })).statusCode).toBe(401)
    expect(edge.telemetry.keys['old']).toEqual({ accepted: 0, refused: 22 })
  })

  test('of an address that guessed too often: what would be taken', async () => {
    open([key('web')])
    for (let nth = 0; nth < 20; nth++) await send({ 'x-chute-key': `guess-${nth}` })
    expect((await send({ 'x-chute-key': 'guess' })).json()).toMatchObject({
      detail: expect.stringMatching(/a key that is known is taken .*chute keys check KEY/),
    })
  })

  test('of an origin: where those that are allowed stand', async () => {
    open([key('web', { origins: [page] })])
    const reply = await send({ ...bearer('web'), origin: 'https://evil.example' })
    expect(reply.json()).toMatchObject({
      code: 'origin_not_allowed',
      detail: expect.stringMatching(/CORS_ORIGINS of the gateway and origins of its keys list/),
    })
    expect(reply.headers).not.toHaveProperty('access-control-allow-origin')
  })

  test('of X-Chute-Key that was sent twice', async () => {
    open([key('web')])
    const reply = await send({ 'x-chute-key': 'value-of-web, value-of-web' })
    expect(reply.json()).toMatchObject({ code: 'key_unknown', detail: expect.stringMatching(/send it once/) })
  })

  test('of metrics without a key: an admin key is needed', async () => {
    open([key('web')])
    const reply = await send({}, '/metrics', 'GET')
    expect(reply.json()).toMatchObject({ code: 'key_missing', detail: expect.stringMatching(/an admin key/) })
  })
})

describe('what operators look at', () => {
  const keys = [key('web'), key('ops', { kind: 'admin', streams: [] })]

  test.each([
    ['no key', {}, 401],
    ['a wrong key', { 'x-chute-key': 'x' }, 401],
    ['a key that writes', bearer('web'), 403],
    ['an admin key', bearer('ops'), 200],
    ['an admin key, as a browser sends it', basic('value-of-ops:'), 200],
  ])('/metrics with %s: %j', async (_name, headers, status) => {
    open(keys)
    const response = await send(headers, '/metrics', 'GET')
    expect(response.statusCode).toBe(status)
    // A browser asks the person for it.
    if (status === 401) expect(response.headers['www-authenticate']).toMatch(/^Basic .*Bearer /)
  })

  test('/livez and /readyz need no key, and say less without one', async () => {
    open(keys)
    expect((await send({}, '/livez', 'GET')).statusCode).toBe(200)
    const without = await send({}, '/readyz', 'GET')
    expect(without.json()).toEqual({ ready: true, checks: [{ name: 'kafka', ok: true }] })
    const withKey = await send(bearer('ops'), '/readyz', 'GET')
    expect(withKey.json()).toEqual({
      ready: true,
      checks: [{ name: 'kafka', ok: true, detail: 'connected' }],
    })
  })
})

test('no reply and no log line has a key in it', async () => {
  const lines: object[] = []
  const log = (fields: object, message: string): void => void lines.push({ ...fields, message })
  edge = buildEdge({ keys: [key('web')] }, [new FakeProducer()], {
    logger: { debug: log, info: log, warn: log, error: log },
  })
  const secret = 'chk_sec_wrong'
  const replies: string[] = []
  for (const path of [
    stream,
    '/v1/beacon/metrics-realtime',
    '/v1/streams/nope',
    '/nowhere',
    '/v1/streams/%ff',
  ]) {
    for (const headers of [
      {},
      { authorization: `Bearer ${secret}` },
      { authorization: `Basic ${secret}` },
      { 'x-chute-key': secret },
    ]) {
      const { headers: replied, body } = await send(headers, `${path}?key=${secret}`)
      replies.push(JSON.stringify(replied) + body)
    }
  }
  expect(replies.length).toBe(20)
  expect(lines.length).toBeGreaterThan(0)
  expect(replies.join('') + JSON.stringify(lines)).not.toContain('wrong')
})

test("a record's header can have the name of the key, and never its value", async () => {
  const producer = new FakeProducer({ headers: { tenant: 'key:name' } })
  edge = buildEdge({ keys: [key('web', { kind: 'public' }), key('backend')] }, [producer])
  for (const headers of [bearer('web'), basic('value-of-backend:'), { 'x-chute-key': 'value-of-web' }])
    expect((await send(headers)).statusCode).toBe(202)
  const found = producer.headers.map((encoded) =>
    decodeHeaders(encoded!).map((header) => [header.key, header.value.toString()]),
  )
  expect(found).toEqual([[['tenant', 'web']], [['tenant', 'backend']], [['tenant', 'web']]])
})
