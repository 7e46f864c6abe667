import { once } from 'node:events'
import { IncomingMessage } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { sendReplies } from '../../src/routes/http/raw-reply.ts'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { SocketClient } from '../support/socket-client.ts'

const good = '{"name":"room.temp","value":21.5}'
const stream = '/v1/streams/metrics-realtime'
let edge: Edge
/** To be closed after the test. */
const edges: Edge[] = []

async function listen(...parameters: Parameters<typeof buildEdge>): Promise<SocketClient> {
  edge = buildEdge(...parameters)
  edges.push(edge)
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
  return open()
}

function open(of = edge): SocketClient {
  return new SocketClient((of.app.server.address() as AddressInfo).port, stream)
}

async function close({ faults, app }: Edge): Promise<void> {
  expect(faults).toEqual([])
  await app.close()
}

/** How many pieces of bodies node:http tells in each turn of the event loop. */
function piecesInTurns(): { end(): number[] } {
  const turns = [0]
  const push = vi.spyOn(IncomingMessage.prototype, 'push')
  let isEnded = false
  const next = (): void => {
    turns.push(push.mock.calls.length)
    push.mockClear()
    if (!isEnded) setImmediate(next)
  }
  next()
  return {
    end() {
      isEnded = true
      push.mockRestore()
      return turns
    },
  }
}

afterEach(async () => {
  for (const each of edges.splice(0)) await close(each)
})

const chunked = ['Transfer-Encoding: chunked']
const post = (headers: readonly string[], body = '') =>
  [`POST ${stream} HTTP/1.1`, 'Host: a', ...headers, '', body].join('\r\n')

/** What ends a connection on which requests were taken, and the status that is the last word. */
const ends: readonly (readonly [name: string, bytes: string, status: number])[] = [
  ['garbage', 'GARBAGE\r\n\r\n', 400],
  ['one byte more than the length says', '}', 400],
  ['a line feed alone, and garbage', '\n}', 400],
  ['a length that is no number', post(['Content-Length: ten'], '{}'), 400],
  ['two lengths', post(['Content-Length: 2', 'Content-Length: 3'], '{}'), 400],
  ['a length and chunks', post(['Content-Length: 2', ...chunked], '{}'), 400],
  ['a chunk size that is no number', post(chunked, 'zz\r\n'), 400],
  ['a second chunk that is not framed', post(chunked, '2\r\n{}garbage'), 400],
  ['headers of 20 KB', post([`X-Large: ${'x'.repeat(20_000)}`]), 431],
  ['trailers of 20 KB', post(chunked, `0\r\nX-Large: ${'x'.repeat(20_000)}\r\n\r\n`), 431],
  ['chunk extensions of 20 KB', post(chunked, `2;${'x'.repeat(20_000)}\r\n{}\r\n`), 413],
  ['a header with a line break', post(['X-A: b\rc']), 400],
  ['CONNECT', 'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n', 400],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
  ['the preface of TLS', '\u0016\u0003\u0001\u0000\u00a5\u0001\u0000', 400],
  ['HTTP of another major version', 'GET / HTTP/3.0\r\n\r\n', 400],
]

test('CONNECT, and then a reset, ends no process', async () => {
  const own = buildEdge()
  await own.app.listen({ port: 0, host: '127.0.0.1' })
  // node:http leaves no listener for errors on such a connection.
  const { port } = own.app.server.address() as AddressInfo
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  client.write('CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n')
  await once(client, 'data')
  client.resetAndDestroy()
  // An error that nobody takes fails the run of the tests.
  await vi.waitUntil(
    async () =>
      await new Promise((resolve) => own.app.server.getConnections((_, count) => resolve(count === 0))),
  )
  const other = open(own)
  other.post(good)
  await vi.waitUntil(() => other.statuses.length === 1)
  expect(other.statuses).toEqual([202])
  await close(own)
})

