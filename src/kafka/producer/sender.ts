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
 * What a stream's producer asks of its sender, whatever the delivery is: the sender takes due batches from the accumulator and gives
 * each of them an outcome. `at-most-once/sender.ts` and `at-least-once/sender.ts` are the two senders. They do not know each other.
 */
export interface Sender {
  /** Writes what is due and can be written. Cheap when there is nothing; never throws. */
  pump(): void
  /**
   * Gives up the partitions from `count` on, which are gone: the topic was made anew.
   * @returns what was on its way there and may be sent again, in order; of an at-most-once stream nothing.
   */
  leave(count: number): ProducerBatch[]
  /** From now on `journal` is told of each batch before the batch is first written. A sender that never sends a batch again ignores the journal. */
  keepJournal(journal: BatchJournal): void
  /**
   * Makes a batch again that an earlier process noted, under the identity that the process noted, and sends it before all others of
   * its partition. To be called before anything is appended.
   * @returns the batch, closed; null if it cannot be the same batch any more, or if the sender never sends a batch again.
   */
  resume(noted: ResumedBatch): ProducerBatch | null
  /** A connection to a broker is open. */
  readonly isConnected: boolean
  /** A circuit breaker holds a connection back for the moment. */
  readonly isCircuitOpen: boolean
  /** How outcomes are found out at the moment. */
  readonly confirmationMode: ConfirmationMode
  /** What brokers do not serve of what is needed, a sentence a broker. */
  readonly lacking: readonly string[]
  /** Is called every second: gives up what waited too long, and renews connections that would have to authenticate again. */
  everySecond(nowMs: number): void
  /** From now on outcomes are wanted as soon as possible: the stream is shutting down. */
  hurry(): void
  /** Ends all connections. Every batch that was written and has no outcome yet gets one. */
  stop(): void
}

/** What a stream's producer gives to its sender. Each sender names the members that it uses. */
export interface SenderOptions {
  readonly stream: StreamConfig
  readonly accumulator: Accumulator
  readonly account: Account
  readonly metadata: ClusterMetadata
  readonly transport: Transport
  readonly offsets: LogEndOffsets
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  /** What the credentials may do: while a right is missing, nothing is written. */
  readonly rights: WriteRights
  /** Something that kept batches from being written is gone: the producer pumps at the end of the turn. */
  readonly onReady: () => void
  /** A connection to a leader is open (null), or the last one is gone or could not be made. */
  readonly onConnection: (failure: Error | null) => void
  /** A broker refused a batch for good. The outcome of the batch is settled besides. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  /** Where a batch goes that was refused for good and is not to be dropped: it gets its outcome there. */
  readonly onRefused: (batch: ProducerBatch, refusal: Refusal) => void
}

/** Why a broker does not have a batch, and is not going to get it. */
export interface Refusal {
  readonly reason: DropReason
  /** Kafka's error code; null where it was not a broker's answer. */
  readonly errorCode: number | null
  /** A broker may have the batch all the same. */
  readonly mayBeStored: boolean
}

/** Where the batches of a stream go that Kafka refused for good. */
export interface DeadLetterQueue {
  /** Takes a batch, and gives it its outcome now or later. */
  take(batch: ProducerBatch, refusal: Refusal): void
  /** Is called every second. */
  everySecond(nowMs: number): void
  /** The end is near: what has not reached its place goes to the place that is certain. */
  hurry(): void
  /** Ends at once. */
  stop(): void
}
