import type { CommitListener } from '../kafka/producer/producer.ts'
import { FrameWriter } from './frame.ts'

/** Hears what becomes of the single record that it stands for. */
export interface RecordWaiter {
  /** Place of the record in its group. */
  readonly place: number
}

/** What is committed together: the requests of the moments in which the disk was busy with the group before. */
export class Group<Waiter extends RecordWaiter = RecordWaiter> extends FrameWriter {
  /** Number of its first record, once it is being written. */
  firstSeq = -1
  /** Room that it holds: in memory until it is committed, on disk until its file goes. */
  reservedBytes = 0
  /** When its first record was accepted. */
  firstTimeMs = 0
  /** When the last of its notes may be forgotten; 0: it has none. */
  notesUntilMs = 0
  readonly listeners: CommitListener[] = []
  readonly waiters: Waiter[] = []
}
