import type { RecordBatch } from '../protocol/record-batch.ts'
import type { ConfirmationMode } from './confirmation-mode.ts'

/** What a stream's producer asks of its sender, whatever the delivery: take due batches from the accumulator and give each an outcome. */
export interface Sender {
  /** Writes what is due and can be written. Cheap when there is nothing; never throws. */
  pump(): void
  /**
   * Gives up the partitions from `count` on, which are gone: the topic was made anew.
   * @returns what was on its way there and may be sent again, in order; of an at-most-once stream nothing.
   */
  leave(count: number): RecordBatch[]
  /** A connection to a broker is open. */
  readonly isConnected: boolean
  /** A circuit breaker holds a connection back for the moment. */
  readonly isCircuitOpen: boolean
  /** How outcomes are found out at the moment. */
  readonly confirmationMode: ConfirmationMode
  /** What brokers do not serve of what is needed, a sentence a broker. */
  readonly lacking: readonly string[]
  /** Is called every second: gives up what waited too long, and renews connections that would have to authenticate again. */
  tend(nowMs: number): void
  /** From now on outcomes are wanted as soon as possible: the stream is shutting down. */
  hurry(): void
  /** Ends all connections. What was written and has no outcome yet gets the one that is true of it. */
  stop(): void
}
