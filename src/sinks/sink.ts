import type { Process } from '../kafka/consumer/consumer.ts'

/**
 * A place that `chute consume` hands records to. Read this file of the folder first. Each other file is one kind of sink, and
 * `ndjson.ts` is the form that all of them write. The folder knows the consumer's records and nothing else of Chute.
 */
export interface Sink {
  readonly process: Process
  /** Resolves when the sink can take no more records, with the reason. It does not resolve because of {@link close}. */
  readonly ended: Promise<string>
  /** Tells the other end that no more records come, and waits until it has ended. `signal` ends the wait. */
  close(signal: AbortSignal): Promise<void>
}

/**
 * Runs pieces of work, one at a time, on something that can break for good, such as a stream whose reader goes or a command
 * that exits. After a break the piece under way fails, and so does every later piece. A piece leaves no listener behind when it
 * has ended, since there are very many pieces.
 */
export class Breakable {
  #reason: Error | null = null
  #reject: ((error: Error) => void) | null = null

  /** Breaks for good. Only the first reason counts. */
  breakOff(reason: Error): void {
    this.#reason ??= reason
    this.#reject?.(this.#reason)
  }

  /** Runs one piece. It fails after a break, and when the signal is aborted. */
  async do(
    piece: (done: () => void, fail: (error: Error) => void) => void,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#reason !== null) throw this.#reason
    const onAbort = (): void => this.#reject?.(new Error('the time to stop is up'))
    try {
      await new Promise<void>((resolve, reject) => {
        this.#reject = reject
        signal.addEventListener('abort', onAbort)
        if (signal.aborted) onAbort()
        else piece(resolve, reject)
      })
    } finally {
      this.#reject = null
      signal.removeEventListener('abort', onAbort)
    }
  }
}
