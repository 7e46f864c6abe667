/**
 * Keeps used buffers, by size, and hands them out again. So a steady flow allocates no buffer. Large buffers are costly to allocate, and memory
 * outside of the heap causes the long kind of garbage collection. The size of the pool is bounded, and is not part of any stream's
 * `buffer.memory`.
 *
 * A buffer that is not kept is left to V8. Its memory could be freed at once by detaching it (`postMessage`, `transfer`). But once a process has detached
 * one buffer, V8 checks each access to the bytes of every buffer, and loops over bytes take up to twice as long.
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
    this.#free.clear()
    this.#keptBytes = 0
  }

  /** Takes a buffer back. The caller must not touch it again. */
  readonly give = (buffer: Buffer): void => {
    const size = buffer.length
    if (size !== sizeClass(size) || this.#keptBytes + size > this.#limitBytes) return
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
