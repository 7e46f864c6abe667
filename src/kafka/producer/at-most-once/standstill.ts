/**
 * Whether the high watermark of one partition stands still while writes wait for it. Then writing more would only be more
 * to lose: consumers see nothing beyond it, and what its leader alone has goes with the leader.
 *
 * A standstill begins when the high watermark was seen in the same place for an interval and twice the time that it usually
 * takes to move. So replicas that are always a little behind hold nothing up. It ends with the first move.
 */
export class Standstill {
  readonly #intervalMs: number
  /** Since when something waits, or the high watermark last moved; null: nothing waits. */
  #sinceMs: number | null = null
  /** Smoothed time that the high watermark stands still while something waits for it, in milliseconds. */
  #usualMs = 0
  #isOn = false

  /** @param intervalMs `confirm.interval.ms`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
  }

  /** Nothing more is to be written. */
  get isOn(): boolean {
    return this.#isOn
  }

  /** Something waits for the high watermark from now on. */
  waits(nowMs: number): void {
    this.#sinceMs ??= nowMs
  }

  /** The high watermark moved. @param isReached nothing waits any more. */
  moved(nowMs: number, isReached: boolean): void {
    if (this.#sinceMs !== null) {
      // A long standstill is no habit: each counts as no more than what begins one.
      const stoodMs = Math.min(nowMs - this.#sinceMs, this.#limitMs(0))
      this.#usualMs = this.#usualMs * 0.8 + stoodMs * 0.2
    }
    this.#sinceMs = isReached ? null : nowMs
    this.#isOn = false
  }

  /**
   * The high watermark was looked at and had not moved.
   * @param roundTripMs how long a look takes.
   * @returns whether a standstill begins.
   */
  stays(nowMs: number, roundTripMs: number): boolean {
    if (this.#isOn || this.#sinceMs === null || nowMs - this.#sinceMs <= this.#limitMs(roundTripMs))
      return false
    this.#isOn = true
    return true
  }

  /** How long it has lasted, in milliseconds; 0 while there is none. */
  lastsMs(nowMs: number): number {
    return this.#isOn && this.#sinceMs !== null ? nowMs - this.#sinceMs : 0
  }

  /** Nothing waits any more: it got another outcome. */
  end(): void {
    this.#sinceMs = null
    this.#isOn = false
  }

  #limitMs(roundTripMs: number): number {
    return this.#intervalMs + 2 * Math.max(this.#usualMs, roundTripMs)
  }
}