describe('a request that was taken gets its reply', () => {
  /** A gateway of one test: others run beside this one. */
  async function listenAlone(): Promise<{ own: Edge; client: SocketClient }> {
    const own = buildEdge()
    await own.app.listen({ port: 0, host: '127.0.0.1' })
    return { own, client: open(own) }
  }

  // The gateway lingers on such a connection for two seconds. So the tests wait side by side.
  test.concurrent.each(ends)('in one segment with %s behind it', async (_name, bytes, status) => {
    const { own, client } = await listenAlone()
    client.socket.write(client.request(good) + client.request(good) + bytes, 'latin1')
    await client.closes()
    expect(client.statuses).toEqual([202, 202, status])
    expect(client.received).toMatch(/application\/problem\+json[^]*connection: close/i)
    expect(own.producer.values).toEqual([good, good])
    const refused = own.telemetry.replies.filter(({ statusCode }) => statusCode === status)
    expect(refused, 'what was refused is counted').toHaveLength(1)
    await close(own)
  })

  test.concurrent.each(ends)('which comes later, with %s behind it', async (_name, bytes, status) => {
    const { own, client } = await listenAlone()
    client.post(good, ['Prefer: wait=20'])
    await vi.waitUntil(() => own.producer.records.length === 1, { timeout: 10_000 })
    client.post('{')
    client.socket.write(bytes, 'latin1')
    await pause(50)
    expect(client.received, 'no reply overtakes that of an earlier request').toBe('')
    own.producer.batch.settle()
    await client.closes()
    expect(client.statuses).toEqual([200, 400, status])
    expect(own.producer.values).toEqual([good])
    await close(own)
  })

  test('in the middle of its bodies, where a later request comes too slowly', async () => {
    const client = await listen({ limits: { ...fakeLimits, bodyTimeoutMs: 200 } })
    client.post(good, ['Prefer: wait=20'])
    await vi.waitUntil(() => edge.producer.records.length === 1)
    client.socket.write(post(['Content-Length: 1000'], '{'))
    const timedOut = vi.waitUntil(() => edge.telemetry.replies.some(({ statusCode }) => statusCode === 408))
    await timedOut
    expect(client.received).toBe('')
    edge.producer.batch.settle()
    await client.closes()
    expect(client.statuses).toEqual([200, 408])
  })

  test('where a later header comes too slowly', async () => {
    // On a busy machine the first request needs some of this time, too.
    const client = await listen({ limits: { ...fakeLimits, bodyTimeoutMs: 1_000 } })
    client.post(good)
    await client.receives(/"accepted":1/)
    client.socket.write('POST / HTTP/1.1\r\nHo')
    await client.closes()
    expect(client.statuses).toEqual([202, 408])
    expect(client.received).toContain('BODY_TIMEOUT_MS')
  })

  test.each([['at once', []] as const, ['later', ['Prefer: wait=20']] as const])(
    'which comes %s, though the client has ended its side',
    async (_when, headers) => {
      const client = await listen()
      client.socket.end(client.request(good, headers))
      await vi.waitUntil(() => edge.producer.records.length === 1)
      await pause(50)
      edge.producer.batch.settle()
      await client.closes()
      expect(client.statuses).toEqual([headers.length === 0 ? 202 : 200])
    },
  )

  test('though the server closes while the reply to the first of many is on its way', async () => {
    const producer = new FakeProducer()
    const client = await listen({}, [producer])
    const append = producer.append.bind(producer)
    let closed: PromiseLike<unknown> = Promise.resolve()
    producer.append = (record) => {
      if (producer.records.length === 2)
        process.nextTick(() => {
          sendReplies()
          closed = edge.app.close()
        })
      return append(record)
    }
    client.socket.write(client.request(good).repeat(3))
    await vi.waitUntil(() => client.closed, { timeout: 10_000, interval: 2 })
    await closed
    expect(client.statuses).toEqual([202, 202, 202])
  })

  test('though the client has ended its side in the middle of the next one', async () => {
    const client = await listen()
    client.post(good, ['Prefer: wait=20'])
    await vi.waitUntil(() => edge.producer.records.length === 1)
    client.socket.end(post(['Content-Length: 100'], '{'))
    await pause(50)
    edge.producer.batch.settle()
    await client.closes()
    expect(client.statuses).toEqual([200, 400])
  })

  test('and one that waits for room is told that it was not taken, if the client has ended its side', async () => {
    const client = await listen({}, [new FakeProducer({ onBufferFull: 'block' })])
    edge.producer.hasRoom = false
    client.socket.end(client.request(good))
    const grant = await vi.waitUntil(() => edge.producer.waiters[0])
    await pause(50)
    grant(true)
    await client.closes()
    expect(client.statuses).toEqual([503])
    expect(edge.producer).toMatchObject({ records: [], openBytes: 0 })
  })
})

