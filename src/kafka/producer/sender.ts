import type { StreamConfig } from '../../config/config.ts'
import type { Logger } from '../../logger.ts'
import type { ClusterMetadata } from '../network/cluster-metadata.ts'
import type { Transport } from '../network/transport.ts'
import type { WriteRights } from '../network/write-rights.ts'
import type { ProducerBatch } from './producer-batch.ts'
import type { Account } from './account.ts'
import type { Accumulator } from './accumulator.ts'
import type { BatchJournal, ResumedBatch } from './batch-journal.ts'
import type { ConfirmationMode, DropReason } from './outcome.ts'
import type { LogEndOffsets } from './log-end-offsets.ts'
import type { ProducerTelemetry } from './producer.ts'

/**
 * What a stream's producer asks of its sender, whatever the delivery is. The sender takes due batches from the accumulator and gives
 * each batch its outcome. `at-most-once/sender.ts` and `at-least-once/sender.ts` are the two senders. They do not know each other.
 */
export interface Sender {
  /** Writes the batches that are due and can be written. Cheap if there are none. Never throws. */
  pump(): void
  /**
   * Gives up the partitions from `count` on. They are gone, since the topic was made anew.
   * @returns the batches that were on their way there and may be sent again, in order. An at-most-once stream has none.
   */
  leave(count: number): ProducerBatch[]
  /** From now on `journal` is told of each batch before the batch is first written. A sender that never sends a batch again ignores the journal. */
  keepJournal(journal: BatchJournal): void
  /**
   * Makes a batch again that an earlier process noted, under the identity that the process noted, and sends it before all others of
   * its partition. To be called before anything is appended.
   * @returns the batch, closed. null if the batch cannot be the same any more, or if the sender never sends a batch again.
   */
  resume(noted: ResumedBatch): ProducerBatch | null
  /** A connection to a broker is open. */
  readonly isConnected: boolean
  /** A circuit breaker holds back the next try to connect. */
  readonly isCircuitOpen: boolean
  /** How the sender finds out outcomes at the moment. */
  readonly confirmationMode: ConfirmationMode
  /** The requests that the stream needs and a broker does not serve, a sentence a broker. */
  readonly lacking: readonly string[]
  /** Is called every second. Gives up batches that waited too long, and renews connections that would have to authenticate again. */
  everySecond(nowMs: number): void
  /** From now on the sender finds out outcomes as soon as possible: the stream is shutting down. */
  hurry(): void
  /** Resolves when brokers have handled all batches that have an outcome, or their connections have ended. May never resolve. */
  handled(): Promise<void>
  /** Ends all connections. Every batch that was written and has no outcome yet gets one. */
  stop(): void
}

/** What a stream's producer gives to its sender. */
export interface SenderOptions {
  readonly stream: StreamConfig
  readonly accumulator: Accumulator
  readonly account: Account
  readonly metadata: ClusterMetadata
  readonly transport: Transport
  readonly offsets: LogEndOffsets
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  /** The rights of the credentials. While a right is missing, the sender writes nothing. */
  readonly rights: WriteRights
  /** The error for which records wait until an operator has mended its cause; null: there is none, or the stream has no place for dead letters. */
  readonly heldFor: () => number | null
  /** Batches may be writable that were not. The producer pumps at the end of the turn. */
  readonly onReady: () => void
  /** A connection to a leader is open (null), or the last connection ended or could not be made (its failure). */
  readonly onConnection: (failure: Error | null) => void
  /** A broker refused a batch for good. The sender calls this besides giving the batch its outcome. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  /** Takes a batch that was refused for good, and gives it its outcome. */
  readonly onRefused: (batch: ProducerBatch, refusal: Refusal) => void
}

/** Why a batch was refused for good. */
export interface Refusal {
  readonly reason: DropReason
  /** Kafka's error code; null if no broker refused the batch. */
  readonly errorCode: number | null
  /** A broker may have stored the batch before, at another try. */
  readonly mayBeStored: boolean
}

/** Where the batches of a stream go that Kafka refused for good. */
export interface DeadLetterQueue {
  /** Takes a batch, and gives the batch its outcome now or later. */
  take(batch: ProducerBatch, refusal: Refusal): void
  /** Is called every second. */
  everySecond(nowMs: number): void
  /** The end is near: batches that have not reached the dead-letter topic go to the file. */
  hurry(): void
  /** Ends at once. */
  stop(): void
}
