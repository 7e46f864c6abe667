import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'

/**
 * A virtual clock for runs with hundreds of timers at a time: the timers of `virtual-clock.ts` are searched one by one for
 * the next, these are in a heap. It replaces every clock and timer of the process until {@link HeapClock.uninstall}.
 */
export class HeapClock {
  readonly #heap: Timer[] = []
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    setImmediate: globalThis.setImmediate,
    clearImmediate: globalThis.clearImmediate,
    Date: globalThis.Date,
  }
  readonly #realNow = Object.getOwnPropertyDescriptor(performance, 'now')
  readonly #realPause = timers.setTimeout
  #nowMs = 0
  #wallOffsetMs = 1_700_000_000_000
  #count = 0

  /** Replaces the clocks, at 0 ms. */
  install(): this {
    const add = (
      run: (...args: unknown[]) => void,
      ms: number,
      args: unknown[],
      everyMs: number | null,
    ): Timer =>
      this.#push(new Timer(this, () => run(...args), Math.max(everyMs === null ? 0 : 1, ms || 0), everyMs))
    const clear = (timer: Timer | undefined): void =>
      void (timer instanceof Timer && (timer.isCleared = true))
    const wallMs = (): number => Math.floor(this.#wallOffsetMs + this.#nowMs)
    const RealDate = this.#real.Date
    class VirtualDate extends RealDate {
      constructor(...args: [] | [number]) {
        super(args[0] ?? wallMs())
      }
      static override now(): number {
        return wallMs()
      }
    }
    Object.assign(globalThis, {
      setTimeout: (run: () => void, ms = 0, ...args: unknown[]) => add(run, ms, args, null),
      setInterval: (run: () => void, ms = 0, ...args: unknown[]) => add(run, ms, args, Math.max(1, ms)),
      setImmediate: (run: () => void, ...args: unknown[]) => add(run, 0, args, null),
      clearTimeout: clear,
      clearInterval: clear,
      clearImmediate: clear,
      Date: VirtualDate,
    })
    performance.now = () => this.#nowMs
    const pause = async (ms = 1, value?: unknown): Promise<unknown> =>
      await new Promise((resolve) => void setTimeout(() => resolve(value), ms))
    timers.setTimeout = pause as typeof timers.setTimeout
    syncBuiltinESMExports()
    return this
  }

  /** Gives the real ones back. Timers that are left never run. */
  uninstall(): void {
    Object.assign(globalThis, this.#real)
    if (this.#realNow === undefined) delete (performance as { now?: unknown }).now
    else Object.defineProperty(performance, 'now', this.#realNow)
    timers.setTimeout = this.#realPause
    syncBuiltinESMExports()
  }

  /** Steps the wall clock; durations go on as they were. */
  stepWallClock(byMs: number): void {
    this.#wallOffsetMs += byMs
  }

  /** Lets virtual milliseconds pass: timer by timer, and after each whatever promises it kept. */
  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    for (let next = this.#heap[0]; next !== undefined && next.dueMs <= endMs; next = this.#heap[0]) {
      this.#pop()
      if (next.isCleared) continue
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      if (next.everyMs !== null) {
        next.dueMs = this.#nowMs + next.everyMs
        this.#push(next)
      }
      next.run()
      await new Promise((resolve) => this.#real.setImmediate(resolve))
    }
    this.#nowMs = endMs
  }

  get count(): number {
    return this.#count
  }

  /** @internal */
  get nowMs(): number {
    return this.#nowMs
  }

  #push(timer: Timer): Timer {
    timer.order = this.#count++
    const heap = this.#heap
    let at = heap.push(timer) - 1
    for (let parent = (at - 1) >> 1; at > 0 && isBefore(timer, heap[parent]!); parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!
      heap[parent] = timer
      at = parent
    }
    return timer
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
  }
}

/** What `setTimeout` returns. */
class Timer {
  readonly run: () => void
  readonly everyMs: number | null
  dueMs: number
  order = 0
  isCleared = false

  constructor(clock: HeapClock, run: () => void, ms: number, everyMs: number | null) {
    this.run = run
    this.everyMs = everyMs
    this.dueMs = clock.nowMs + ms
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  hasRef(): boolean {
    return true
  }

  close(): void {
    this.isCleared = true
  }
}

function isBefore(one: Timer, other: Timer): boolean {
  return one.dueMs < other.dueMs || (one.dueMs === other.dueMs && one.order < other.order)
}
