import { copiedBelowBytes, type WireRequest } from '../protocol/wire.ts'

/**
 * Puts requests into frames, header version 1 (https://kafka.apache.org/protocol#protocol_messages): size, API key and
 * version, correlation id, client id. A piece more costs the socket and the kernel more than a few kilobytes that are
 * copied, so what is small is copied together, and what is large goes as it is.
 */
export class FrameWriter {
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
  /** {@link FrameWriter.sizeOf} it. */
  readonly sizeBytes: number
  readonly correlationId: number
}

/** Size, API key and version, correlation id. */
const headerStartBytes = 12
