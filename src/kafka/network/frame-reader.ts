/**
 * Cuts the bytes of a connection into the broker's answers: each is its size in 32 bits and that many bytes
 * (https://kafka.apache.org/protocol#protocol_common). An answer that comes in pieces is put together once, when it is whole.
 */
export class FrameReader {
  /** What was read and not given out, in the order of arrival. */
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

/** What a broker takes as a request at most, by default (`socket.request.max.bytes`); answers to ours are far smaller. */
const maxAnswerBytes = 100 << 20
