/**
 * A sum over the last seconds, in buckets of one second. Adding takes a few plain operations, so it may be done for each batch or request.
 * There is no timer.
 */
export class RollingSum {
  readonly #buckets: Float64Array
  #second = secondOf(performance.now())

  constructor(windowSeconds: number) {
    this.#buckets = new Float64Array(windowSeconds)
  }

  /** Adds a value to the current second. @param nowMs the time by `performance.now()`. Whoever has it saves another look at the clock. */
  add(value: number, nowMs: number = performance.now()): void {
    this.#advance(nowMs)
    const index = this.#second % this.#buckets.length
    this.#buckets[index] = this.#buckets[index]! + value
  }

  /** The sum over the window, with the current second. */
  sum(): number {
    this.#advance(performance.now())
    let total = 0
    for (const value of this.#buckets) total += value
    return total
  }

  #advance(nowMs: number): void {
    const now = secondOf(nowMs)
    // A look at the clock that is older than the last one counts for the newest second.
    if (now <= this.#second) return
    const { length } = this.#buckets
    const stale = Math.min(now - this.#second, length)
    for (let i = 1; i <= stale; i++) this.#buckets[(this.#second + i) % length] = 0
    this.#second = now
  }
}

function secondOf(nowMs: number): number {
  return Math.floor(nowMs / 1000)
}
