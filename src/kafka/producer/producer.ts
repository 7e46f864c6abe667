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
 * outcome is one line. A sender settles a batch (`Account.settle`). The account books the outcome and gives the room back. Then each
 * listener of the batch ({@link PendingBatch.onSettled}) is called in a microtask of its own. {@link ProducerStats} has the counts.
 */
export interface Producer {
  readonly stream: StreamConfig
  /**
   * Size of the largest record that the topic takes, key and value together, in bytes: the lower of `max.request.size` and the topic's
   * `max.message.bytes`, less a margin. A larger event must be refused before it is appended. With acks=0, a refusal by the broker loses
   * the records behind the refused one, too.
   */
  readonly maxRecordBytes: number
  /** The topic is compacted. An event without a key must be refused before it is appended, for the same reason. */
  readonly needsKey: boolean
  /** Bytes of the headers that the producer adds to each record (`record-headers.ts`); 0 if it adds none. A record's own headers are not in it. */
  readonly headerBytes: number
  /** Whether records can be appended. If not, the request must be refused with 503, and {@link obstacle} says why. */
  readonly admission: ProducerAdmission
  /** Why Kafka does not take records; null while it does. The same words are in the reply, in `/readyz` and in the log. */
  readonly obstacle: Obstacle | null
  /** A connection to a broker of the stream is open. */
  readonly isConnected: boolean
  /** The producers of the topics of a stream with several (`topics`): the list that `RecordBytes.topic` is a place in. Left out: one topic. */
  readonly topics?: readonly TopicProducer[]
  /** null: a record is accepted when it is appended, in memory. Otherwise a record is accepted when it is committed. */
  readonly durability: Durability | null
  /**
   * Takes room for a whole request, or none of it.
   * @param sizeBytes sum of {@link chargeOf} over the request's records.
   * @returns false if `buffer.memory` would be passed: nothing was accepted.
   */
  reserve(sizeBytes: number): boolean
  /** Gives back room that was reserved and that no record will use. */
  unreserve(sizeBytes: number): void
  /**
   * As {@link reserve}, but waits for room, in the order of the calls, for `max.block.ms` at most.
   * @returns false when the time ran out, and at once where waiting would be of no use.
   */
  reserveOrWait(sizeBytes: number): Promise<boolean>
  /**
   * Accepts one record, for which room was reserved. The bytes are copied before this returns. A record without a key goes to a partition
   * that can be written to.
   * @returns the batch that took the record. The record is the last one in it.
   */
  append(record: RecordBytes): PendingBatch
  /** Books `count` records as accepted and dropped: the buffer is full. @param topic as in {@link topics}. */
  drop(count: number, topic?: number): void
  /** Seconds after which room can be expected, by the rate at which the buffer drains. From 1 to 60. */
  retryAfterSeconds(): number
}

/** A topic of a stream with several, as the routes see it. */
export type TopicProducer = Pick<
  Producer,
  'stream' | 'admission' | 'obstacle' | 'maxRecordBytes' | 'needsKey' | 'retryAfterSeconds'
>

/**
 * Whether the topic of a stream takes records. `not_known_yet`: Kafka has not told yet which partitions there are, or whether the stream may
 * write to them. `no_leader_yet`: the topic is known, and no leader of it was reached since the start. `unknown_topic` and `not_authorized`:
 * Kafka said that the topic does not exist, or that the credentials may not write to it.
 */
export type TopicAdmission = 'open' | 'not_known_yet' | 'no_leader_yet' | 'unknown_topic' | 'not_authorized'

/**
 * Whether a producer takes records, and if not, why. `spool_unavailable`: the disk did not take the last write. `closing`: the gateway is
 * shutting down. A closed set: `routes/ingest/admit.ts` has a problem for each, and `readiness.ts` a check.
 */
export type ProducerAdmission = TopicAdmission | 'spool_unavailable' | 'closing'

