import type { Delivery, StreamConfig } from '../../config/config.ts'
import type { AuditInstance } from '../protocol/audit-header.ts'
import type { RecordBytes } from '../protocol/record-bytes.ts'
import type { ConfirmationMode, DropReason, Outcome, OutcomeCounts } from './outcome.ts'

/**
 * What the rest of Chute sees of a stream's producer. Read this file of the folder first: it has the ports, and everything else in
 * producer/ is behind them. producer/ knows no HTTP, and no delivery: `at-most-once/` and `at-least-once/` stand on it, and
 * `../producers.ts` puts them together.
 *
 * Room is reserved for a whole request. Then every event of the request is appended, and no append can fail or wait. The way back of an
 * outcome is one line: a sender settles a batch (`Account.settle`), the account books the outcome and gives the room back, and each
 * listener of the batch ({@link PendingBatch.onSettled}) is called in a microtask of its own. {@link ProducerStats} counts the same.
 */
export interface Producer {
  readonly stream: StreamConfig
  /**
   * Largest record, key and value together, that the topic takes, in bytes. The lower of `max.request.size` and the
   * topic's `max.message.bytes`, with a margin. An event above it must be refused before it is appended: with acks=0
   * one refusal by the broker loses what follows it.
   */
  readonly maxRecordBytes: number
  /** The topic is compacted: an event without a key must be refused before it is appended, for the same reason. */
  readonly needsKey: boolean
  /** Bytes of the headers that each record gets; 0 without `audit: true`. */
  readonly headerBytes: number
  /** Whether records can be appended at all; if not, the request must be refused with 503, and {@link obstacle} says why. */
  readonly admission: ProducerAdmission
  /** Why Kafka does not take records; null while it does. The same words are in the reply, in `/readyz` and in the log. */
  readonly obstacle: Obstacle | null
  /** A connection to a broker of the stream is open. */
  readonly isConnected: boolean
  /** Null: an append counts at once, in memory. Otherwise nothing that is appended counts before it is committed. */
  readonly durability: Durability | null
  /**
   * Takes room for a whole request, or none of it.
   * @param sizeBytes sum of {@link recordSizeUpperBound} over the request's records.
   * @returns false if `buffer.memory` would be passed: nothing was accepted.
   */
  reserve(sizeBytes: number): boolean
  /** Gives back room that was reserved and is not going to be used. */
  unreserve(sizeBytes: number): void
  /**
   * As {@link reserve}, but waits for room, in order of asking, for `max.block.ms` at most.
   * @returns false when the time ran out.
   */
  reserveOrWait(sizeBytes: number): Promise<boolean>
  /**
   * Accepts one record, for which room was reserved: the bytes are copied before this returns. A record without a key goes
   * to a partition that can be written to.
   * @returns the batch that took it; the record is the last in it.
   */
  append(record: RecordBytes): PendingBatch
  /** Books `count` records that are accepted and dropped on the spot, since the buffer is full. */
  drop(count: number): void
  /** Seconds after which room can be expected: from the rate at which the buffer drains, at least 1, at most 60. */
  retryAfterSeconds(): number
  readonly stats: ProducerStats
}

/**
 * Whether the topic of a stream takes records. `not_known_yet`: Kafka was not reached since the start, so that a key's partition is not
 * known. `no_leader_yet`: the topic is known, and no leader of it was reached since the start. `unknown_topic` and `not_authorized`:
 * Kafka said so.
 */
export type TopicAdmission = 'open' | 'not_known_yet' | 'no_leader_yet' | 'unknown_topic' | 'not_authorized'

/**
 * Whether a producer takes records, and if not, why. `spool_unavailable`: the disk did not take the last write. `closing`: the gateway is
 * shutting down. A closed set: `routes/ingest/admit.ts` has a problem for each, and `readiness.ts` a check.
 */
export type ProducerAdmission = TopicAdmission | 'spool_unavailable' | 'closing'

/** Why Kafka does not take records of a topic. */
export interface Obstacle {
  /** What stands in the way, for whoever sends events. */
  readonly summary: string
  /** What an operator has to know besides: addresses, errors, and what to do. */
  readonly cause: string | null
}

/**
 * What a durable stream offers: its records are on disk before they count as accepted. A note is kept on disk with the records of a
 * request. The stream does not know what notes say (`dedupe/` keeps its keys in them).
 */