describe('behind a reply that says Connection: close', () => {
  test.each([
    [
      'since the request asked for it',
      202,
      post(['Connection: close', `Content-Length: ${good.length}`], good),
    ],
    [
      'since the request is HTTP/1.0',
      202,
      post([`Content-Length: ${good.length}`], good).replace('1.1', '1.0'),
    ],
    ['since it has two hosts', 400, post(['Host: b', `Content-Length: ${good.length}`], good)],
    [
      'since its body is not read',
      404,
      post(['Content-Length: 70000'], 'x'.repeat(70_000)).replace(stream, '/v1/streams/nope'),
    ],
    [
      'since its body is in chunks, and too large',
      413,
      post(chunked, `${(2 << 20).toString(16)}\r\n${'x'.repeat(2 << 20)}\r\n0\r\n\r\n`),
    ],
    [
      'since it was not told to send its body',
      413,
      post(['Expect: 100-continue', 'Content-Length: 1048577']),
    ],
  ])('no request is read, %s', async (_why, status, bytes) => {
    const client = await listen()
    client.socket.write(bytes + client.request(good) + client.request(good))
    await client.closes()
    expect(client.statuses).toEqual([status])
    expect(client.received).toMatch(/connection: close/i)
    expect(edge.producer.values).toEqual(status === 202 ? [good] : [])
  })

  test('no request is read while the gateway leaves, and those that were taken are answered', async () => {
    const client = await listen()
    const other = open()
    client.post(good, ['Prefer: wait=20'])
    client.post(good, ['Prefer: wait=20'])
    await vi.waitUntil(() => edge.producer.records.length === 2)
    const leave = edge.connections.beginToLeave()
    client.post(good)
    other.post(good)
    other.post(good)
    await other.closes()
    expect(other.statuses).toEqual([202])
    expect(other.received).toMatch(/connection: close/i)
    edge.producer.batch.settle()
    await client.closes()
    expect(client.statuses).toEqual([200, 200])
    expect(client.received).toMatch(/keep-alive[^]*HTTP[^]*connection: close/i)
    expect(edge.producer.values).toHaveLength(3)
    await leave(null)
  })

  test('the reply arrives, though the client sends on and on', async () => {
    const client = await listen({ limits: { ...fakeLimits, bodyBytes: 1_000 } })
    client.socket.write(post(['Content-Length: 100000000'], 'x'.repeat(1_000_000)))
    for (let sent = 0; sent < 8 && !client.closed; sent++) {
      client.socket.write('x'.repeat(1_000_000))
      await new Promise(setImmediate)
    }
    await client.closes()
    expect(client.received).toMatch(/^HTTP\/1\.1 413[^]*"body_too_large"[^]*}$/)
  })
})

