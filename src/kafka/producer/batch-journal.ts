import type { PendingBatch } from './producer.ts'

/**
 * Where a producer notes what it is about to write for the first time, so that another process can send the very same batch
 * again under the same identity: a broker tells a batch that it has by producer id, epoch and sequence, whoever sends it
 * (KIP-98).
 */
export interface BatchJournal {
  /**
   * Notes batches of one request. They are not written before `done` is called.
   * @param scope which topic of which cluster the identities are good for.
   * @param done is called once, when the note survives the end of the process, or cannot be made.
   */
  note(scope: number, batches: readonly IdentifiedBatch[], done: () => void): void
}

/** What a broker tells a batch by, and what the batch is made of. */
export interface BatchIdentity {
  readonly partition: number
  readonly producerId: bigint
  readonly epoch: number
  readonly baseSequence: number
  readonly recordCount: number
  /** Sizes and times tell whether records that were read back make the same batch. */
  readonly uncompressedBytes: number
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
  /** Headers of the first record, as they were encoded; null: its records have none. */
  readonly firstHeaders: Buffer | null
}

/** A batch that has its identity. */
export interface IdentifiedBatch extends BatchIdentity, Pick<PendingBatch, 'onSettled'> {
  /** The batch that the records were appended to: itself, unless it is a part of one that was split. */
  readonly whole: PendingBatch
  /** Place of its first record in the whole. */
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
}
