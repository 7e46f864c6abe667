import type { IncomingMessage } from 'node:http'
import type { Readable, Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib'
import { BufferPool } from '../buffer-pool.ts'
import { GatewayError } from '../errors.ts'

/**
 * Told once how reading ended: with the body, or with what is wrong. `aborted` means that the client is gone, so that
 * nobody is left to answer.
 */
export type BodyListener = (error: GatewayError | 'aborted' | null, body: Buffer) => void

/** A request of node:http, as far as reading needs it. It is destroyed with an error when the client goes away. */
export type BodySource = Readable & Pick<IncomingMessage, 'headers'>

/**
 * Reads a request's body into one buffer, of at most `limitBytes` as received and as inflated. A body that came in one
 * piece is not copied; whoever is done with one hands it to `recycleBody`. On an error the rest of the body is left
 * unread; how long a body may take is the server's `requestTimeout`.
 */
export function readBody(request: BodySource, limitBytes: number, listener: BodyListener): void {
  const encoding = contentEncodingOf(request.headers['content-encoding'])
  if (encoding === null) {
    const detail = `send one of ${supportedEncodings}, and only one, or no Content-Encoding`
    listener(new GatewayError('unsupported_encoding', detail), empty)
    return
  }
  // A header that is no number gives NaN here. node:http has refused such a request already.
  if (Number(request.headers['content-length']) > limitBytes) {
    listener(tooLarge(limitBytes), empty)
    return
  }
  if (encoding === 'identity') readPlain(request, limitBytes, listener)
  else readInflated(request, encoding, limitBytes, listener)
}

function readPlain(request: BodySource, limitBytes: number, listener: BodyListener): void {
  let first: Buffer = empty
  let room: BodyRoom | null = null
  let sizeBytes = 0
  let ended = false
  const finish = (error: GatewayError | 'aborted' | null): void => {
    if (ended) return
    ended = true
    const body = room === null ? first : room.body
    if (error !== null) recycleBody(body)
    listener(error, error === null ? body : empty)
  }
  const onData = (chunk: Buffer): void => {
    sizeBytes += chunk.length
    if (sizeBytes > limitBytes) {
      request.removeListener('data', onData)
      finish(tooLarge(limitBytes))
    } else if (first === empty) first = chunk
    else {
      if (room === null) {
        room = new BodyRoom(Math.min(Number(request.headers['content-length'] ?? limitBytes), limitBytes))
        room.add(first)
      }
      room.add(chunk)
    }
  }
  request.on('data', onData)
  request.on('end', () => finish(null))
  request.on('error', (error) => finish(asFlaw(error)))
}

function readInflated(
  request: BodySource,
  encoding: Exclude<ContentEncoding, 'identity'>,
  limitBytes: number,
  listener: BodyListener,
): void {
  const room = new BodyRoom(limitBytes)
  let receivedBytes = 0
  let inflatedBytes = 0
  let inflater: Transform | null = null
  let ended = false

  const finish = (error: GatewayError | 'aborted' | null): void => {
    if (ended) return
    ended = true
    request.removeListener('data', onData)
    request.removeListener('end', onEnd)
    if (error === null) {
      listener(null, room.body)
      return
    }
    inflater?.destroy()
    recycleBody(room.body)
    listener(error, empty)
  }
  const onData = (chunk: Buffer): void => {
    receivedBytes += chunk.length
    if (receivedBytes > limitBytes) {
      finish(tooLarge(limitBytes))
      return
    }
    inflater ??= start(chunk)
    if (!inflater.write(chunk)) request.pause()
  }
  const onEnd = (): void => {
    if (inflater === null) finish(null)
    else inflater.end()
  }
  const start = (firstChunk: Buffer): Transform =>
    createInflater(encoding, firstChunk[0] ?? 0)
      .on('data', (piece: Buffer) => {
        inflatedBytes += piece.length
        if (inflatedBytes > limitBytes) finish(tooLarge(limitBytes))
        else if (!ended) room.add(piece)
      })
      .on('drain', () => request.resume())
      .on('end', () => finish(null))
      .on('error', (cause) => {
        const detail = `the body cannot be inflated as ${encoding}`
        finish(new GatewayError('invalid_encoding', detail, { cause }))
      })

  request.on('data', onData)
  request.on('end', onEnd)
  request.on('error', (error) => finish(asFlaw(error)))
}

/** A GatewayError is a flaw in how the body was sent, which the server has found. Every other error means that the client is gone. */
function asFlaw(error: unknown): GatewayError | 'aborted' {
  return error instanceof GatewayError ? error : 'aborted'
}

function tooLarge(limitBytes: number): GatewayError {
  const detail = `a body may have ${limitBytes} bytes, as sent and as inflated`
  return new GatewayError('body_too_large', detail, { extensions: { limitBytes } })
}

/** Content codings that a body may have, as the `Accept-Encoding` of a 415 says them (RFC 9110, section 12.5.3). */
export const supportedEncodings = 'gzip, deflate, br'

/** One content coding of a request; `identity` is none. */
export type ContentEncoding = 'identity' | 'gzip' | 'deflate' | 'br'

/**
 * Reads a Content-Encoding (RFC 9110, section 8.4).
 * @returns null for an unknown coding, and for several codings: only the maker of a bomb compresses twice.
 */
export function contentEncodingOf(header: string | undefined): ContentEncoding | null {
  switch (header?.trim().toLowerCase()) {
    case undefined:
    case '':
    case 'identity':
      return 'identity'
    case 'gzip':
    case 'x-gzip':
      return 'gzip'
    case 'deflate':
      return 'deflate'
    case 'br':
      return 'br'
    default:
      return null
  }
}

/**
 * A stream that inflates. Its output comes in small pieces, so that whoever counts them can stop a bomb early.
 * @param firstByte of the body: `deflate` is zlib's format (RFC 1950), but some clients send bare DEFLATE (RFC 1951),
 * as RFC 9110, section 8.4.1.2 notes. A zlib header's low four bits are always 8.
 */
export function createInflater(encoding: Exclude<ContentEncoding, 'identity'>, firstByte: number): Transform {
  switch (encoding) {
    case 'gzip':
      return createGunzip()
    case 'deflate':
      return (firstByte & 0x0f) === 8 ? createInflate() : createInflateRaw()
    case 'br':
      return createBrotliDecompress()
  }
}

/**
 * Joins the pieces of a body in one buffer. The buffer grows with the pieces, to four times their size at most, so that a large
 * `Content-Length` alone takes no memory. Buffers are recycled: otherwise a few bodies of a megabyte bring on a garbage
 * collection, which stops everything for longer than the work on the bodies takes.
 */
export class BodyRoom {
  #buffer: Buffer
  #sizeBytes = 0
  readonly #mostBytes: number

  /** @param mostBytes what the body is not going to exceed. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes
    this.#buffer = empty
  }

  /** Copies a piece behind those before it. */
  add(piece: Buffer): void {
    const needed = this.#sizeBytes + piece.length
    if (needed > this.#buffer.length) this.#grow(needed)
    this.#buffer.set(piece, this.#sizeBytes)
    this.#sizeBytes = needed
  }

  /** The body. Once nobody reads it any more, {@link recycleBody} takes its buffer back. */
  get body(): Buffer {
    return this.#buffer.subarray(0, this.#sizeBytes)
  }

  #grow(needed: number): void {
    const old = this.#buffer
    this.#buffer = pool.take(Math.max(needed, Math.min(needed * 4, this.#mostBytes)))
    lent.set(this.#buffer.buffer, this.#buffer)
    old.copy(this.#buffer, 0, 0, this.#sizeBytes)
    recycleBody(old)
  }
}

/**
 * Takes back the buffer of a body that came in pieces. Does nothing with a body that came in one piece, and nothing the
 * second time. Nobody may read the body any more.
 */
export function recycleBody(body: Buffer): void {
  const buffer = lent.get(body.buffer)
  if (buffer === undefined) return
  lent.delete(body.buffer)
  pool.give(buffer)
}

/** Enough for the bodies of a megabyte that are read and decoded at a time where many come at once. */
const pool = new BufferPool(16 << 20)
const lent = new WeakMap<ArrayBufferLike, Buffer>()

const empty = Buffer.alloc(0)
