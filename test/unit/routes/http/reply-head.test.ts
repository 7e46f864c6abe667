import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { holdHeaders, withHeldHeaders } from '../../../../src/routes/http/held-headers.ts'
import { prepareHead } from '../../../../src/routes/http/reply-head.ts'

const fields = [
  'chute-delivery',
  'at-most-once; no-dedupe',
  'content-type',
  'application/json',
  'x-name',
  'Zoë: a, b',
  'content-length',
  '7',
]

const sources = [
  { lines: () => 'vary: Origin\r\naccess-control-allow-origin: https://é.example.com\r\n' },
  { lines: () => '' },
  { lines: () => 'ratelimit: "default";r=1;t=60\r\n' },
]

/** Sends requests over one connection. @returns the bytes of all replies, as characters. */
async function receive(
  answer: (response: ServerResponse) => void,
  requests: readonly string[],
  keepAliveTimeout = 72_000,
): Promise<string> {
  const server = createServer({ keepAliveTimeout }, (_request, response) => answer(response))
  server.listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').setEncoding('latin1')
  onTestFinished(() => void socket.destroy())
  let received = ''
  socket.on('data', (text: string) => (received += text))
  for (const [nth, request] of requests.entries()) {
    socket.write(request)
    const isWhole = (): boolean =>
      received.split('HTTP/1.1 ').length > nth + 1 && received.endsWith('{"a":1}')
    await vi.waitUntil(isWhole, { timeout: 10_000, interval: 2 })
  }
  return received
}

const post = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n'

function useClock(): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 0, 2, 3, 4, 5) })
  onTestFinished(() => void vi.useRealTimers())
}

test.each([202, 200, 400, 429, 503, 299])(
  'a header that is prepared has the bytes that node:http writes: %d',
  async (statusCode) => {
    useClock()
    const prepared: boolean[] = []
    const own = await receive(
      (response) => {
        for (const source of sources) holdHeaders(response, source)
        prepared.push(prepareHead(response, statusCode, fields))
        response.end('{"a":1}', 'latin1')
      },
      [post, post],
    )
    const usual = await receive(
      (response) => {
        for (const source of sources) holdHeaders(response, source)
        response.writeHead(statusCode, withHeldHeaders(response, [...fields]))
        response.end('{"a":1}', 'latin1')
      },
      [post, post],
    )
    expect(prepared).toEqual([true, true])
    expect(own).toContain(`HTTP/1.1 ${statusCode} `)
    // node:http keeps its own Date for a second.
    const withoutDate = (text: string): string => text.replaceAll(/^Date: .*\r\n/gm, '')
    expect(withoutDate(own)).toBe(withoutDate(usual))
    expect(own.match(/^Date: .*$/gm)).toEqual(Array(2).fill('Date: Fri, 02 Jan 2026 03:04:05 GMT'))
  },
)

test('the header says for how long the server keeps a connection, and the Date of its second', async () => {
  useClock()
  const received = await receive(
    (response) => {
      prepareHead(response, 202, fields)
      response.end('{"a":1}')
      vi.setSystemTime(Date.now() + 1_000)
    },
    [post, post],
    3_000,
  )
  expect(received.match(/^Keep-Alive: .*$/gm)).toEqual(Array(2).fill('Keep-Alive: timeout=3'))
  expect(received.match(/^Date: .*$/gm)).toEqual([
    'Date: Fri, 02 Jan 2026 03:04:05 GMT',
    'Date: Fri, 02 Jan 2026 03:04:06 GMT',
  ])
})

test('a reply that has its header is one whose header is sent', async () => {
  const seen: unknown[] = []
  await receive(
    (response) => {
      prepareHead(response, 429, fields)
      seen.push(response.headersSent, response.statusCode)
      response.once('finish', () => seen.push(response.writableFinished))
      response.end('{"a":1}')
    },
    [post, post],
  )
  expect(seen.slice(0, 3)).toEqual([true, 429, true])
})

test.each([
  [
    'that closes its connection',
    'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
    202,
  ],
  ['to a client of HTTP/1.0', 'POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n', 202],
  ['to HEAD', 'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n', 202],
  ['without a body', post, 204],
])('a reply %s is left to node:http', async (_kind, request, statusCode) => {
  const prepared: boolean[] = []
  await receive(
    (response) => {
      prepared.push(prepareHead(response, statusCode, fields))
      response.writeHead(200, { 'x-end': '{"a":1}' }).flushHeaders()
      response.socket?.end('{"a":1}')
    },
    [request],
  )
  expect(prepared).toEqual([false])
})

test('a reply that has fields of its own already is left to node:http', async () => {
  const prepared: boolean[] = []
  await receive(
    (response) => {
      response.setHeader('www-authenticate', 'Bearer')
      prepared.push(prepareHead(response, 401, fields))
      response.writeHead(401, fields)
      response.end('{"a":1}')
    },
    [post],
  )
  expect(prepared).toEqual([false])
})
