import { copiedBelowBytes, type WireRequest } from '../protocol/wire.ts'

/**
 * Puts requests into frames, with header version 1 (https://kafka.apache.org/protocol#protocol_messages): size, API key and version,
 * correlation id, client id. Each piece that is written costs the socket and the kernel more than a copy of a few kilobytes. So small pieces
 * are copied together, and large pieces are written as they are.
 */
export class RequestFramer {
  /** The end of every header: the client id behind its length. */
  readonly #headerEnd: Buffer
  readonly #headerBytes: number

  constructor(clientId: string) {
    const clientIdBytes = Buffer.byteLength(clientId)
    this.#headerEnd = Buffer.alloc(2 + clientIdBytes)
    this.#headerEnd.writeInt16BE(clientIdBytes, 0)
    this.#headerEnd.write(clientId, 2)
    this.#headerBytes = headerStartBytes + this.#headerEnd.length
  }

  /** Size of the request's frame, in bytes. */
  sizeOf({ chunks }: WireRequest): number {
    let bytes = this.#headerBytes
    for (const chunk of chunks) bytes += chunk.length
    return bytes
  }

  /** The bytes of the frames, one behind the other. Large pieces are not copied. */
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
  /** {@link RequestFramer.sizeOf} the request. */
  readonly sizeBytes: number
  readonly correlationId: number
}

/** Size, API key and version, correlation id. */
const headerStartBytes = 12

/**
 * Cuts the bytes of a connection into the broker's answers. An answer is its size in 32 bits, and then that many bytes
 * (https://kafka.apache.org/protocol#protocol_common). The pieces of a long answer are put together at most twice: for its size, and when
 * all of them are there.
 */
export class ResponseReader {
  /** The bytes that were read and that no answer has taken, in the order of arrival. */
  #pieces: Buffer[] = []
  #heldBytes = 0
  /** The next step needs this many bytes: those of a size, or those of a size and its answer. */
  #neededBytes = sizeBytes

  /** Takes bytes that the socket has read. */
  push(data: Buffer): void {
    this.#pieces.push(data)
    this.#heldBytes += data.length
  }

  /**
   * The next answer, without its size; null if parts of it are missing.
   * @throws RangeError for a size that no answer can have. The connection cannot be read any further then.
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

/** The size of the largest request that a broker takes by default (`socket.request.max.bytes`). Answers to Chute's requests are far smaller. */
const maxAnswerBytes = 100 << 20
