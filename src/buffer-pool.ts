/**
 * Keeps used buffers, by size, and hands them out again. So a steady flow allocates no buffer. Large buffers are costly to allocate, and memory
 * outside of the heap causes the long kind of garbage collection. The size of the pool is bounded, and is not part of any stream's
 * `buffer.memory`.
 */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>()
  #keptBytes = 0
  readonly #limitBytes: number

  /** @param limitBytes the most bytes that the pool keeps. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** Gives a buffer of at least `sizeBytes` bytes. Its content is arbitrary. */
  take(sizeBytes: number): Buffer {
    const rounded = sizeClass(sizeBytes)
    const buffer = this.#free.get(rounded)?.pop()
    if (buffer === undefined) {
      // What is kept has sizes that nobody takes now. It would leave no room for the sizes that are taken.
      if (this.#keptBytes > this.#limitBytes / 2) this.#forget()
      return Buffer.allocUnsafeSlow(rounded)
    }
    this.#keptBytes -= rounded
    return buffer
  }

  #forget(): void {
    for (const kept of this.#free.values()) kept.forEach(freeBuffer)
    this.#free.clear()
    this.#keptBytes = 0
  }

  /** Takes a buffer back, and frees it if there is no room for it. The caller must not touch it again. */
  readonly give = (buffer: Buffer): void => {
    const size = buffer.length
    if (size !== sizeClass(size) || this.#keptBytes + size > this.#limitBytes) {
      freeBuffer(buffer)
      return
    }
    const list = this.#free.get(size)
    if (list === undefined) this.#free.set(size, [buffer])
    else list.push(buffer)
    this.#keptBytes += size
  }
}

/** The next power of two, and at least 512. */
function sizeClass(sizeBytes: number): number {
  let size = 512
  while (size < sizeBytes) size *= 2
  return size
}

/**
 * Gives the memory of a large buffer back at once. Otherwise it would be in use until V8 collects the buffer, and V8 waits with that until some 64 MB have
 * come together. Nobody may touch the buffer again: it has no bytes any more. A small buffer, and one that shares its memory with another one, is left
 * to V8.
 */
export function freeBuffer(buffer: Buffer): void {
  if (buffer.length < largeBytes || buffer.length !== buffer.buffer.byteLength) return
  // Memory that is sent away belongs to nobody here (HTML, section 2.7.4, StructuredSerializeWithTransfer), and a port that is closed throws it away. Node 22 has
  // `ArrayBuffer.prototype.transfer` for this.
  nowhere.postMessage(null, [buffer.buffer as ArrayBuffer])
}

/** To free a buffer takes a microsecond, which V8 needs to allocate and to collect one of this size. */
const largeBytes = 16_384
const nowhere = new MessageChannel().port1
nowhere.close()
