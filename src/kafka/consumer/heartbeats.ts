/**
 * Keeps a member in its group while it processes one poll, since kafkajs sends heartbeats only on demand. The heartbeats stop after
 * `max.poll.interval.ms`, so that a member that hangs loses its partitions.
 */
export class Heartbeats {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #deadline: AbortSignal
  #error: unknown = null

  constructor(beat: () => Promise<void>, options: HeartbeatOptions) {
    const startMs = performance.now()
    this.#timer = setInterval(() => {
      if (performance.now() - startMs > options.limitMs) {
        options.onLimit()
        this.#end()
        return
      }
      beat().catch((error: unknown) => {
        this.#error ??= error
        this.#end()
      })
    }, options.intervalMs)
    this.#deadline = options.deadline
    this.#deadline.addEventListener('abort', this.#end)
  }

  /** Is aborted when a heartbeat fails (the group rebalances, or has thrown the member out), after `limitMs`, and at the deadline. */
  get hurry(): AbortSignal {
    return this.#controller.signal
  }

  readonly #end = (): void => {
    this.stop()
    this.#controller.abort()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#deadline.removeEventListener('abort', this.#end)
  }

  /** Throws the error of the heartbeat that failed, so that kafkajs joins the group anew. */
  rethrow(): void {
    if (this.#error !== null) throw this.#error
  }
}

/** See {@link Heartbeats}. */
export interface HeartbeatOptions {
  readonly intervalMs: number
  /** `max.poll.interval.ms` */
  readonly limitMs: number
  readonly onLimit: () => void
  /** Is aborted when the time to stop is up. */
  readonly deadline: AbortSignal
}
