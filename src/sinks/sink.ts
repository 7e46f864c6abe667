import type { Process } from '../kafka/consumer/consumer.ts'

/** Where `chute consume` hands records to. */
export interface Sink {
  readonly process: Process
  /** Resolves with the reason when it can take no more, unless it was closed. */
  readonly ended: Promise<string>
  /** Says that there is no more to come, and waits until that was understood; `signal` ends the wait. */
  close(signal: AbortSignal): Promise<void>
}

/**
 * Work, a piece at a time, on something that can break for good: a stream whose reader goes, a command that exits. A piece
 * that is under way then fails, and so does every later one. Nothing is left behind by a piece that has ended, since there
 * are very many of them.
 */
export class Breakable {
  #reason: Error | null = null
  #reject: ((error: Error) => void) | null = null

  /** There is no more. Only the first reason counts. */
  breakOff(reason: Error): void {
    this.#reason ??= reason
    this.#reject?.(this.#reason)
  }

  /** Does one piece; it also fails when the signal is aborted. */
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
