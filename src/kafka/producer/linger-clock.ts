/**
 * Says when open batches have lingered. A period begins with the first batch that is opened, and ends `linger.ms` later. All batches that are
 * opened in one period are due at its end. So no batch waits for longer than `linger.ms`, and the batches of all partitions and streams that
 * share a clock are written in one turn of the event loop. One timer serves all of them.
 *
 * `linger.ms` is one of the moments at which a batch closes. `Accumulator` (accumulator.ts) has all of them.
 */
export class LingerClock {
  readonly #lingerMs: number
  /** Who has a batch that was opened in this period. */
  readonly #waiting = new Set<() => void>()
  #timer: NodeJS.Timeout | null = null
  #period = 0

  /** @param lingerMs `linger.ms`. */
  constructor(lingerMs: number) {
    this.#lingerMs = lingerMs
  }

  /** The number of this period. A batch that was opened in an earlier one has lingered. */
  get period(): number {
    return this.#period
  }

  /** A batch is opened. `onDue` is called once at the end of the period, for all batches of its owner. */
  opened(onDue: () => void): void {
    this.#waiting.add(onDue)
    this.#timer ??= setTimeout(this.#end, this.#lingerMs)
  }

  /** An owner has no batches any more. */
  leave(onDue: () => void): void {
    this.#waiting.delete(onDue)
    if (this.#waiting.size > 0 || this.#timer === null) return
    clearTimeout(this.#timer)
    this.#timer = null
  }

  readonly #end = (): void => {
    this.#timer = null
    this.#period++
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const onDue of waiting) onDue()
  }
}

/** The clocks that all streams share: one for each value of `linger.ms`. */
export class LingerClocks {
  readonly #clocks = new Map<number, LingerClock>()

  /** The clock of the streams with this `linger.ms`. */
  of(lingerMs: number): LingerClock {
    let clock = this.#clocks.get(lingerMs)
    if (clock === undefined) {
      clock = new LingerClock(lingerMs)
      this.#clocks.set(lingerMs, clock)
    }
    return clock
  }
}
