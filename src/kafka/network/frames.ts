import { copiedBelowBytes, type WireRequest } from '../protocol/wire.ts'

/**
 * Puts requests into frames, header version 1 (https://kafka.apache.org/protocol#protocol_messages): size, API key and
 * version, correlation id, client id. One more piece costs the socket and the kernel more than a copy of
 * a few kilobytes, so small pieces are copied together, and large ones go as they are.
 */
export class RequestFramer {
  /** Client id and its length: where every header ends. */
  readonly #headerEnd: Buffer
  readonly #headerBytes: number

  constructor(clientId: string) {
    const clientIdBytes = Buffer.byteLength(clientId)
    this.#headerEnd = Buffer.alloc(2 + clientIdBytes)
    this.#headerEnd.writeInt16BE(clientIdBytes, 0)
    this.#headerEnd.write(clientId, 2)
    this.#headerBytes = headerStartBytes + this.#headerEnd.length
  }

  /** Bytes of the request's frame. */
  sizeOf({ chunks }: WireRequest): number {
    let bytes = this.#headerBytes
    for (const chunk of chunks) bytes += chunk.length
    return bytes
  }

  /** The bytes of frames that are written one behind the other, in as few pieces as is worth it. */
  join(frames: readonly Frame[]): Buffer[] {
    const copied = Buffer.allocUnsafe(this.#copiedBytes(frames))
    const pieces: Buffer[] = []
    let [start, at] = [0, 0]
    for (const { request, sizeBytes, correlationId } of frames) {
      at = copied.writeInt32BE(sizeBytes - 4, at)
      at = copied.writeInt16BE(request.apiKey, at)
      at = copied.writeInt16BE(request.apiVersion, at)
      at = copied.writeInt32BE(correlationId, at)
      copied.set(this.#headerEnd, at)
      at += this.#headerEnd.length
      for (const chunk of request.chunks) {
        if (chunk.length < copiedBelowBytes) {
          copied.set(chunk, at)
          at += chunk.length
          continue
        }
        if (at > start) pieces.push(copied.subarray(start, at))
        start = at
        pieces.push(chunk)
      }
    }
    if (at > start) pieces.push(copied.subarray(start, at))
    return pieces
  }

  #copiedBytes(frames: readonly Frame[]): number {
    let bytes = frames.length * this.#headerBytes
    for (const { request } of frames)
      for (const { length } of request.chunks) if (length < copiedBelowBytes) bytes += length
    return bytes
  }
}

/** A request that is about to be written. */
export interface Frame {
  readonly request: WireRequest
  /** {@link RequestFramer.sizeOf} it. */
  readonly sizeBytes: number
  readonly correlationId: number
}

/** Size, API key and version, correlation id. */
const headerStartBytes = 12

/**
 * Cuts the bytes of a connection into the broker's answers: each is its size in 32 bits and that many bytes
 * (https://kafka.apache.org/protocol#protocol_common). An answer that comes in pieces is put together once, when it is whole.
 */
export class ResponseReader {
  /** The bytes that were read and not given out, in the order of arrival. */
  #pieces: Buffer[] = []
  #heldBytes = 0
  /** With fewer there is nothing to give out: a size, or a size and its answer. */
  #neededBytes = sizeBytes

  /** Takes what the socket has read. */
  push(data: Buffer): void {
    this.#pieces.push(data)
    this.#heldBytes += data.length
  }

  /**
   * The next answer, without its size; null if it is not whole yet.
   * @throws RangeError for a size that no answer has: where the next one begins is not known then.
   */
  next(): Buffer | null {
    if (this.#heldBytes < this.#neededBytes) return null
    let bytes = this.#pieces[0]!
    if (this.#pieces.length > 1) {
      bytes = Buffer.concat(this.#pieces, this.#heldBytes)
      this.#pieces = [bytes]
    }
    const size = bytes.readInt32BE(0)
    if (size < sizeBytes || size > maxAnswerBytes) throw new RangeError(`an answer of ${size} bytes`)
    const end = sizeBytes + size
    if (bytes.length < end) {
      this.#neededBytes = end
      return null
    }
    this.#neededBytes = sizeBytes
    this.#heldBytes -= end
    if (this.#heldBytes === 0) this.#pieces.pop()
    else this.#pieces[0] = bytes.subarray(end)
    return bytes.subarray(sizeBytes, end)
  }
}

const sizeBytes = 4

/** The largest request that a broker takes by default (`socket.request.max.bytes`). Answers to our requests are far smaller. */
const maxAnswerBytes = 100 << 20
