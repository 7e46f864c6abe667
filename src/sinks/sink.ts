import type { Process } from '../kafka/consumer/consumer.ts'

/** Where `chute consume` hands records to. */
export interface Sink {
  readonly process: Process
  /** Resolves with the reason when it can take no more, unless it was closed. */
  readonly ended: Promise<string>
  /** Says that there is no more to come, and waits until that was understood; `signal` ends the wait. */
  close(signal: AbortSignal): Promise<void>
}
