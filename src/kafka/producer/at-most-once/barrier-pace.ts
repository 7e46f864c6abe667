/**
 * When a barrier rides on a write: if no other write is to be expected before the interval ends, and half of it is over. So
 * a stream that writes rarely, as with many streams, seldom needs a call to the kernel for the barrier alone, and one that
 * writes all the time is asked about no more often than the interval says.
 */
export class BarrierPace {
  readonly #intervalMs: number
  #sentAtMs = -Infinity
  #writtenAtMs = -Infinity
  /** Smoothed time from one write to the next, in milliseconds; none counts as more than half an interval. */
  #writeGapMs: number

  /** @param intervalMs `confirm.interval.ms`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
    this.#writeGapMs = intervalMs / 2
  }

  /** A barrier goes now. */
  sent(nowMs: number): void {
    this.#sentAtMs = nowMs
  }

  /** Something is written now. @returns whether a barrier is to go with it. */
  written(nowMs: number): boolean {
    const gapMs = Math.min(nowMs - this.#writtenAtMs, this.#intervalMs / 2)
    this.#writtenAtMs = nowMs
    this.#writeGapMs = this.#writeGapMs * 0.8 + gapMs * 0.2
    return nowMs + this.#writeGapMs >= this.#sentAtMs + this.#intervalMs
  }

  /** Milliseconds until a barrier is due by itself, `pauseMs` after the last. */
  dueInMs(nowMs: number, pauseMs: number): number {
    return Math.max(1, Math.min(this.#sentAtMs + pauseMs - nowMs, pauseMs))
  }
}
