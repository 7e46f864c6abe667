import { chargeOf, type CommitListener, type LargeCommit } from '../kafka/producer/producer.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import { Group, LargeGroup, SpooledRecord, type Note } from './group.ts'
import type { PlacedGroup, SpoolLog } from './spool-log.ts'

/**
 * Collects what requests append into groups, and commits one write of groups after the other. While the disk is busy, the
 * next group takes in what comes, so that many requests share the cost of one sync. The records and the notes
 * of one request are in one group. A request of many records has a group of its own, since other requests are committed before it
 * has appended its last record.
 */
export class GroupCommit {
  readonly #log: SpoolLog
  readonly #onEnd: GroupsEnded
  #open: Group | null = null
  /** Commits of large requests that are begun and not ended. */
  #begun = 0
  #full: Group[] = []
  #laterNotes: Note[] = []
  #isScheduled = false
  #onIdle: (() => void) | null = null

  /** @param onEnd is called before the listeners of the groups are. */
  constructor(log: SpoolLog, onEnd: GroupsEnded) {
    this.#log = log
    this.#onEnd = onEnd
  }

  /** The group that the next append goes to. */
  get #openGroup(): Group {
    this.#open ??= new Group()
    return this.#open
  }

  /** Nothing waits for the disk. */
  get isIdle(): boolean {
    return this.#begun === 0 && this.#open === null && this.#full.length === 0 && !this.#log.isWriting
  }

  /** Calls back, once, when nothing waits for the disk. */
  whenIdle(done: () => void): void {
    if (this.isIdle) done()
    else this.#onIdle = done
  }

  /** Appends a record to the open group, and behind it the notes that wait for a record. */
  append(record: RecordBytes): Group {
    const group = this.#openGroup
    group.add(record)
    if (this.#laterNotes.length > 0) this.#addLaterNotes(group)
    return group
  }

  /** Appends a note to the open group, which has records. */
  note(note: Note): void {
    const group = this.#openGroup
    if (group.recordCount === 0) throw new Error('a note goes with records')
    group.note(note)
  }

  /** Keeps a note until the next record is appended, and appends it then. If the record is refused, the note waits for the next one. */
  noteLater(note: Note): void {
    this.#laterNotes.push(note)
  }

  /** Ends a request. The listener is told when everything that was appended so far is committed, or could not be. */
  commit(listener: CommitListener): void {
    const group = this.#openGroup
    group.listeners.push(listener)
    // A group is never ended in the midst of a request: a request is on disk as a whole or not at all.
    if (group.sizeBytes >= fullGroupBytes) this.#endOpen()
    this.#schedule()
  }

  /** Begins a commit of its own for a request of many records. @param headerBytes that the producer adds to each record. */
  begin(headerBytes: number): LargeCommit {
    const large = new LargeGroup()
    this.#begun++
    const { group, notes } = large
    return {
      append: (record) => {
        group.add(record)
        group.reservedBytes += chargeOf(record, headerBytes)
        return new SpooledRecord(group)
      },
      note: (key, value, untilMs) => notes.note({ key, value, untilMs }),
      commit: (listener) => this.#commitLarge(large, listener),
    }
  }

  /**
   * Ends a request that has a group of its own. Notes are on disk in the order in which their keys changed, since the last note of
   * a key counts: first the open group, then the notes that wait for a record, then the request's own notes. Nobody else can have
   * changed the keys of the request's own notes since the request claimed these keys.
   */
  #commitLarge({ group, notes }: LargeGroup, listener: CommitListener): void {
    this.#begun--
    this.#endOpen()
    this.#addLaterNotes(group)
    group.notesUntilMs = Math.max(group.notesUntilMs, notes.notesUntilMs)
    group.addNotes(notes)
    group.isLarge = true
    group.listeners.push(listener)
    this.#full.push(group)
    this.#schedule()
  }

  #addLaterNotes(group: Group): void {
    for (const note of this.#laterNotes) {
      group.note(note)
      group.laterNotes.push(note)
    }
    this.#laterNotes = []
  }

  /**
   * The notes that were left for groups that are refused wait again. A group that waits for the disk can have a newer note of the same
   * key. Then the older note must not get behind it: the older note waits for the end of that group, and is needed only if that
   * group is refused, too.
   */
  #keepLaterNotes(refused: readonly Group[]): void {
    const notes = refused.flatMap(({ laterNotes }) => laterNotes)
    if (notes.length === 0) return
    const groups = this.#open === null ? this.#full : [...this.#full, this.#open]
    const waiting = groups.map((group) => ({ group, keys: group.noteKeys(), older: [] as Note[] }))
    const left: Note[] = []
    for (const note of notes) {
      const newer = waiting.find(({ keys }) => keys.has(note.key))
      if (newer === undefined) left.push(note)
      else newer.older.push(note)
    }
    for (const { group, older } of waiting) group.laterNotes = [...older, ...group.laterNotes]
    this.#laterNotes = [...left, ...this.#laterNotes]
  }

  /** The next append begins a new group. */
  #endOpen(): void {
    if (this.#open !== null) this.#full.push(this.#open)
    this.#open = null
  }

  #schedule(): void {
    if (this.#isScheduled || this.#log.isWriting) return
    this.#isScheduled = true
    setImmediate(this.#write)
  }

  readonly #write = (): void => {
    this.#isScheduled = false
    if (this.#log.isWriting) return
    if (this.#open !== null && this.#open.listeners.length > 0) this.#endOpen()
    const groups = this.#full.splice(0, this.#countOfWrite())
    if (groups.length === 0) {
      if (this.isIdle) this.#onIdle?.()
      return
    }
    this.#log.write(groups, (failure, placed) => {
      this.#onEnd(groups, placed)
      if (placed.length === 0) this.#keepLaterNotes(groups)
      const [code, isUndecided] = [failure?.code ?? null, failure?.isUndecided ?? false]
      for (const { listeners } of groups)
        for (const listener of listeners) listener.committed(code, isUndecided)
      this.#write()
    })
  }

  /**
   * How many of the groups go in one write. A large request goes alone: if a power cut tears a write of several groups, the next
   * start can count those that are gone as damaged, though nobody was told that they are accepted.
   */
  #countOfWrite(): number {
    const firstLarge = this.#full.findIndex(({ isLarge }) => isLarge)
    return firstLarge === -1 ? this.#full.length : Math.max(1, firstLarge)
  }
}

/** Is told of groups that were written, and of the place of each; of no places if the write failed. */
type GroupsEnded = (groups: readonly Group[], placed: readonly PlacedGroup[]) => void

/** A group of this size shares the cost of a sync well. A larger group would only be slower to read back. */
const fullGroupBytes = 256 * 1024

/** Waits until a call calls back, or until a time by `performance.now()`. */
export async function by(deadlineMs: number, call: (done: () => void) => void): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, deadlineMs - performance.now()))
    call(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