describe('behind a request with Upgrade, which nobody takes,', () => {
  const upgrade = ['Connection: Upgrade', 'Upgrade: h2c']
  const pixel = [
    `GET ${stream.replace('streams', 'beacon')}.gif?name=room.temp&value=21.5 HTTP/1.1`,
    'Host: a',
    ...upgrade,
    '',
    '',
  ].join('\r\n')

  test.each([
    ['without a body', pixel],
    ['with a body', post([...upgrade, `Content-Length: ${good.length}`], good)],
    ['with chunks', post([...upgrade, ...chunked], `${good.length.toString(16)}\r\n${good}\r\n0\r\n\r\n`)],
    ['that waits for its turn', post([`Content-Length: ${good.length}`], good).repeat(40) + pixel],
  ])('%s, no byte is taken for a request that is the rest of one', async (_what, request) => {
    const client = await listen()
    const sent = request.split('HTTP/1.1').length - 1
    const inside = post([`Content-Length: ${good.length}`], good)
    // node:http loses the header, and the body would be a request.
    client.socket.write(request + post([`Content-Length: ${inside.length}`]))
    await client.receives(/HTTP/)
    client.socket.write(inside)
    await client.closes()
    expect(edge.producer.values).toHaveLength(sent)
    expect(client.received).toMatch(/connection: close/i)
    // Over TLS, and behind chunks, nobody knows that bytes were lost, and the reply itself is the last one.
    expect(client.statuses.filter((status) => status < 300)).toHaveLength(sent)
    expect([[], [400]]).toContainEqual(client.statuses.slice(sent))
  })

  test('a request that comes behind the reply is taken, where it can be known that nothing was lost', async () => {
    const client = await listen()
    client.post(good, upgrade)
    await client.receives(/"accepted":1/)
    if (/connection: close/i.test(client.received)) return
    client.socket.write(client.request(good, upgrade).slice(0, -10))
    await pause(20)
    client.socket.write(good.slice(-10))
    await client.receives(/"accepted":1[^]*"accepted":1/)
    client.socket.write(pixel)
    await client.receives(/GIF89a/)
    client.post(good)
    await client.receives(/GIF89a[^]*"accepted":1/)
    expect(client.statuses).toEqual([202, 202, 200, 202])
    expect(edge.telemetry.refusals).toEqual([])
    client.socket.destroy()
  })
})

