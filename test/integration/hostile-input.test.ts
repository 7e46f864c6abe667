import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errorTable, type ErrorCode } from '../../src/errors.ts'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'

/**
 * Whatever is sent, the answer is a 4xx problem with a code, nothing is accepted, the gateway has no fault, and the next
 * request is fine. Sent as bytes over a socket, since a client library would refuse to send most of it.
 */
const limits = {
  ...fakeLimits,
  bodyBytes: 100_000,
  eventBytes: 10_000,
  eventsPerRequest: 100,
  bodyTimeoutMs: 400,
}
const good = '{"name":"room.temp","value":21.5}'
const stream = '/v1/streams/metrics-realtime'
let edge: Edge
let port: number

beforeAll(async () => {
  edge = buildEdge({ limits })
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
  port = (edge.app.server.address() as AddressInfo).port
})
afterAll(async () => {
  await edge.app.close()
})

/** Sends bytes on a fresh connection and reads until the gateway closes it, or until the reply is complete. */
async function exchange(bytes: string | Buffer): Promise<{ status: number; headers: string; body: string }> {
  const socket = connect(port, '127.0.0.1')
  let received = ''
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => {
    received += text
    const [head = '', body = ''] = received.split('\r\n\r\n')
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? Infinity)
    if (Buffer.byteLength(body) >= length) socket.end()
  })
  // A reset after the reply was read is the client's own doing: it sent more than anybody wanted.
  socket.on('error', () => {})
  socket.write(bytes)
  await once(socket, 'close')
  const [headers = '', body = ''] = received.split('\r\n\r\n')
  return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(headers)?.[1]), headers, body }
}

function post(body: string | Buffer, headers: readonly string[] = [], path = stream): Buffer {
  const length = headers.some((header) => /^(content-length|transfer-encoding):/i.test(header))
    ? []
    : [`Content-Length: ${Buffer.byteLength(body)}`]
  const type = headers.some((header) => /^content-type:/i.test(header))
    ? []
    : ['Content-Type: application/json']
  const head = [`POST ${path} HTTP/1.1`, 'Host: chute.example', ...type, ...length, ...headers].join('\r\n')
  return Buffer.concat([Buffer.from(`${head}\r\n\r\n`), Buffer.from(body)])
}

const deep = '{"name":"a","value":1,"x":' + '['.repeat(1000) + ']'.repeat(1000) + '}'

