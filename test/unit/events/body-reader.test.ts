import { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { readBody, type BodySource } from '../../../src/events/body-reader.ts'

function requestOf(chunks: readonly Buffer[], headers: BodySource['headers'] = {}): BodySource {
  return Object.assign(Readable.from(chunks, { objectMode: false }), { headers })
}

/** What the listener is told: the code of an error, or the body. */
async function read(request: BodySource, limitBytes = 1000): Promise<string | Buffer> {
  return await new Promise((resolve, reject) => {
    let calls = 0
    readBody(request, limitBytes, (error, body) => {
      if (++calls > 1) reject(new Error('told twice'))
      if (error === null) resolve(body)
      else resolve(error === 'aborted' ? error : error.code)
    })
  })
}

const text = Buffer.from('{"name":"a","value":1}')

describe('a plain body', () => {
  test('that comes in one piece is not copied', async () => {
    expect(await read(requestOf([text]))).toBe(text)
  })

  test('that comes in pieces is put together', async () => {
    expect(await read(requestOf([text.subarray(0, 3), text.subarray(3, 9), text.subarray(9)]))).toEqual(text)
  })

  test('that is empty is empty', async () => {
    expect(await read(requestOf([]))).toHaveLength(0)
  })

  test('may be as large as the limit and not one byte larger', async () => {
    expect(await read(requestOf([Buffer.alloc(600), Buffer.alloc(400)]))).toHaveLength(1000)
    expect(await read(requestOf([Buffer.alloc(600), Buffer.alloc(401)]))).toBe('body_too_large')
  })

  test('whose length is announced above the limit is refused unread', async () => {
    const request = requestOf([text], { 'content-length': '1001' })
    expect(await read(request)).toBe('body_too_large')
    expect(request.readableDidRead).toBe(false)
  })

  test('whose client goes away is aborted', async () => {
    const request = Object.assign(new Readable({ read() {} }), { headers: {} })
    const outcome = read(request)
    request.push(text)
    request.destroy(new Error('aborted'))
    expect(await outcome).toBe('aborted')
  })
})

test('bodies that come fast share a turn of the event loop: a part of each is read a turn, and all of it in the end', async () => {
  const piece = Buffer.alloc(65_536, 'x')
  const pieces = 32
  let readInTurn = 0
  let mostInTurn = 0
  const isAtOnce = Array.from({ length: 8 }, async () => {
    let left = pieces
    // Like a socket whose client has sent all of it: the next piece is always there.
    const request = new Readable({
      read() {
        this.push(left-- > 0 ? Buffer.from(piece) : null)
      },
    })
    request.on('data', ({ length }: Buffer) => {
      if (readInTurn === 0) setImmediate(() => (readInTurn = 0))
      readInTurn += length
      mostInTurn = Math.max(mostInTurn, readInTurn)
    })
    return await read(Object.assign(request, { headers: {} }), pieces * piece.length)
  })
  for (const body of await Promise.all(isAtOnce)) expect(body).toHaveLength(pieces * piece.length)
  // A mebibyte, and what each body had in hand when the turn was full. Without a bound it is all of the 16 MiB.
  expect(mostInTurn).toBeLessThan(5 << 20)
})

test('bodies that come fast are read to their end one behind the other, the oldest first', async () => {
  const piece = Buffer.alloc(65_536, 'x')
  const pieces = 64
  const done: number[] = []
  const readOf = Array.from({ length: 16 }, () => 0)
  const halfRead: number[] = []
  const isAtOnce = readOf.map(async (_none, nth) => {
    let left = pieces
    const request = new Readable({
      read() {
        this.push(left-- > 0 ? Buffer.from(piece) : null)
      },
    })
    request.on('data', () => readOf[nth]!++)
    await read(Object.assign(request, { headers: {} }), pieces * piece.length)
    done.push(nth)
    halfRead.push(readOf.filter((of) => of > pieces / 4 && of < pieces).length)
  })
  await Promise.all(isAtOnce)
  expect(done).toEqual(readOf.map((_none, nth) => nth))
  // All sixteen, if all of them are read on in each turn.
  expect(Math.max(...halfRead)).toBeLessThan(8)
})

test('what comes of a body that has failed gets into no other body', async () => {
  const piece = Buffer.alloc(65_536, 'a')
  const failing = Object.assign(new Readable({ read() {} }), { headers: {} })
  const outcome = read(failing, 1 << 20)
  failing.push(Buffer.from(piece))
  failing.push(Buffer.from(piece))
  await turn()
  failing.emit('error', new GatewayError('invalid_request', 'the third chunk has no size'))
  expect(await outcome).toBe('invalid_request')
  // Its reply reads on, to get to the end of the request.
  failing.resume()
  const other = Object.assign(new Readable({ read() {} }), { headers: {} })
  const body = read(other, 1 << 20)
  const own = Buffer.alloc(65_536, 'b')
  for (let nth = 0; nth < 3; nth++) other.push(Buffer.from(own))
  await turn()
  failing.push(Buffer.from(piece))
  await turn()
  other.push(null)
  expect(await body).toEqual(Buffer.concat([own, own, own]))
})

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

describe('a compressed body', () => {
  test.each([
    ['gzip', gzipSync(text)],
    ['x-gzip', gzipSync(text)],
    ['GZIP', gzipSync(text)],
    ['deflate', deflateSync(text)],
    ['deflate', deflateRawSync(text)],
    ['br', brotliCompressSync(text)],
    ['identity', text],
  ])('is inflated: %s', async (encoding, body) => {
    const pieces = Array.from(body, (byte) => Buffer.of(byte))
    expect(await read(requestOf(pieces, { 'content-encoding': encoding }))).toEqual(text)
  })

  test.each(['gzip, gzip', 'gzip, br', 'zstd', 'compress', 'identity, gzip', 'nonsense'])(
    'is refused unread where it is %s',
    async (encoding) => {
      const request = requestOf([text], { 'content-encoding': encoding })
      expect(await read(request)).toBe('unsupported_encoding')
      expect(request.readableDidRead).toBe(false)
    },
  )

  test.each([
    ['gzip', gzipSync(text).subarray(0, -3)],
    ['gzip', text],
    ['deflate', Buffer.from([0xff, 0xff, 0xff])],
    ['br', gzipSync(text)],
  ])('that is no whole %s is invalid', async (encoding, body) => {
    expect(await read(requestOf([body], { 'content-encoding': encoding }))).toBe('invalid_encoding')
  })

  test.each([
    ['gzip', Buffer.concat([gzipSync(text), Buffer.alloc(100_000)])],
    ['deflate', Buffer.concat([deflateSync(text), Buffer.alloc(100_000, '!')])],
    ['br', Buffer.concat([brotliCompressSync(text), Buffer.from('!')])],
  ])(
    'with bytes behind its end (%s) is read when the request is at its end, and not before',
    async (encoding, body) => {
      const headers = { 'content-encoding': encoding }
      const request = Object.assign(new Readable({ read() {} }), { headers })
      let outcome: unknown = null
      const done = read(request, 1 << 20).then((result) => (outcome = result))
      for (let at = 0; at < body.length; at += 16_384) request.push(body.subarray(at, at + 16_384))
      await pause(50)
      expect(outcome).toBeNull()
      request.push(null)
      await done
      expect(outcome).toEqual(text)

      const gone = Object.assign(new Readable({ read() {} }), { headers })
      const broken = read(gone, 1 << 20)
      gone.push(body.subarray(0, 16_384))
      await pause(50)
      gone.destroy(new Error('the client is gone'))
      expect(await broken).toBe('aborted')
    },
  )

  test('that inflates above the limit is refused before it is inflated to its end', async () => {
    const zeros = Buffer.alloc(64 * 1024 * 1024)
    for (const [encoding, bomb] of [
      ['gzip', gzipSync(zeros, { level: 1 })],
      ['deflate', deflateSync(zeros, { level: 1 })],
    ] as const) {
      const pieces = Array.from({ length: Math.ceil(bomb.length / 1024) }, (_, n) =>
        bomb.subarray(n * 1024, (n + 1) * 1024),
      )
      const request = requestOf(pieces, { 'content-encoding': encoding })
      expect(await read(request, 100_000)).toBe('body_too_large')
      expect(request.readableEnded, 'most of it is still to be read').toBe(false)
    }
  })

  test('that is itself above the limit is refused', async () => {
    const body = gzipSync(Buffer.from(Array.from({ length: 3000 }, (_, n) => (n * 7919) % 251)), { level: 0 })
    expect(await read(requestOf([body], { 'content-encoding': 'gzip' }), 2000)).toBe('body_too_large')
  })
})
