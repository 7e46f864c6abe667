/**
 * Keeps buffers that are done with for the next who needs one, by size, so that a steady flow allocates none: large ones are the
 * costliest thing to allocate, and memory outside of the heap brings on the long kind of garbage collection. What it
 * keeps is bounded, and is not part of any stream's `buffer.memory`.
 */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>()
  #keptBytes = 0
  readonly #limitBytes: number

  /** @param limitBytes the most that is kept, in bytes. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** A buffer of at least `sizeBytes` bytes, with anything in it. */
  take(sizeBytes: number): Buffer {
    const rounded = sizeClass(sizeBytes)
    const buffer = this.#free.get(rounded)?.pop()
    if (buffer === undefined) return Buffer.allocUnsafeSlow(rounded)
    this.#keptBytes -= rounded
    return buffer
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

/** The next power of two, 512 at least. */
function sizeClass(sizeBytes: number): number {
  let size = 512
  while (size < sizeBytes) size *= 2
  return size
}