export interface Durability {
  /** False: the disk goes with the container or with the memory of the machine, so no 202 may say `durable`. */
  readonly isLasting: boolean
  /** Tells the listener, once, when everything that was appended so far is on disk, or could not be brought there. */
  commit(listener: CommitListener): void
  /**
   * Adds a note to the commit of a request. After a crash the request's records and the note are there, or none of them is. To be
   * called after the records are appended, in the same turn of the event loop.
   * @param untilMs when the note may be forgotten, in epoch milliseconds.
   */
  note(key: string, value: Buffer, untilMs: number): void
  /** Adds a note to the next commit that has records. A crash before that commit takes the note. */
  noteLater(key: string, value: Buffer, untilMs: number): void
  /**
   * Reads the notes of earlier processes that may not be forgotten yet, oldest first. To be called right after the gateway was
   * built, before anything else happens.
   * @param windowMs the longest time that a note is kept. Files that are older are not opened.
   * @param each gets a view of the value. The view is valid during the call.
   */
  readNotes(windowMs: number, each: (key: string, value: Buffer, untilMs: number) => void): void
}

/** Is told of a commit. */
export interface CommitListener {
  /**
   * @param failure null; or the code of the error that kept the records from the disk: then none of them was accepted.
   * @param isUndecided the disk took neither the records nor their removal: a later start may find and send them.
   */
  committed(failure: string | null, isUndecided?: boolean): void
}

/** A producer, as the gateway that starts and stops it sees it. */
export interface ManagedProducer extends Producer {
  /** There is no room for a request of the usual size, and nothing makes room. Readiness goes by this. */
  readonly isFullAndStuck: boolean
  /** As in {@link ProducerStats}. To read the whole of the stats takes much longer. */
  readonly confirmation: ConfirmationMode
  /** As in {@link ProducerStats}. */
  readonly lacking: readonly string[]
  /**
   * Takes no more records, sends those that it has, and waits for their outcomes, until `deadlineMs` (by `performance.now()`) at most.
   * Records that are on disk need not be sent.
   * @returns whether nothing that was accepted is lost by the end.
   */
  close(deadlineMs: number): Promise<boolean>
  /** Ends at once. */
  abort(): void
}

/** A batch on its way, as a caller that waits for a record in it sees it. */
export interface PendingBatch {
  /** -1: its records have no key, and no partition has taken it yet. */
  readonly partition: number
  readonly recordCount: number
  /**
   * Calls `listener` with the outcome: once, or once for each part where the batch is split or its records go on in other batches. Each
   * record is in one of these calls, and none of them comes before `onSettled` returns.
   */
  onSettled(listener: (settlement: Settlement) => void): void
  /** The batches that its records were in before; empty where they were appended to this one. */
  readonly sources?: readonly RecordSource[]
  /** A client waits for the outcome: the batch need not linger, and is asked about as soon as it is written. */
  hurry(): void
}

/** Records that follow each other in one batch and, from another place on, in a batch that took them over. */
export interface RecordSource {
  readonly batch: PendingBatch
  /** Of the first of them, in the batch that they were appended to. */
  readonly place: number
  readonly targetPlace: number
  readonly count: number
}

/** How a batch ended, or a part of it. */
export interface Settlement {
  /** `pending`: the process ends before there is an outcome, and the records are on disk for the next process. */
  readonly outcome: Outcome | 'pending'
  /** Null unless `dropped` or `dead_lettered`. */
  readonly reason: DropReason | null
  /** -1: the records have no key, and no partition had taken them. */
  readonly partition: number
  /** Offset of the first of these records, where a broker told it; else null. */
  readonly baseOffset: bigint | null
  /**
   * The place of the first of these records in the batch that they were appended to: 0 unless the batch was split, or its records went on
   * in other batches.
   */
  readonly firstPlace: number
  readonly recordCount: number
}

/**
 * The account of one stream and the state of its producer, read at scrape and at shutdown. Counters only grow. The counters of the
 * outcomes are those of `outcome.ts`.
 */