const kinds: readonly (readonly [name: string, bytes: string | Buffer, code: ErrorCode])[] = [
  ['an empty body', post(''), 'empty_body'],
  ['a body of white space', post(' \r\n\t '), 'empty_body'],
  ['an empty array', post('[]'), 'empty_body'],
  ['half a JSON text', post('{"name":"a","val'), 'malformed_json'],
  ['two JSON texts', post(`${good}${good}`), 'malformed_json'],
  ['a trailing comma', post(`[${good},]`), 'malformed_json'],
  ['NaN', post('{"name":"a","value":NaN}'), 'malformed_json'],
  ['a NUL byte', post('{"name":"a\u0000","value":1}'), 'malformed_json'],
  ['brackets without end', post('['.repeat(90_000)), 'malformed_json'],
  ['invalid UTF-8', post(Buffer.from([0x22, 0xff, 0xfe, 0x22])), 'invalid_utf8'],
  ['an overlong encoding', post(Buffer.from([0x22, 0xc0, 0x80, 0x22])), 'invalid_utf8'],
  ['UTF-16', post(Buffer.from(`\u{feff}${good}`, 'utf16le')), 'invalid_utf8'],
  [
    'a charset that is not UTF-8',
    post(good, ['Content-Type: application/json; charset=utf-16']),
    'unsupported_media_type',
  ],
  ['a number', post('42'), 'all_events_invalid'],
  ['null', post('null'), 'all_events_invalid'],
  ['an array of arrays', post(`[[${good}]]`), 'all_events_invalid'],
  ['an infinite value', post('{"name":"a","value":1e999}'), 'all_events_invalid'],
  ['an own key __proto__', post('{"name":"a","value":1,"__proto__":{"admin":true}}'), 'all_events_invalid'],
  [
    '__proto__ in escapes',
    post(String.raw`{"name":"a","value":1,"\u005f_proto__":{}}`),
    'all_events_invalid',
  ],
  [
    '__proto__ in the labels',
    post('{"name":"a","value":1,"labels":{"__proto__":{"x":1}}}'),
    'all_events_invalid',
  ],
  [
    'constructor.prototype',
    post('{"name":"a","value":1,"constructor":{"prototype":{}}}'),
    'all_events_invalid',
  ],
  ['an event nested a thousand levels deep', post(deep), 'all_events_invalid'],
  ['control characters in the name', post(String.raw`{"name":"a\u0007","value":1}`), 'all_events_invalid'],
  [
    'an event above the limit',
    post(`{"name":"a","value":1,"x":"${'x'.repeat(10_000)}"}`),
    'all_events_invalid',
  ],
  ['too many events', post(`[${Array.from({ length: 101 }, () => good).join(',')}]`), 'too_many_events'],
  ['too many lines', post('1\n'.repeat(101), ['Content-Type: application/x-ndjson']), 'too_many_events'],
  ['NDJSON of garbage', post('a\nb\n{', ['Content-Type: application/x-ndjson']), 'all_events_invalid'],
  ['a body above the limit', post('x'.repeat(100_001)), 'body_too_large'],
  ['a body announced as 1 TB', post('{', ['Content-Length: 1099511627776']), 'body_too_large'],
  [
    'a body in chunks above the limit',
    Buffer.concat([
      post('', ['Transfer-Encoding: chunked']),
      Buffer.from(`${(200_000).toString(16)}\r\n${'x'.repeat(200_000)}\r\n0\r\n\r\n`),
    ]),
    'body_too_large',
  ],
  ['a gzip bomb', post(gzipSync(Buffer.alloc(50_000_000)), ['Content-Encoding: gzip']), 'body_too_large'],
  ['gzip that is none', post(good, ['Content-Encoding: gzip']), 'invalid_encoding'],
  ['gzip cut off', post(gzipSync(good).subarray(0, 20), ['Content-Encoding: gzip']), 'invalid_encoding'],
  ['gzip twice', post(gzipSync(gzipSync(good)), ['Content-Encoding: gzip, gzip']), 'unsupported_encoding'],
  ['an unknown encoding', post(good, ['Content-Encoding: zstd']), 'unsupported_encoding'],
  ['an image', post(good, ['Content-Type: image/png']), 'unsupported_media_type'],
  [
    'a multipart form',
    post(good, ['Content-Type: multipart/form-data; boundary=x']),
    'unsupported_media_type',
  ],
  ['a body that never comes', post('', ['Content-Length: 10']), 'body_timeout'],
  ['a header that never ends', `POST ${stream} HTTP/1.1\r\nHost: a\r\nX-Slow: `, 'body_timeout'],
  ['headers of 20 KB', post(good, [`X-Large: ${'x'.repeat(20_000)}`]), 'headers_too_large'],
  ['a line that is no HTTP', 'HELLO\r\n\r\n', 'invalid_request'],
  ['TLS', Buffer.from('16030100a5010000a10303', 'hex'), 'invalid_request'],
  ['an unknown method', 'BREW / HTTP/1.1\r\nHost: a\r\n\r\n', 'invalid_request'],
  ['a length that is no number', post(good, ['Content-Length: ten']), 'invalid_request'],
  ['two lengths', post(good, ['Content-Length: 33', 'Content-Length: 5']), 'invalid_request'],
  [
    'a length and chunks at once (request smuggling)',
    post(good, ['Content-Length: 5', 'Transfer-Encoding: chunked']),
    'invalid_request',
  ],
  ['a chunk size that is no number', post('zz\r\n', ['Transfer-Encoding: chunked']), 'invalid_request'],
  ['a header with a line break', post(good, ['X-A: b\rc']), 'invalid_request'],
  ['an unknown stream', post(good, [], '/v1/streams/..%2f..%2fetc'), 'unknown_stream'],
  ['a stream called __proto__', post(good, [], '/v1/streams/__proto__'), 'unknown_stream'],
  ['a path that is not well-formed', post(good, [], '/v1/streams/%'), 'invalid_request'],
  ['a wrong method', `GET ${stream} HTTP/1.1\r\nHost: a\r\n\r\n`, 'method_not_allowed'],
  ['another origin', post(good, ['Origin: https://evil.example']), 'origin_not_allowed'],
  [
    'a query without an event',
    'GET /v1/beacon/metrics-realtime.gif?%00=%c3%bf HTTP/1.1\r\nHost: a\r\n\r\n',
    'all_events_invalid',
  ],
  [
    'a query that is not UTF-8',
    'GET /v1/beacon/metrics-realtime.gif?%00=%ff HTTP/1.1\r\nHost: a\r\n\r\n',
    'invalid_utf8',
  ],
  [
    'a query of a thousand fields',
    `GET /v1/beacon/metrics-realtime.gif?${'a=1&'.repeat(1_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
    'too_many_fields',
  ],
]

describe('hostile input', () => {
  test.each(kinds)('%s', async (_name, bytes, code) => {
    const { status, headers, body } = await exchange(bytes)
    const problem = JSON.parse(body) as Record<string, unknown>
    expect({ status, code: problem['code'] }).toEqual({ status: errorTable[code].status, code })
    expect(problem).toMatchObject({
      status,
      title: errorTable[code].title,
      detail: expect.any(String) as string,
    })
    expect(headers.toLowerCase()).toContain('content-type: application/problem+json')
    expect(edge.producer.records, 'nothing was accepted').toEqual([])
    expect(edge.faults, 'nothing is a fault of the gateway').toEqual([])

    const next = await exchange(post(good))
    expect(next.status).toBe(202)
    expect(edge.producer.records.splice(0)).toHaveLength(1)
  })

  test.each([
    [
      'the preface of HTTP/2',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'HTTP/2 is not spoken here: use HTTP/1.1 (HPE_PAUSED_H2_UPGRADE)',
    ],
    [
      'TLS',
      Buffer.from('16030100a5010000a10303', 'hex'),
      'this port has no TLS, and a TLS handshake came: use http:// (HPE_INVALID_METHOD)',
    ],
    ['an unknown method', 'BREW / HTTP/1.1\r\nHost: a\r\n\r\n', 'malformed HTTP (HPE_INVALID_METHOD)'],
    [
      'two lengths',
      post(good, ['Content-Length: 33', 'Content-Length: 33']),
      'a request has one Content-Length line, and this one has more (HPE_UNEXPECTED_CONTENT_LENGTH)',
    ],
    [
      'an address of 20 KB',
      `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
      'the address and the header fields may have 16 KiB together',
    ],
  ])('%s is told in plain words', async (_name, bytes, detail) => {
    expect(JSON.parse((await exchange(bytes)).body)).toMatchObject({ detail })
  })

  test('of an event never changes what objects are', async () => {
    await exchange(
      post('{"name":"a","value":1,"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'),
    )
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })
})
