/**
 * Keeps a member in its group while it processes one poll: kafkajs sends heartbeats only when it is told to. They stop
 * after `max.poll.interval.ms`, so that a member that hangs loses its partitions.
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

  /** Aborted when the group goes on without this member (it rebalances, or has thrown it out), or at the deadline. */
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

  /** Throws what a heartbeat failed with, since kafkajs joins the group anew on it. */
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
  /** The time to stop is up. */
  readonly deadline: AbortSignal
}