export interface ProducerStats extends Readonly<OutcomeCounts> {
  readonly stream: string
  readonly topic: string
  readonly delivery: Delivery
  /**
   * Records that were answered with 202. Always: accepted + recovered = spooled + buffered + inFlight + the sum of the
   * outcomes.
   */
  readonly accepted: number
  /** Records that an earlier process accepted and left on disk; 0 where there is no spool. */
  readonly recovered: number
  /** Records that are on disk and not in the producer's buffer; 0 where there is no spool. */
  readonly spooled: number
  /** Records in open or closed batches that were not written. */
  readonly buffered: number
  /** Records written and without an outcome. */
  readonly inFlight: number
  /** Records that a broker refused for good, by Kafka's name of the error, whatever became of them: no term of the account. */
  readonly refused: Readonly<Record<string, number>>
  /**
   * Records that were sent again although Kafka may have had them and could no longer tell: the most that can be twice.
   * 0 as long as Kafka knows the producer of each batch.
   */
  readonly possiblyRepeated: number
  /** `record-send-total` of Kafka: records handed to the sender's socket. */
  readonly recordSendTotal: number
  /** `record-error-total` of Kafka: records that ended as an error that the producer saw: drops and suspected losses. */
  readonly recordErrorTotal: number
  /** Of these, the records that the producer saw fail itself: without those that only the barrier suspects. */
  readonly localErrorTotal: number
  /** Sums over the last 30 s: what the rate and the mean below are made of, and would be for several producers. */
  readonly recent: {
    readonly attempts: number
    readonly errors: number
    readonly batches: number
    readonly batchBytes: number
  }
  /** Errors ÷ attempts over the last 30 s, 0 to 1. */
  readonly recordErrorRate: number
  readonly bufferTotalBytes: number
  readonly bufferAvailableBytes: number
  /** Mean size of the batches of the last 30 s as written, in bytes; 0 when there was none (`batch-size-avg`). */
  readonly batchSizeAvg: number
  /** At least one connection to a broker of this stream is open. */
  readonly connected: boolean
  /** The circuit breaker keeps the stream from connecting for the moment. */
  readonly circuitOpen: boolean
  /** Every partition of the topic has been seen, at least once since start. */
  readonly topicKnown: boolean
  readonly confirmation: ConfirmationMode
  /** What brokers do not serve of what the stream needs: `host:9093 serves ListOffsets 0 to 2, Chute needs 4`. */
  readonly lacking: readonly string[]
  /** `chute_loss_ratio` by source, 0 to 1; `broker` is null until two looks at the log end offsets were made. */
  readonly lossRatio: { readonly producer: number; readonly barrier: number; readonly broker: number | null }
  /**
   * Log end offset of each partition as it was first and last seen, and the records written to it in between. A fleet's
   * loss is made of these (several writers move one offset).
   */
  readonly logEndOffsets: readonly PartitionProgress[]
  /**
   * Records of each partition that have a number in their header; empty without `audit: true`. Together they are what was
   * accepted, less what was dropped as `buffer_full`; of a durable stream, what was taken from the disk to the producer.
   */
  readonly audit: readonly AuditCount[]
  /** Null: the stream answers from memory. */
  readonly spool: SpoolStats | null
}

/** What a durable stream has on disk. */
export interface SpoolStats {
  /** Records that Kafka has not acknowledged, those in the buffer and in flight among them. */
  readonly records: number
  /** Of its files: they go when all of their records are done. */
  readonly bytes: number
  /** `spool.max.bytes`. */
  readonly maxBytes: number
  /** Of the oldest record that is not acknowledged; 0 if there is none. */
  readonly oldestAgeSeconds: number
  /** Records that were on disk and got an outcome. */
  readonly drained: number
  readonly writeFailures: number
  readonly readFailures: number
  /** False for a moment after the disk refused a write: events are refused meanwhile. */
  readonly available: boolean
}

/** How many records of a partition one producer has numbered: their sequences are `first` to `first + stamped` - 1. */
export interface AuditCount {
  readonly instance: AuditInstance
  readonly partition: number
  /** Left out: 0. Records that an earlier process had numbered, and this one sends again, begin further on. */
  readonly first?: number
  readonly stamped: number
}

/** See {@link ProducerStats.logEndOffsets}. */
export interface PartitionProgress {
  readonly partition: number
  /** Log end offset when it was first seen. */
  readonly baseOffset: number
  readonly logEndOffset: number
  readonly written: number
}

/** What a producer tells as it happens: one call a batch or a request, and never a call a record. */
export interface ProducerTelemetry {
  /** A batch was written. `queueTimeMs`: from its first append. `sizeBytes`: on the wire. */
  batchWritten(sizeBytes: number, recordCount: number, queueTimeMs: number): void
  /** A produce request was answered, or, with acks=0, handed to the kernel. */
  requestCompleted(latencyMs: number): void
}

/** Fixed part of a record batch: its header (61 bytes) and the most that a record adds to its key and value (21 + varints). */
const recordOverheadBytes = 96

/**
 * Room to reserve for one record: never less than what it takes, a batch of its own included (as Kafka's
 * `AbstractRecords.estimateSizeInBytesUpperBound`). What is not needed goes back when the batch is closed.
 * @param headerBytes {@link Producer.headerBytes}
 */
export function recordSizeUpperBound(keyBytes: number, valueBytes: number, headerBytes = 0): number {
  return recordOverheadBytes + keyBytes + valueBytes + headerBytes
}
