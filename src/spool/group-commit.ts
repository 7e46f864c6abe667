import type { CommitListener } from '../kafka/producer/producer.ts'
import { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import { Group } from './group.ts'
import type { PlacedGroup, SpoolLog } from './spool-log.ts'

/**
 * Collects what requests append into groups, and commits one write of groups after the other. While the disk is busy, the
 * next group takes in what comes, so that many requests share the cost of one sync. The records and the notes
 * of one request are in one group.
 */
export class GroupCommit {
  readonly #log: SpoolLog
  readonly #onEnd: GroupsEnded
  #open: Group | null = null
  #full: Group[] = []
  readonly #laterNotes: Note[] = []
  #isScheduled = false
  #onIdle: (() => void) | null = null

  /** @param onEnd is called before the listeners of the groups are. */
  constructor(log: SpoolLog, onEnd: GroupsEnded) {
    this.#log = log
    this.#onEnd = onEnd
  }

  /** The group that the next append goes to. */
  get #openGroup(): Group {
    this.#open ??= new Group(Buffer.allocUnsafeSlow(firstBufferBytes))
    return this.#open
  }

  /** Nothing waits for the disk. */
  get isIdle(): boolean {
    return this.#open === null && this.#full.length === 0 && !this.#log.isWriting
  }

  /** Calls back, once, when nothing waits for the disk. */
  whenIdle(done: () => void): void {
    if (this.isIdle) done()
    else this.#onIdle = done
  }

  /** Appends a record to the open group, and behind it the notes that wait for a record. */
  append(record: RecordBytes): Group {
    const group = this.#openGroup
    if (group.recordCount === 0) group.firstTimeMs = record.timestampMs
    group.append('record', record)
    if (this.#laterNotes.length > 0) for (const note of this.#laterNotes.splice(0)) this.note(note)
    return group
  }

  /** Appends a note to the open group, which has records. */
  note({ key, value, untilMs }: Note): void {
    const group = this.#openGroup
    if (group.recordCount === 0) throw new Error('a note goes with records')
    group.notesUntilMs = Math.max(group.notesUntilMs, untilMs)
    group.append('note', RecordBytes.of(value, Buffer.from(key), untilMs))
  }

  /** Keeps a note until the next record is appended, and appends it then. */
  noteLater(note: Note): void {
    this.#laterNotes.push(note)
  }

  /** Ends a request. The listener is told when everything that was appended so far is committed, or could not be. */
  commit(listener: CommitListener): void {
    const group = this.#openGroup
    group.listeners.push(listener)
    // A group is never ended in the midst of a request: a request is on disk as a whole or not at all.
    if (group.sizeBytes >= fullGroupBytes) {
      this.#full.push(group)
      this.#open = null
    }
    if (this.#isScheduled || this.#log.isWriting) return
    this.#isScheduled = true
    setImmediate(this.#write)
  }

  readonly #write = (): void => {
    this.#isScheduled = false
    if (this.#log.isWriting) return
    const groups = this.#full
    this.#full = []
    if (this.#open !== null && this.#open.listeners.length > 0) {
      groups.push(this.#open)
      this.#open = null
    }
    if (groups.length === 0) {
      if (this.isIdle) this.#onIdle?.()
      return
    }
    this.#log.write(groups, (failure, placed) => {
      this.#onEnd(groups, placed)
      const [code, isUndecided] = [failure?.code ?? null, failure?.isUndecided ?? false]
      for (const { listeners } of groups)
        for (const listener of listeners) listener.committed(code, isUndecided)
      this.#write()
    })
  }
}

/** Is told of groups that were written, and of the place of each; of no places if the write failed. */
type GroupsEnded = (groups: readonly Group[], placed: readonly PlacedGroup[]) => void

/** See `Durability.note`. */
interface Note {
  readonly key: string
  readonly value: Buffer
  /** When the note may be forgotten, in epoch milliseconds. */
  readonly untilMs: number
}

/** The buffer grows where a request is larger. */
const firstBufferBytes = 16 * 1024
/** A group of this size shares the cost of a sync well. A larger group would only be slower to read back. */
const fullGroupBytes = 256 * 1024
