import type { CommitListener } from '../kafka/producer/producer.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import type { EntryKind } from './frame.ts'
import { Group, type RecordWaiter } from './group.ts'
import type { PlacedGroup, SpoolLog } from './spool-log.ts'

/**
 * Collects what requests append into groups, and commits them one after the other: a group takes in what comes while the
 * disk is busy with the one before, so that the cost of a sync is shared by all of it. What is appended in one turn of
 * the event loop is in one group.
 */
export class GroupCommit<Waiter extends RecordWaiter> {
  readonly #log: SpoolLog
  readonly #onEnd: (groups: readonly Group<Waiter>[], placed: readonly PlacedGroup[]) => void
  #open: Group<Waiter> | null = null
  #full: Group<Waiter>[] = []
  #isScheduled = false
  #onIdle: (() => void) | null = null

  /** @param onEnd is called before the listeners are: with where the groups are, or with nothing if they failed. */
  constructor(
    log: SpoolLog,
    onEnd: (groups: readonly Group<Waiter>[], placed: readonly PlacedGroup[]) => void,
  ) {
    this.#log = log
    this.#onEnd = onEnd
  }

  /** The group that the next append goes to. */
  get open(): Group<Waiter> {
    this.#open ??= new Group<Waiter>(Buffer.allocUnsafeSlow(firstBufferBytes))
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

  /** Takes an entry to the open group, as {@link Group.append}. */
  append(kind: EntryKind, record: RecordBytes): Group<Waiter> {
    const group = this.open
    const { timestampMs } = record
    if (kind === 'note') group.notesUntilMs = Math.max(group.notesUntilMs, timestampMs)
    else if (group.recordCount === 0) group.firstTimeMs = timestampMs
    group.append(kind, record)
    return group
  }

  /** Ends a request: the listener is told when everything that was appended so far is committed, or could not be. */
  commit(listener: CommitListener): void {
    const group = this.open
    group.listeners.push(listener)
    // Never in the midst of a request: it is on disk as a whole or not at all.
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

/** Grows where a request is larger. */
const firstBufferBytes = 16 * 1024
/** A group of this size shares the cost of a sync well; larger ones would only be slower to read back. */
const fullGroupBytes = 256 * 1024
