import type { IncomingMessage } from 'node:http'
import type { Readable, Transform } from 'node:stream'
import { GatewayError } from '../errors.ts'
import { BodyRoom, recycleBody } from './body-room.ts'
import { contentEncodingOf, createInflater, supportedEncodings, type ContentEncoding } from './inflate.ts'

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
  // A header that is no number gives NaN; node:http has refused the request before.
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

/** The server may have found a flaw in how the body is sent. Whatever else ends a request: its client is gone. */
function asFlaw(error: unknown): GatewayError | 'aborted' {
  return error instanceof GatewayError ? error : 'aborted'
}

function tooLarge(limitBytes: number): GatewayError {
  const detail = `a body may have ${limitBytes} bytes, as sent and as inflated`
  return new GatewayError('body_too_large', detail, { extensions: { limitBytes } })
}

const empty = Buffer.alloc(0)