/**
 * What is true of a producer that takes no records. `waits`: it was not open yet, and opens by itself; a stream with a spool takes records
 * meanwhile. `isFinal`: Kafka refused, and goes on refusing until somebody changes something. `isMissing`: there is no topic. `isAvailable`: it
 * counts as available (`chute_stream_available`), as an end that was asked for is no fault.
 */
export const admissionTraits = {
  open: { waits: false, isFinal: false, isMissing: false, isAvailable: true },
  not_known_yet: { waits: true, isFinal: false, isMissing: false, isAvailable: false },
  no_leader_yet: { waits: true, isFinal: false, isMissing: false, isAvailable: false },
  unknown_topic: { waits: false, isFinal: true, isMissing: true, isAvailable: false },
  not_authorized: { waits: false, isFinal: true, isMissing: false, isAvailable: false },
  spool_unavailable: { waits: false, isFinal: false, isMissing: false, isAvailable: false },
  closing: { waits: false, isFinal: false, isMissing: false, isAvailable: true },
} as const satisfies Record<
  ProducerAdmission,
  {
    readonly waits: boolean
    readonly isFinal: boolean
    readonly isMissing: boolean
    readonly isAvailable: boolean
  }
>

/** Why Kafka does not take records of a topic. */
export interface Obstacle {
  /** The reason, for clients that send events. */
  readonly summary: string
  /** Details for an operator: addresses, errors, and what to do. null: there are none. */
  readonly cause: string | null
}

/** The name of a topic. @param place in the list of the stream's topics, as `RecordBytes.topic` is. */
export function topicOf({ topics, stream }: Pick<Producer, 'topics' | 'stream'>, place: number): string {
  return (topics?.[place]?.stream ?? stream).topic
}

/**
 * What a durable stream offers: its records are on disk before they count as accepted. A note is kept on disk with the records of a
 * request. The stream does not know what notes say (`dedupe/` keeps its keys in them).
 */
export interface Durability {
  /** False: the disk goes with the container or with the memory of the machine, so no 202 may say `durable`. */
  readonly isLasting: boolean
  /** What workers that are gone left of the stream: their notes count too. Left out: nothing. */
  readonly left?: readonly Pick<Durability, 'readNotes'>[]
  /** Tells the listener, once, when everything that was appended so far is on disk, or could not be written. */
  commit(listener: CommitListener): void
  /** Begins a request of many records, which are appended in several turns of the event loop. */
  begin(): LargeCommit
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
  /** Calls back, once, when no later start can find records of a commit that was undecided. Not at all if the process ends before. */
  whenDecided(done: () => void): void
}

/**
 * The commit of one request of many records. What is appended and noted here goes to the disk together, and only after
 * {@link commit}. The commits of other requests in between leave it out.
 */
export interface LargeCommit extends Pick<Durability, 'note' | 'commit'> {
  /** As {@link Producer.append}. */
  append(record: RecordBytes): PendingBatch
}

/** Is told of a commit. */
export interface CommitListener {
  /**
   * A commit has ended.
   * @param failure null: the records are accepted. Otherwise the code of the disk's error, and none of the records is accepted.
   * @param isUndecided the disk took neither the records nor their removal. A later start may find the records and send them.
   */
  committed(failure: string | null, isUndecided?: boolean): void
}

