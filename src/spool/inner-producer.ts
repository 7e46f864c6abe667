import type { BatchJournal, ResumedBatch } from '../kafka/producer/batch-journal.ts'
import type { ManagedProducer, PendingBatch } from '../kafka/producer/producer.ts'

/** The producer behind a spool: it has what is in memory and takes it to Kafka. */
export interface InnerProducer extends ManagedProducer {
  /** Room that is left in `buffer.memory`. */
  readonly bufferAvailableBytes: number
  /** From now on `journal` is told of each batch before it is first written. */
  keepJournal(journal: BatchJournal): void
  /**
   * Sends a batch of an earlier process again, as it was. To be called while the stream is open and before anything is
   * appended.
   * @returns null if it cannot be the same batch any more: nothing was taken.
   */
  resume(noted: ResumedBatch): PendingBatch | null
}
