import type { IncomingMessage } from 'node:http'
import type { Readable, Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw, gunzip } from 'node:zlib'
import { BufferPool } from '../buffer-pool.ts'
import { GatewayError } from '../errors.ts'

/**
 * Is called once at the end of reading, with the body or with an error. `aborted`: the client is gone, and cannot be answered. `readBytes`:
 * what came of the body, as received or as inflated, whichever is more.
 */
export type BodyListener = (error: GatewayError | 'aborted' | null, body: Buffer, readBytes: number) => void

/** The part of a request of node:http that reading needs. It is destroyed with an error when the client goes away. */
export type BodySource = Readable & Pick<IncomingMessage, 'headers'>

/**
 * Reads a request's body into one buffer. The body may have at most `limitBytes`, as received and as inflated. A body that comes in one piece
 * is not copied. When the caller is done with the body, it passes the body to `recycleBody`. After an error the rest of the body is left
 * unread. `routes/http/connections.ts` limits how long a body may take.
 */
export function readBody(request: BodySource, limitBytes: number, listener: BodyListener): void {
  const encoding = contentEncodingOf(request.headers['content-encoding'])
  if (encoding === null) {
    const detail = `send one of ${supportedEncodings}, and only one, or no Content-Encoding`
    listener(new GatewayError('unsupported_encoding', detail), empty, 0)
    return
  }
  // A header that is no number would give NaN here, but node:http has refused such a request already.
  if (Number(request.headers['content-length']) > limitBytes) {
    listener(tooLarge(limitBytes), empty, 0)
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
    if (error !== null) {
      // More of the body may come, and the buffer is another body's by then.
      request.removeListener('data', onData)
      recycleBody(body)
    }
    listener(error, error === null ? body : empty, sizeBytes)
  }
  const onData = (chunk: Buffer): void => {
    sizeBytes += chunk.length
    if (sizeBytes > limitBytes) finish(tooLarge(limitBytes))
    else if (first === empty) first = chunk
    else {
      if (room === null) {
        room = new BodyRoom(Math.min(Number(request.headers['content-length'] ?? limitBytes), limitBytes))
        room.add(first)
      }
      room.add(chunk)
      shareTurn(request, chunk.length)
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
  /** The compressed data is at its end. Bytes may come behind it: they are left aside, and the request has to come to its end all the same. */
  let isInflated = false
  let isWhole = false
  let ended = false

  const finish = (error: GatewayError | 'aborted' | null): void => {
    if (ended) return
    ended = true
    request.removeListener('data', onData)
    request.removeListener('end', onEnd)
    const readBytes = Math.max(receivedBytes, inflatedBytes)
    if (error === null) {
      listener(null, room.body, readBytes)
      return
    }
    inflater?.destroy()
    recycleBody(room.body)
    listener(error, empty, readBytes)
  }
  const onData = (chunk: Buffer): void => {
    receivedBytes += chunk.length
    if (receivedBytes > limitBytes) {
      finish(tooLarge(limitBytes))
      return
    }
    if (isInflated) return
    inflater ??= start(chunk)
    if (inflater.write(chunk)) shareTurn(request, chunk.length)
    else request.pause()
  }
  const onEnd = (): void => {
    isWhole = true
    if (inflater === null || isInflated) finish(null)
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
      .on('end', () => {
        isInflated = true
        if (isWhole) finish(null)
        else request.resume()
      })
      .on('error', (cause) => finish(cannotInflate(encoding, cause)))

  request.on('data', onData)
  request.on('end', onEnd)
  request.on('error', (error) => finish(asFlaw(error)))
}

/** What the bodies that come in pieces have brought in this turn of the event loop. */
let turnBytes = 0
let isTurnSet = false
/** The bodies that are read on in a later turn. */
const heldBack: BodySource[] = []
/** The order in which bodies in pieces began. */
const begunNth = new WeakMap<BodySource, number>()
let begun = 0

/**
 * Reads a body on in a later turn, once all bodies together have brought {@link mostTurnBytes} in this one. Node reads each socket up to 32 times a
 * turn, and a client on a fast network has always sent the next 64 KiB. So 64 bodies of a megabyte would be read in one turn: that takes tens of
 * milliseconds, and tens of megabytes of memory. A few bodies are read on in each turn, those first that began first: a body that is read to its end gives
 * its memory back. A body that comes slowly takes the place of another one for a turn at most.
 */
function shareTurn(request: BodySource, bytes: number): void {
  if (!begunNth.has(request)) begunNth.set(request, begun++)
  turnBytes += bytes
  beginTurnLater()
  if (turnBytes < mostTurnBytes) return
  request.pause()
  heldBack.push(request)
}

function beginTurnLater(): void {
  if (isTurnSet) return
  isTurnSet = true
  setImmediate(beginTurn)
}

function beginTurn(): void {
  isTurnSet = false
  turnBytes = 0
  if (heldBack.length === 0) return
  heldBack.sort((one, other) => begunNth.get(one)! - begunNth.get(other)!)
  for (const request of heldBack.splice(0, bodiesInTurn)) request.resume()
  if (heldBack.length > 0) beginTurnLater()
}

/** To read so much takes less than a millisecond. */
const mostTurnBytes = 1 << 20
/** So many bodies that were held back go on in a turn. */
const bodiesInTurn = 4

/** Whether a body begins as gzip does (RFC 1952, section 2.3.1). 0x8b cannot be the second byte of a text in UTF-8. */
export function isGzip(body: Buffer): boolean {
  return body[0] === 0x1f && body[1] === 0x8b
}

/** Inflates a body that was read whole, and recycles it. What comes out may have at most `limitBytes`. */
export function inflateGzip(zipped: Buffer, limitBytes: number, listener: BodyListener): void {
  gunzip(zipped, { maxOutputLength: limitBytes }, (cause, body) => {
    const zippedBytes = zipped.length
    recycleBody(zipped)
    if (cause === null) listener(null, body, Math.max(zippedBytes, body.length))
    else if ('code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE')
      listener(tooLarge(limitBytes), empty, limitBytes)
    else listener(cannotInflate('gzip', cause), empty, zippedBytes)
  })
}

/** A GatewayError is a flaw of the body that `routes/http/connections.ts` has found. Every other error means that the client is gone. */
function asFlaw(error: unknown): GatewayError | 'aborted' {
  return error instanceof GatewayError ? error : 'aborted'
}

function cannotInflate(encoding: ContentEncoding, cause: Error): GatewayError {
  return new GatewayError('invalid_encoding', `the body cannot be inflated as ${encoding}`, { cause })
}

function tooLarge(limitBytes: number): GatewayError {
  const detail = `a body may have ${limitBytes} bytes, as sent and as inflated`
  return new GatewayError('body_too_large', detail, { extensions: { limitBytes } })
}

/** A content coding: its other names, and what inflates a body. */
interface Coding {
  readonly aliases: readonly string[]
  /** @param firstByte the first byte of the body. */
  readonly inflate: (firstByte: number) => Transform
}

/** The content codings that a body may have, by name. */
const codings = {
  gzip: { aliases: ['x-gzip'], inflate: () => createGunzip() },
  // `deflate` is zlib's format (RFC 1950), but some clients send bare DEFLATE (RFC 1951), as RFC 9110, section 8.4.1.2 notes. The low four
  // bits of a zlib header are always 8.
  deflate: {
    aliases: [],
    inflate: (firstByte) => ((firstByte & 0x0f) === 8 ? createInflate() : createInflateRaw()),
  },
  br: { aliases: [], inflate: () => createBrotliDecompress() },
} as const satisfies Record<string, Coding>

/** The content coding of a request. `identity`: the body is not encoded. */
export type ContentEncoding = 'identity' | keyof typeof codings

/** The codings by each value of Content-Encoding that is read. */
const encodingByName: ReadonlyMap<string, ContentEncoding> = new Map([
  ['identity', 'identity'] as const,
  ...(Object.keys(codings) as (keyof typeof codings)[]).flatMap((encoding) =>
    [encoding, ...codings[encoding].aliases].map((name) => [name, encoding] as const),
  ),
  ['', 'identity'] as const,
])

/** All values of Content-Encoding that are read, in lower case. */
export const contentEncodings: readonly string[] = [...encodingByName.keys()]

/** The content codings that a body may have, as the value of `Accept-Encoding` in a 415 (RFC 9110, section 12.5.3). */
export const supportedEncodings = Object.keys(codings).join(', ')

/**
 * Reads a Content-Encoding (RFC 9110, section 8.4).
 * @returns null for an unknown coding, and for several codings: only a decompression bomb is compressed twice.
 */
export function contentEncodingOf(header: string | undefined): ContentEncoding | null {
  return header === undefined ? 'identity' : (encodingByName.get(header.trim().toLowerCase()) ?? null)
}

/**
 * A stream that inflates. Its output comes in small pieces, so that a caller that counts bytes can stop a decompression bomb early.
 * @param firstByte the first byte of the body.
 */
export function createInflater(encoding: Exclude<ContentEncoding, 'identity'>, firstByte: number): Transform {
  return codings[encoding].inflate(firstByte)
}

/**
 * Joins the pieces of a body in one buffer. The buffer is never larger than four times the pieces, so a large `Content-Length` alone takes no
 * memory. Buffers are recycled. Otherwise a few bodies of a megabyte would cause a garbage collection, which stops the process for longer than
 * the work on the bodies takes.
 */
export class BodyRoom {
  #buffer: Buffer
  #sizeBytes = 0
  readonly #mostBytes: number

  /** @param mostBytes the body is not larger than this. */
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

  /** The body. When its reader is done with it, {@link recycleBody} takes the buffer back. */
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
 * Takes back the buffer of a body that came in pieces. The body must not be read any more. Does nothing for a body that came in one piece, and
 * nothing when it is called again for the same body.
 */
export function recycleBody(body: Buffer): void {
  const buffer = lent.get(body.buffer)
  if (buffer === undefined) return
  lent.delete(body.buffer)
  pool.give(buffer)
}

/** Enough for the bodies of a megabyte that are read and decoded at the same time when many come at once. */
const pool = new BufferPool(16 << 20)
const lent = new WeakMap<ArrayBufferLike, Buffer>()

const empty = Buffer.alloc(0)
