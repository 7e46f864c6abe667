import type { RequestCount } from '../routes/policy/rate-limit.ts'

/**
 * Requests by address, each in a window of its own that begins with its first request: the counter of the rate limit where
 * several workers share it. Bounded: the address that was not seen for longest is forgotten first.
 */
export class RequestCounts {
  readonly #windowMs: number
  readonly #capacity: number
  readonly #windows = new Map<string, { count: number; startMs: number }>()

  constructor(windowMs: number, capacity = 10_000) {
    this.#windowMs = windowMs
    this.#capacity = capacity
  }

  /** Counts one request. `nowMs` never goes back. */
  count(address: string, nowMs: number): RequestCount {
    const known = this.#windows.get(address)
    const isOver = known === undefined || known.startMs + this.#windowMs <= nowMs
    const window = isOver ? { count: 1, startMs: nowMs } : { count: known.count + 1, startMs: known.startMs }
    // A map keeps the order of insertion, so this makes it the last to go.
    this.#windows.delete(address)
    this.#windows.set(address, window)
    if (this.#windows.size > this.#capacity) this.#windows.delete(this.#windows.keys().next().value!)
    return { current: window.count, ttl: window.startMs + this.#windowMs - nowMs }
  }
}
