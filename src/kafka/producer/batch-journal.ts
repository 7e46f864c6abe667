import type { PendingBatch } from './producer.ts'

/**
 * The producer notes each batch here before the first write of the batch. So a later process can send the same batch again under the same
 * identity. A broker recognizes a batch that it has by producer id, epoch and sequence, whoever sends it (KIP-98).
 */
export interface BatchJournal {
  /**
   * Notes the batches of one request. The producer does not write them before `done` is called.
   * @param scope stands for the topic and the cluster in which the identities hold.
   * @param done is called once: when the note survives the end of the process, or when the note cannot be made.
   */
  note(scope: number, batches: readonly IdentifiedBatch[], done: () => void): void
  /** A partition is gone, and the records of its last batch go to other partitions. */
  left(partition: number): void
}

/** The identity by which a broker recognizes a batch, and the numbers by which a process recognizes its records. */
export interface BatchIdentity {
  readonly partition: number
  readonly producerId: bigint
  readonly epoch: number
  readonly baseSequence: number
  readonly recordCount: number
  /** The sizes and times show whether records that were read back make the same batch. */
  readonly uncompressedBytes: number
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
  /** Headers of the first record, as they were encoded; null: the records have none. */
  readonly firstHeaders: Buffer | null
}

/** A batch that has its identity. */
export interface IdentifiedBatch extends BatchIdentity, Pick<PendingBatch, 'onSettled'> {
  /** The batch to which the records were appended: this batch itself, or the batch that was split of which this one is a part. */
  readonly whole: PendingBatch
  /** Place of the first record of this batch in {@link whole}. */
  readonly firstPlace: number
}

/** A batch that an earlier process noted, with its records. Their room is reserved. */
export interface ResumedBatch extends BatchIdentity {
  /** See {@link BatchJournal.note}. */
  readonly scope: number
  readonly notedAtMs: number
  readonly chargedBytes: number
  readonly records: readonly ResumedRecord[]
}

/** A record of a batch that is sent again. */
export interface ResumedRecord {
  readonly timestampMs: number
  readonly key: Buffer | null
  readonly value: Buffer
  /** Its own headers, without an audit header; null: it has none. */
  readonly headers: Buffer | null
}
