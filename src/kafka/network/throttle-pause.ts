/**
 * The pause that a broker asks for (`throttle_time_ms`, KIP-219). A further answer can make it longer. One timer says when it is over, however often
 * that is asked for, and never early: a timer can fire a part of a millisecond before its time.
 */
export class ThrottlePause {
  readonly #onOver: () => void
  #untilMs = 0
  #timer: NodeJS.Timeout | null = null

  /** @param onOver is called when the pause is over, once after {@link tellWhenOver}. */
  constructor(onOver: () => void) {
    this.#onOver = onOver
  }

  /** The broker wants no requests now. */
  get isOn(): boolean {
    return this.#untilMs > 0 && performance.now() < this.#untilMs
  }

  /** The broker asks for a pause from now on. A pause that ends later stays as it is. */
  extend(forMs: number): void {
    this.#untilMs = Math.max(this.#untilMs, performance.now() + forMs)
  }

  /** Makes sure that the end of the pause is told. */
  tellWhenOver(): void {
    const waitMs = Math.ceil(this.#untilMs - performance.now())
    this.#timer ??= setTimeout(this.#look, Math.max(1, waitMs))
  }

  /** Tells nothing any more. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  readonly #look = (): void => {
    this.#timer = null
    if (this.isOn) return this.tellWhenOver()
    this.#untilMs = 0
    this.#onOver()
  }
}
