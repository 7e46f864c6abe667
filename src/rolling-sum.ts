/**
 * A sum over the last seconds, in buckets of one second. Adding takes a few plain operations, so it may be done for each batch or request.
 * There is no timer.
 */
export class RollingSum {
  readonly #buckets: Float64Array
  #second = seconds()

  constructor(windowSeconds: number) {
    this.#buckets = new Float64Array(windowSeconds)
  }

  /** Adds a value to the current second. */
  add(value: number): void {
    this.#advance()
    const index = this.#second % this.#buckets.length
    this.#buckets[index] = this.#buckets[index]! + value
  }

  /** The sum over the window, with the current second. */
  sum(): number {
    this.#advance()
    let total = 0
    for (const value of this.#buckets) total += value
    return total
  }

  #advance(): void {
    const now = seconds()
    if (now === this.#second) return
    const { length } = this.#buckets
    const stale = Math.min(now - this.#second, length)
    for (let i = 1; i <= stale; i++) this.#buckets[(this.#second + i) % length] = 0
    this.#second = now
  }
}

function seconds(): number {
  return Math.floor(performance.now() / 1000)
}