/** A producer, as the gateway that starts and stops it sees it. */
export interface ManagedProducer extends Producer {
  /** There is no room for a request of the size of the last one, and nothing makes room. Readiness goes by this. */
  readonly isFullAndStuck: boolean
  /** As in {@link ProducerStats}. Reading all stats would take much longer. */
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

/** A producer that has an account. A stream with several topics has one for each of them, and none for all. */
export interface AccountedProducer extends ManagedProducer {
  readonly stats: ProducerStats
}

/** A batch on its way, as a caller that waits for a record in the batch sees it. */
export interface PendingBatch {
  /** -1: the records have no key, and no partition has taken the batch yet. */
  readonly partition: number
  readonly recordCount: number
  /**
   * Calls `listener` with the outcome. If the batch is split, or if its records move to other batches, the listener is called for each part.
   * Each record is in exactly one of these calls. No call comes before `onSettled` returns.
   * @param listener gets the batch that had the records at the end; left out: no batch of the producer had them.
   */
  onSettled(listener: SettlementListener): void
  /** The batches in which the records were before; empty if they were appended to this batch. */
  readonly sources?: readonly RecordSource[]
  /** A client waits for the outcome. So the batch need not linger, and the broker is asked about it as soon as it is written. */
  hurry(): void
}

/** Records that follow each other in the batch to which they were appended and, from another place on, in the batch that has them now. */
export interface RecordSource {
  /** The batch to which the records were appended. */
  readonly batch: PendingBatch
  /** The place of the first of these records in that batch. */
  readonly place: number
  /** The place of the first of these records in the batch that has them now. */
  readonly targetPlace: number
  readonly count: number
}

/** See {@link PendingBatch.onSettled}. */
export type SettlementListener = (settlement: Settlement, batch?: SettledBatch) => void

/** A batch that has its outcome. Times are by `performance.now()`. */
export interface SettledBatch {
  readonly createdAtMs: number
  /** When the batch was first handed to a socket; 0: never. */
  readonly writtenAtMs: number
  readonly recordCount: number
  readonly sizeBytes: number
  /** How often an at-least-once stream has written the batch; 0 at most once. */
  readonly attempts: number
}

/** The outcome of a batch, or of a part of a batch. */
export interface Settlement {
  /** `pending`: the process ends before there is an outcome, and the records are on disk for the next process. */
  readonly outcome: Outcome | 'pending'
  /** null unless the outcome is `dropped` or `dead_lettered`. */
  readonly reason: DropReason | null
  /** -1: the records have no key, and no partition had taken them. */
  readonly partition: number
  /** Offset of the first of these records; null if no broker told it. */
  readonly baseOffset: bigint | null
  /**
   * The place of the first of these records in the batch to which they were appended. 0 unless the batch was split, or its records moved
   * to other batches.
   */
  readonly firstPlace: number
  readonly recordCount: number
}

/**
 * The account of one stream and the state of its producer, read at each scrape and at shutdown. Counters only grow. The counters of the
 * outcomes are those of `outcome.ts`. A field has its value in `stream-producer.ts`, its rule for a sum over processes in `producer-stats.ts`,
 * and its metric in `metrics/producer-metrics.ts`.
 */
export interface ProducerStats extends Readonly<OutcomeCounts> {
  readonly stream: string
  readonly topic: string
  readonly delivery: Delivery
  /** Records that were answered with 202. Always: accepted + recovered = spooled + buffered + inFlight + the sum of the outcomes. */
  readonly accepted: number
  /** Records that an earlier process accepted and left on disk; 0 without a spool. */
  readonly recovered: number
  /** Records that are on disk and not in the producer's buffer; 0 without a spool. */
  readonly spooled: number
  /** Records in open or closed batches that were not written. */
  readonly buffered: number
  /** Records that were written and have no outcome. */
  readonly inFlight: number
  /** Records that a broker refused for good, by Kafka's name of the error. Not a term of the account: they have an outcome, too. */
  readonly refused: Readonly<Record<string, number>>
  /**
   * Records that were sent again although Kafka may have had them, since Kafka could no longer tell. At most so many records can be in Kafka
   * twice. 0 as long as Kafka knows the producer of each batch, and no batch is split that may be stored.
   */
  readonly possiblyRepeated: number
  /** `record-send-total` of Kafka: records that were handed to a socket, or dropped before. */
  readonly recordSendTotal: number
  /** `record-error-total` of Kafka: records whose outcome is an error (`isError` in `outcome.ts`). */
  readonly recordErrorTotal: number
  /** The part of {@link recordErrorTotal} that the producer saw fail (`isLocalError`). */
  readonly localErrorTotal: number
  /** Sums over the last 30 s. The rate and the mean below are made of these sums, also over several producers. */
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
  /** Mean size of the batches that were written in the last 30 s, in bytes; 0 if there was none (`batch-size-avg`). */
  readonly batchSizeAvg: number
  /** At least one connection to a broker of this stream is open. */
  readonly connected: boolean
  /** A circuit breaker holds back the next try to connect. */
  readonly circuitOpen: boolean
  /** False while the stream's requests are refused with 503, by {@link Producer.admission}. See {@link admissionTraits}. */
  readonly available: boolean
  /** Metadata had the topic with all of its partitions at least once since the start. */
  readonly topicKnown: boolean
  readonly confirmation: ConfirmationMode
  /** The requests that the stream needs and brokers do not serve, such as `host:9093 serves ListOffsets 0 to 2, Chute needs 4`. */
  readonly lacking: readonly string[]
  /** `chute_loss_ratio` by source, 0 to 1. `broker` is null until the log was looked at after a write. */
  readonly lossRatio: { readonly producer: number; readonly barrier: number; readonly broker: number | null }
  /**
   * The first and the last log end offset of each partition, and the records that were written in between. The loss of a fleet is made of
   * these, since several gateways write to one partition.
   */
  readonly logEndOffsets: readonly PartitionProgress[]
  /**
   * Records of each partition that have a number in their header; empty without `audit: true`. When all records have their outcome, all
   * accepted records have a number, except those that were dropped as `buffer_full`. Of a durable stream, the records that the producer has
   * got from the spool have a number.
   */
  readonly audit: readonly AuditCount[]
  /** null: the stream answers from memory. */
  readonly spool: SpoolStats | null
}

/** The records of a durable stream that are on disk. */
export interface SpoolStats {
  /** Records without an outcome, including the records in the buffer and in flight. */
  readonly records: number
  /** Size of the files. A file is removed when all of its records have an outcome. */
  readonly bytes: number
  /** `spool.max.bytes`. */
  readonly maxBytes: number
  /** Age of the oldest record without an outcome; 0 if there is none. */
  readonly oldestAgeSeconds: number
  /** Records that were on disk and got an outcome. */
  readonly drained: number
  readonly writeFailures: number
  readonly readFailures: number
  /** false for a moment after the disk refused a write. Events are refused meanwhile. */
  readonly available: boolean
}

/** How many records of a partition one producer has numbered. Their sequences are `first` to `first + stamped` - 1. */
export interface AuditCount {
  readonly instance: AuditInstance
  readonly partition: number
  /** Left out: 0. More than 0 only for records that an earlier process numbered and this process sends again. */
  readonly first?: number
  readonly stamped: number
}

/** See {@link ProducerStats.logEndOffsets}. */
export interface PartitionProgress {
  readonly partition: number
  /** The first log end offset. */
  readonly baseOffset: number
  readonly logEndOffset: number
  readonly written: number
}

/** A producer reports its writes here: one call a batch or a request, and never one call a record. */
export interface ProducerTelemetry {
  /** A batch was written at `nowMs`. `queueTimeMs`: time since the batch was opened. `sizeBytes`: its size on the wire. */
  batchWritten(sizeBytes: number, recordCount: number, queueTimeMs: number, nowMs?: number): void
  /** A produce request was answered, or, with acks=0, handed to the kernel. */
  requestCompleted(latencyMs: number): void
}

/** The header of a batch (61 bytes), and the most that a record takes besides its key, its value and its headers. */
const recordOverheadBytes = 96

/**
 * Room to reserve for one record. It is enough for a batch that has only this record (as Kafka's
 * `AbstractRecords.estimateSizeInBytesUpperBound`). Room that is not needed is given back when the batch is closed.
 * @param headerBytes {@link Producer.headerBytes}
 */
export function recordSizeUpperBound(keyBytes: number, valueBytes: number, headerBytes = 0): number {
  return recordOverheadBytes + keyBytes + valueBytes + headerBytes
}

/** Room for one record with its own headers. @param headerBytes {@link Producer.headerBytes} */
export function chargeOf(record: RecordBytes, headerBytes: number): number {
  return recordSizeUpperBound(record.keyBytes, record.valueBytes, headerBytes + record.headerBytes)
}