describe('of many small things at once', () => {
  const inChunks = (text: string, bytes: number) =>
    `${text
      .match(new RegExp(`[^]{1,${bytes}}`, 'g'))!
      .map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`)
      .join('')}0\r\n\r\n`

  test.each([
    ['and a route reads them', stream],
    ['and no route reads them', '/v1/streams/nope'],
    ['and there is no such path', '/nope'],
  ])('chunks of a few bytes are refused, %s', async (_what, path) => {
    const client = await listen()
    const request = post(chunked, inChunks(`${good}${' '.repeat(200_000)}`, 8)).replace(stream, path)
    client.socket.write(request + client.request(good))
    await client.closes()
    expect(client.statuses).toEqual([path === stream ? 400 : 404])
    if (path === stream) expect(client.received).toMatch(/2000 pieces[^]*"code":"chunks_too_small"/)
    expect(client.received).toMatch(/connection: close/i)
    expect(edge.producer.values).toEqual([])
    // Parsers are used again.
    const next = open()
    next.socket.write(post(chunked, inChunks(good, 8)) + next.request(good))
    await next.receives(/"accepted":1[^]*"accepted":1/)
    next.socket.destroy()
  })

  test('CONNECT behind a body in small chunks ends the connection, and its parser gets no more of its bytes', async () => {
    const client = await listen()
    // From here on the bytes of the connection are parsed in slices.
    client.socket.write(post(chunked, inChunks(`${good}${' '.repeat(200_000)}`, 16)))
    await client.receives(/"accepted":1/)
    // The reply is open when CONNECT comes, and a slice is behind it.
    const head = client.request(good, ['Prefer: wait=1']) + 'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n'
    client.socket.write(head.padEnd(16_384, '\r\n') + 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await client.closes()
    expect(client.statuses.at(-1)).toBe(400)
    const next = open()
    next.socket.write(next.request(good))
    await next.receives(/"accepted":1/)
    next.socket.destroy()
  })

  test('chunks are taken that are small on average, but not tiny', async () => {
    const client = await listen()
    const lines = `${good}\n`.repeat(3_000)
    client.socket.write(post([...chunked, 'Content-Type: application/x-ndjson'], inChunks(lines, 16)))
    await client.receives(/"accepted":3000/)
    expect(client.closed).toBe(false)
    client.socket.destroy()
  })

  test('a long body in small chunks is parsed in slices, and the requests behind it are taken', async () => {
    const client = await listen()
    const most = piecesInTurns()
    const body = inChunks(`${good}${' '.repeat(500_000)}`, 16)
    client.socket.write(
      post(chunked, body) + client.request(good) + post(chunked, body) + client.request(good),
    )
    await client.receives(/(?:"accepted":1[^]*){4}/)
    // It takes 2,000 pieces to know that the chunks are small: a read that ends just before, and one of 64 KiB, are parsed whole. There were 28.
    expect(most.end().filter((pieces) => pieces > 800).length).toBeLessThanOrEqual(2)
    expect(edge.producer.values).toEqual([good, good, good, good])
    client.socket.destroy()
  })

  test('gzip in small chunks is taken', async () => {
    const client = await listen()
    const lines = Array.from({ length: 9_000 }, () => `{"name":"a","value":${Math.random()}}`).join('\n')
    const headers = [...chunked, 'Content-Encoding: gzip', 'Content-Type: application/x-ndjson']
    client.socket.write(
      Buffer.from(post(headers, inChunks(gzipSync(lines).toString('latin1'), 16)), 'latin1'),
    )
    await client.receives(/"accepted":9000/)
    client.socket.destroy()
  })

  test.each([
    ['garbage', 'GARBAGE\r\n\r\n', 400],
    ['a flaw in the body of the next request', post(chunked, 'zz\r\n'), 400],
    [
      'a request that is the last one',
      post(['Connection: close', `Content-Length: ${good.length}`], good),
      202,
    ],
  ])('behind a body in small chunks comes %s', async (_what, behind, status) => {
    const client = await listen()
    const body = inChunks(`${good}${' '.repeat(200_000)}`, 16)
    client.socket.write(post(chunked, body) + behind + client.request(good))
    await client.closes()
    expect(client.statuses).toEqual([202, status])
  })

  test('a client that goes away in the middle of small chunks leaves nothing behind', async () => {
    const client = await listen()
    client.socket.write(post(chunked, inChunks(`${good}${' '.repeat(500_000)}`, 16).slice(0, 200_000)))
    await vi.waitUntil(() => client.socket.bytesWritten >= 200_000 && client.socket.writableLength === 0, {
      timeout: 20_000,
    })
    client.socket.destroy()
    const next = open()
    next.post(good)
    await next.receives(/"accepted":1/)
    expect(edge.producer.values).toEqual([good])
    next.socket.destroy()
  })

  test('many requests behind a body in small chunks get their replies, though the client reads late', async () => {
    const client = await listen()
    const body = inChunks(`${good}${' '.repeat(200_000)}`, 16)
    client.socket.pause()
    client.socket.write(post(chunked, body) + client.request(good).repeat(3_000))
    await vi.waitUntil(() => edge.producer.records.length > 200, { timeout: 20_000 })
    client.socket.resume()
    await vi.waitUntil(() => client.statuses.length >= 880, { timeout: 20_000 })
    expect(new Set(client.statuses)).toEqual(new Set([202]))
    client.socket.destroy()
  })

  test('a chunk for each line and one for each line feed are taken', async () => {
    const client = await listen()
    const lines = `21\r\n${good}\r\n1\r\n\n\r\n`.repeat(9_000)
    client.socket.write(post([...chunked, 'Content-Type: application/x-ndjson'], `${lines}0\r\n\r\n`))
    await client.receives(/"accepted":9000/)
    client.socket.destroy()
  })

  test('requests are taken some a turn, in order, and each gets its reply', async () => {
    const client = await listen()
    const bodies = Array.from({ length: 2_000 }, (_, nth) => `{"name":"a","value":${nth}}`)
    let [most, before] = [0, 0]
    const { records } = edge.producer
    const look = (): void => {
      most = Math.max(most, records.length - before)
      before = records.length
      if (!client.closed) setImmediate(look)
    }
    setImmediate(look)
    client.socket.write(bodies.map((body) => client.request(body)).join(''))
    await vi.waitUntil(() => client.statuses.length === bodies.length, { timeout: 20_000 })
    // Reading goes on behind them.
    client.post(good, ['Connection: close'])
    await client.closes()
    expect(edge.producer.values).toEqual([...bodies, good])
    expect(client.statuses).toEqual([...bodies, good].map(() => 202))
    // So many when they come, and so many at the end of the turn.
    expect(most).toBeLessThanOrEqual(2 * 32)
  })

  test('behind 850 requests that wait the connection is closed', async () => {
    const client = await listen()
    client.socket.write(client.request(good) + 'GET / HTTP/1.1\r\nHost:a\r\n\r\n'.repeat(5_000))
    await client.closes()
    const { statuses } = client
    expect(statuses.length).toBeGreaterThan(850)
    expect(statuses.length).toBeLessThan(950)
    expect(statuses.slice(0, 2)).toEqual([202, 404])
    expect(client.received.match(/connection: close/gi)).toHaveLength(1)
  })

  test('requests of a client that has gone before their turn are not taken', async () => {
    const client = await listen()
    const { app, producer } = edge
    app.server.once('request', (_request, response) => response.socket!.destroy())
    client.socket.write(client.request(good).repeat(300))
    await client.closes()
    await new Promise(setImmediate)
    expect(producer.values.length).toBeLessThanOrEqual(2 * 32 + 1)
  })
})

describe('leaving', () => {
  test('closes idle connections once they were idle for a while, and then no listener is left', async () => {
    const client = await listen()
    client.post(good)
    await client.receives(/"accepted":1/)
    const leave = edge.connections.beginToLeave()
    const left = leave(null)
    await left
    await client.closes()
    expect(edge.app.server.listening).toBe(false)
    expect(client.statuses).toEqual([202])
  })

  test('takes requests of new connections until the listener has gone', async () => {
    await listen()
    const leave = edge.connections.beginToLeave()
    for (let nth = 0; nth < 3; nth++) {
      const client = open()
      client.post(good)
      await client.closes()
      expect(client.statuses).toEqual([202])
    }
    await leave(null)
  })

  test.each([
    [false, 'at once'],
    [true, 'in a quiet moment'],
  ])(
    'a port of several processes (last: %s) is left %s, and connections are kept until it is closed',
    async (isLast, _when) => {
      const client = await listen()
      let takeTurn!: (isLast: boolean) => void
      let closePort!: () => void
      const turn = new Promise<boolean>((resolve) => (takeTurn = resolve))
      const closed = new Promise<void>((resolve) => (closePort = resolve))
      const left = vi.fn(async () => await closed)
      const gone = edge.connections.beginToLeave()({ turn, leave: left })
      client.post(good)
      await client.receives(/"accepted":1/)
      expect(edge.app.server.listening).toBe(true)
      const beforeMs = performance.now()
      takeTurn(isLast)
      await vi.waitUntil(() => left.mock.calls.length === 1, { interval: 1 })
      expect(edge.app.server.listening).toBe(false)
      // What came to the other processes until now is no sign of quiet.
      if (isLast) expect(performance.now() - beforeMs).toBeGreaterThanOrEqual(199)
      client.post(good)
      await vi.waitUntil(() => client.statuses.length === 2)
      expect(client.received).not.toMatch(/connection: close/i)
      closePort()
      await new Promise(setImmediate)
      client.post(good)
      await client.closes()
      expect(client.statuses).toEqual([202, 202, 202])
      expect(client.received).toMatch(/connection: close/i)
      await gone
    },
  )
})

test('a connection is kept for KEEP_ALIVE_TIMEOUT_MS after its last request, and each reply says for how long', async () => {
  const client = await listen({ limits: { ...fakeLimits, keepAliveTimeoutMs: 1_000 } })
  client.post(good)
  await client.receives(/"accepted":1/)
  const answeredMs = performance.now()
  expect(client.received).toMatch(/^keep-alive: timeout=1\r$/im)
  await client.closes()
  expect(client.statuses).toEqual([202])
  // Node's timers are a few milliseconds early at times.
  expect(performance.now() - answeredMs).toBeGreaterThan(900)
})

describe('a request that takes its time', () => {
  const limits = { ...fakeLimits, bodyTimeoutMs: 400, bodyMinBytesPerSecond: 100 }

  test('is taken as long as enough of it comes', async () => {
    const client = await listen({ limits })
    client.socket.setNoDelay()
    const body = `{"name":"room.temp","value":21.5,"labels":{"a":"${'x'.repeat(200)}"}}`
    client.socket.write(post([`Content-Length: ${body.length}`]))
    for (let at = 0; at < body.length; at += 20) {
      client.socket.write(body.slice(at, at + 20))
      await pause(100)
    }
    await client.receives(/"accepted":1/)
    expect(edge.producer.values).toEqual([body])
  })

  test('gets 408 that names the limits, when too little of it comes', async () => {
    const client = await listen({ limits })
    client.socket.setNoDelay()
    client.socket.write(post(['Content-Length: 1000']))
    const drip = setInterval(() => client.socket.write('x'), 50)
    await client.closes()
    clearInterval(drip)
    expect(client.statuses).toEqual([408])
    expect(client.received).toMatch(
      /400 ms \(BODY_TIMEOUT_MS\).*100 bytes a second.*\(BODY_MIN_BYTES_PER_SECOND\)/,
    )
  })

  test('gets 408 in the end, however fast it comes', async () => {
    const client = await listen({ limits: { ...limits, bodyTimeoutMaxMs: 900 } })
    client.socket.setNoDelay()
    client.socket.write(post(['Content-Length: 100000']))
    const drip = setInterval(() => client.socket.write('x'.repeat(100)), 50)
    await client.closes()
    clearInterval(drip)
    expect(client.statuses).toEqual([408])
    expect(client.received).toMatch(/900 ms \(BODY_TIMEOUT_MAX_MS\)/)
  })

  test('is not one that the gateway does not read yet', async () => {
    const client = await listen({ limits })
    const requested = once(edge.app.server, 'request')
    client.socket.write(post(['Content-Length: 200000'], 'x'))
    const [request] = (await requested) as [IncomingMessage]
    request.pause()
    await pause(1_000)
    expect(client.received).toBe('')
    request.resume()
    await client.closes()
    expect(client.statuses).toEqual([408])
  })

  test.each([
    ['nothing', ''],
    ['an empty line', '\r\n'],
  ])('is not one of which %s has come: the connection is closed without a word', async (_what, bytes) => {
    const client = await listen({ limits })
    client.socket.write(bytes)
    await client.closes()
    expect(client.received).toBe('')
  })
})

describe('Host', () => {
  const get = (...lines: string[]) => ['GET /livez HTTP/1.1', ...lines, '', ''].join('\r\n')

  test.each([
    ['none', []],
    ['two lines', ['Host: a', 'Host: a']],
    ['two lines in another case', ['Host: a', 'HOST: b']],
    ['a blank', ['Host: a b']],
    ['two values', ['Host: a, b']],
    ['a path', ['Host: a/b']],
    ['user information', ['Host: user@a']],
    ['a port that is no number', ['Host: a:b']],
    ['two ports', ['Host: a:1:2']],
    ['an open bracket', ['Host: [::1']],
    ['a percent sign alone', ['Host: a%zz']],
  ])('with %s is 400', async (_what, lines) => {
    const client = await listen()
    client.socket.write(get(...lines))
    await client.closes()
    expect(client.received).toMatch(/^HTTP\/1\.1 400[^]*"invalid_request"/)
  })

  test.each([
    'a',
    'a:8080',
    'a:',
    'A.example.com.',
    '127.0.0.1:80',
    '[::1]:80',
    '[v1.a]',
    'a_b',
    'xn--bcher-kva',
    'a%20b',
    '',
  ])('%j is taken', async (host) => {
    const client = await listen()
    client.socket.write(get(`Host: ${host}`))
    await client.receives(/^HTTP\/1\.1 200/)
    client.socket.destroy()
  })
})

test('return=minimal is answered with 73 bytes', async () => {
  const client = await listen()
  client.post(good, ['Prefer: return=minimal'])
  await client.receives(/\r\n\r\n$/)
  expect(client.received).toMatch(/^HTTP\/1\.1 202 \r\ncontent-length: 0\r\nDate: [^\r]{29}\r\n\r\n$/)
  expect(client.received).toHaveLength(73)
  client.post(good, ['Prefer: return=minimal'])
  await client.receives(/^(HTTP[^]*){2}\r\n\r\n$/)
  expect(client.received, 'the connection is kept').toHaveLength(146)
  client.socket.destroy()
})

describe('a request that is refused while its events wait', () => {
  const pixelOf = (query: string, headers: readonly string[], body: string): string =>
    [`GET /v1/beacon/metrics-realtime.gif?${query} HTTP/1.1`, 'Host: a', ...headers, '', body].join('\r\n')

  test.each([
    { of: 'a long query', query: `name=a&value=1&labels.p=${'a'.repeat(8_200)}` },
    { of: 'a short query', query: 'name=a&value=1' },
    { of: 'a query that is no event', query: `name=a&labels.p=${'a'.repeat(8_200)}` },
  ])('a pixel that has a body ($of): one refusal, and no event is taken', async ({ query }) => {
    const producer = new FakeProducer()
    const client = await listen({}, [producer])
    client.socket.write(pixelOf(query, chunked, 'zz\r\n'))
    await client.closes()
    expect(client.statuses).toEqual([400])
    await pause(50)
    expect(producer.values).toEqual([])
    expect(edge.telemetry.refusals).toHaveLength(1)
  })

  test.each([
    { of: 'chunked, and empty', headers: chunked, body: '0\r\n\r\n', status: 200 },
    { of: 'of no byte', headers: ['Content-Length: 0'], body: '', status: 200 },
    { of: 'of two bytes', headers: ['Content-Length: 2'], body: '{}', status: 400 },
    { of: 'chunked, and of two bytes', headers: chunked, body: '2\r\n{}\r\n0\r\n\r\n', status: 400 },
  ])('a pixel with a body that is $of', async ({ headers, body, status }) => {
    const producer = new FakeProducer()
    const client = await listen({}, [producer])
    client.socket.write(pixelOf('name=a&value=1', headers, body))
    await client.receives(/HTTP\/1\.1 \d{3}/)
    expect(client.statuses).toEqual([status])
    expect(producer.values).toHaveLength(status === 200 ? 1 : 0)
  })

  test('of the operators, too', async () => {
    for (const path of ['/metrics', '/readyz', '/livez', '/openapi.json', '/']) {
      const client = await listen()
      client.socket.write([`GET ${path} HTTP/1.1`, 'Host: a', ...chunked, '', 'zz\r\n'].join('\r\n'))
      await client.closes()
      expect(client.statuses, path).toHaveLength(1)
    }
  })
})

test('an expectation that the gateway does not know is no reason to refuse a request (RFC 9110, section 10.1.1)', async () => {
  const client = await listen()
  client.post(good, ['Expect: x'])
  await client.receives(/HTTP\/1\.1 \d{3}/)
  expect(client.statuses).toEqual([202])
})
