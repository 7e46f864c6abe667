import { BufferPool } from '../buffer-pool.ts'

/**
 * Puts a body that comes in pieces together, in one buffer that grows with them: never to more than four times what came,
 * so that a large `Content-Length` alone takes no memory. The buffers are recycled: thrown away, a few bodies of a megabyte
 * bring on a garbage collection that stops everything for longer than the work on them takes.
 */
export class BodyRoom {
  #buffer: Buffer
  #sizeBytes = 0
  readonly #mostBytes: number

  /** @param mostBytes what the body is not going to exceed. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes
    this.#buffer = none
  }

  /** Copies a piece behind those before it. */
  add(piece: Buffer): void {
    const needed = this.#sizeBytes + piece.length
    if (needed > this.#buffer.length) this.#grow(needed)
    this.#buffer.set(piece, this.#sizeBytes)
    this.#sizeBytes = needed
  }

  /** The body, which {@link recycleBody} is to be called with, or with nothing of it, once nobody reads it any more. */
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

/** Takes back the buffer of a body that came in pieces; of others, and of one that was taken back, nothing. Nobody may read it any more. */
export function recycleBody(body: Buffer): void {
  const buffer = lent.get(body.buffer)
  if (buffer === undefined) return
  lent.delete(body.buffer)
  pool.give(buffer)
}

/** Enough for the bodies of a megabyte that are read and decoded at a time where many come at once. */
const pool = new BufferPool(16 << 20)
const lent = new WeakMap<ArrayBufferLike, Buffer>()
const none = Buffer.alloc(0)
