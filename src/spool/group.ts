import type {
  CommitListener,
  PendingBatch,
  SettledBatch,
  Settlement,
  SettlementListener,
} from '../kafka/producer/producer.ts'
import { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import { EntryReader, FrameBuilder } from './frame.ts'

/** What is committed together: the requests that came while the disk was busy with the groups before. */
export class Group extends FrameBuilder {
  /** Number of its first record, once the group is being written. */
  firstSeq = -1
  /** Room that the group holds: in memory until it is committed, on disk until its segment goes. */
  reservedBytes = 0
  /** When its first record was accepted. */
  firstTimeMs = 0
  /** When the last of its notes may be forgotten; 0: it has no notes. */
  notesUntilMs = 0
  /** It is one large request alone. */
  isLarge = false
  readonly listeners: CommitListener[] = []
  /** Notes that somebody else left for this group. They wait again if the group is refused. */
  laterNotes: Note[] = []
  /** The records whose outcome somebody waits for. */
  readonly awaited: SpooledRecord[] = []

  constructor() {
    super(Buffer.allocUnsafeSlow(firstBufferBytes))
  }

  /** Appends a record. */
  add(record: RecordBytes): void {
    if (this.recordCount === 0) this.firstTimeMs = record.timestampMs
    this.append('record', record)
  }

  /** Appends a note. A group that goes to the disk has records, too. */
  note({ key, value, untilMs }: Note): void {
    this.notesUntilMs = Math.max(this.notesUntilMs, untilMs)
    this.append('note', RecordBytes.of(value, Buffer.from(key), untilMs))
  }

  /** The keys of its notes. Reads through the whole group. */
  noteKeys(): Set<string> {
    const keys = new Set<string>()
    const entries = new EntryReader(this.frame, 0, this.sizeBytes)
    while (entries.next()) if (entries.kind === 'note') keys.add(entries.key() ?? '')
    return keys
  }
}

/** What a request of many records appends, a part a turn. The notes have a place of their own until the request is committed. */
export class LargeGroup {
  readonly group = new Group()
  readonly notes = new Group()
}

/** See `Durability.note`. */
export interface Note {
  readonly key: string
  readonly value: Buffer
  /** When the note may be forgotten, in epoch milliseconds. */
  readonly untilMs: number
}

/** The buffer grows where a request is larger. */
const firstBufferBytes = 16 * 1024

/**
 * A record on disk whose outcome somebody may wait for. For the waiter the record is a batch of its own: only when the record
 * is fed to the producer is it known which of the producer's batches has it.
 */
export class SpooledRecord implements PendingBatch {
  readonly recordCount = 1
  partition = -1
  /** Its place in the group. */
  readonly place: number
  /** The list of the group that the record is added to when somebody waits. The record itself must not hold the group, which has its bytes. */
  readonly #awaited: SpooledRecord[]
  #listeners: SettlementListener[] | null = null
  #isHurried = false

  /** @param group the record is the last one in it. */
  constructor(group: Group) {
    this.#awaited = group.awaited
    this.place = group.recordCount - 1
  }

  /** @inheritdoc */
  onSettled(listener: SettlementListener): void {
    if (this.#listeners === null) {
      this.#listeners = []
      this.#awaited.push(this)
    }
    this.#listeners.push(listener)
  }

  /** @inheritdoc */
  hurry(): void {
    this.#isHurried = true
  }

  /**
   * The record is now at `place` of a producer's batch, and gets its outcome from there.
   * @param isLeft tells whether the records of a settlement stay on disk, for the next process to send.
   */
  follow(batch: PendingBatch, place: number, isLeft: (settlement: Settlement) => boolean): void {
    batch.onSettled((settlement, settled) => {
      const { outcome, reason, partition, baseOffset, firstPlace, recordCount } = settlement
      const nth = place - firstPlace
      if (nth < 0 || nth >= recordCount) return
      if (isLeft(settlement)) return this.leave()
      this.partition = partition
      const offset = baseOffset === null ? null : baseOffset + BigInt(nth)
      this.settle({ outcome, reason, baseOffset: offset }, settled)
    })
    if (this.#isHurried) batch.hurry()
  }

  /** Tells the listeners that this process will not learn the record's outcome. */
  leave(): void {
    this.settle({ outcome: 'pending', reason: null })
  }

  /** Tells the listeners the record's outcome. */
  settle({ outcome, reason, baseOffset = null }: RecordEnd, batch?: SettledBatch): void {
    const { partition } = this
    const settlement: Settlement = { partition, baseOffset, firstPlace: 0, recordCount: 1, outcome, reason }
    for (const listener of this.#listeners ?? []) listener(settlement, batch)
    this.#listeners = null
  }
}

/** The outcome of one record. */
interface RecordEnd extends Pick<Settlement, 'outcome' | 'reason'> {
  readonly baseOffset?: bigint | null
}
