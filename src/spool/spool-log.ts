import type { Logger } from '../logger.ts'
import { ignored, writeAll, type Disk, type DiskDone } from './disk.ts'
import type { Group } from './group.ts'
import { LogTail, type LogTailOptions } from './log-tail.ts'
import { acksPath, nextFreeSeq, parseName, segmentName, type Segment } from './segment.ts'

/**
 * The write-ahead log of one stream: segments on disk. Groups are appended to the newest segment, and are committed once a
 * write and a sync have ended well. Records that are done are noted beside their segment, and a segment goes when all of its
 * records are done.
 *
 * Before a group is refused, its bytes are removed (`log-tail.ts`), so that no later start finds it. Where the disk does not
 * remove them, the requests are told that their end is not known.
 *
 * Callbacks instead of promises: this is on the way of every 202.
 */
export class SpoolLog {
  readonly #options: SpoolLogOptions
  /** Oldest first. The last one may take groups. */
  readonly #segments: Segment[]
  readonly #tail: LogTail
  #isWriting = false
  #isClosed = false
  #isRemoving = false
  #isAckScheduled = false
  #failingUntilMs = 0
  #failureLoggedAtMs = -Infinity
  #onIdle: (() => void) | null = null
  #seqAtMaintenance = 0
  /** Ack files whose segments are gone. */
  readonly #orphans: string[]
  /** Records that are not done. */
  pendingRecords = 0
  /** What the segments hold, in bytes. */
  sizeBytes = 0
  /** Writes to the disk that failed. */
  failures = 0
  /** Why the last write failed: the error's code. */
  failure = ''

  /** @param segments what was found at start, oldest first. Waits for the disk, as {@link findSegments} does. */
  constructor(options: SpoolLogOptions, segments: Segment[]) {
    this.#options = options
    this.#segments = segments
    const { disk, folder } = options
    const names = disk.listNow(folder).map(({ name }) => name)
    this.#orphans = names.flatMap((name) => {
      const isOrphan = parseName(name)?.kind === 'ack' && !names.includes(name.replace(/\.ack$/, '.log'))
      return isOrphan ? [`${folder}/${name}`] : []
    })
    this.#tail = new LogTail(options, segments, firstSeqOf(segments.at(-1), names))
    for (const segment of segments) {
      this.pendingRecords += segment.recordCount - segment.doneCount
      this.sizeBytes += segment.sizeBytes
    }
  }

  get disk(): Disk {
    return this.#options.disk
  }

  /** Number that the next record gets. All records before it are committed. */
  get nextSeq(): number {
    return this.#tail.nextSeq
  }

  /** Groups are on their way to the disk. */
  get isWriting(): boolean {
    return this.#isWriting
  }

  /**
   * The disk refused a write a moment ago, or holds the bytes of a failed write. Once neither is so, the next group is the
   * trial.
   */
  get isFailing(): boolean {
    return this.#tail.hasFailedBytes || performance.now() < this.#failingUntilMs
  }

  /** The segment that a record is in; null if all records of that segment were done and it is gone. */
  segmentOf(seq: number): Segment | null {
    for (let nth = this.#segments.length - 1; nth >= 0; nth--) {
      const segment = this.#segments[nth]!
      if (seq >= segment.baseSeq) return seq < segment.endSeq ? segment : null
    }
    return null
  }

  /** Number of the first record at or behind a number. Numbers that no segment has are left out. */
  seqFrom(seq: number): number {
    for (const { baseSeq, endSeq, recordCount } of this.#segments)
      if (recordCount > 0 && seq < endSeq) return Math.max(seq, baseSeq)
    return Math.max(seq, this.nextSeq)
  }

  /** Oldest first. */
  get segments(): readonly Segment[] {
    return this.#segments
  }

  /** Number of the oldest record that is on disk, or of the next one. */
  get firstSeq(): number {
    return this.#segments[0]?.baseSeq ?? this.nextSeq
  }

  /**
   * Writes groups, in order: all of them are committed, or none. To be called when {@link isWriting} is false.
   * @param done is called with the place of each group, or with the failure of all of them.
   */
  write(groups: readonly Group[], done: WriteDone): void {
    const tail = this.#tail
    if (tail.hasFailedBytes || this.#isClosed) return done({ code: this.failure, isUndecided: false }, [])
    this.#isWriting = true
    let seq = tail.nextSeq
    let sizeBytes = 0
    const frames = groups.map((group) => {
      group.firstSeq = seq
      seq += group.recordCount
      sizeBytes += group.sizeBytes
      return group.seal(group.firstSeq)
    })
    const fail = (error: NodeJS.ErrnoException, segment: Segment | null): void => {
      this.#failed(error)
      const refuse = (isUndecided: boolean): void => {
        this.#isWriting = false
        done({ code: this.failure, isUndecided }, [])
        this.#noticeIdle()
      }
      if (segment === null) return refuse(false)
      tail.truncate({ segment, sizeBytes }, (isRemoved) => refuse(!isRemoved))
    }
    tail.activeSegment((error, segment) => {
      if (error !== null) return fail(error, null)
      const fd = segment!.writeFd!
      const write = { fd, buffers: frames, position: segment!.sizeBytes }
      writeAll(this.#options.disk, write, (writeError) => {
        if (writeError !== null) return fail(writeError, segment)
        tail.sync(fd, (syncError) => {
          if (syncError !== null) return fail(syncError, segment)
          this.#written(segment!, groups, done)
        })
      })
    })
  }

  /** Books records as done. A segment of which all records are done goes. */
  done(firstSeq: number, count: number): void {
    let [seq, left] = [firstSeq, count]
    while (left > 0) {
      const segment = this.segmentOf(seq)!
      const here = Math.min(left, segment.endSeq - seq)
      segment.acks.add(seq - segment.baseSeq, here)
      segment.doneCount += here
      this.pendingRecords -= here
      seq += here
      left -= here
      if (segment.isDone) this.#removeDone()
    }
    if (this.#isAckScheduled) return
    this.#isAckScheduled = true
    setImmediate(this.#flushAcks)
  }

  /**
   * Is called every second. Tries again whatever failed. Seals the newest segment if all of its records are done and nothing
   * was appended for a second, so that the segment goes and a log without work takes no room.
   */
  maintain(): void {
    const active = this.#segments.at(-1)
    const isQuiet = this.nextSeq === this.#seqAtMaintenance && !this.#isWriting
    this.#seqAtMaintenance = this.nextSeq
    // A segment without a record stays: its number is the next one, and a name is never used twice. One with the bytes of a failed write in it
    // stays open, so that they can be removed.
    const isOver = active?.isDone === true && active.recordCount > 0 && !this.#tail.isIn(active)
    if (isOver && isQuiet) this.#tail.seal(active)
    if (!this.#isWriting) this.#tail.retry(() => this.#noticeIdle())
    for (const path of this.#orphans.splice(0)) this.#options.disk.remove(path, ignored)
    this.#removeDone()
    this.#flushAcks()
  }

  /**
   * Secures for all records that are booked as done at this moment that no later start takes them for open: with the kernel, and
   * with fsync on the disk, too.
   */
  secureAcks(done: DiskDone): void {
    const { fsync, folderFd } = this.#options
    if (this.#isClosed) return done(new Error('the log is closed'))
    let [left, failure]: [number, NodeJS.ErrnoException | null] = [1, null]
    const ended: DiskDone = (error) => {
      failure ??= error
      if (--left > 0) return
      this.#acksFlushed(failure)
      if (failure !== null) done(failure)
      // The names of new ack files. A segment that is gone stays away, too.
      else this.#tail.sync(folderFd, done)
    }
    for (const { acks } of this.#segments.slice()) {
      left++
      acks.secure(fsync, ended)
    }
    ended(null)
  }

  /** Calls back when the bytes of a failed write are certainly removed; at once if there are none. */
  whenDecided(done: () => void): void {
    this.#tail.whenRemoved(done)
  }

  /** Calls back when nothing is being written and the ack files are written, as far as the disk lets them be. */
  whenIdle(done: () => void): void {
    this.#onIdle = done
    this.#flushAcks()
    this.#noticeIdle()
  }

  /** The process ends at this time. Whoever waits for a failed write is told its end before, unless the disk hangs. */
  endBy(deadlineMs: number): void {
    this.#tail.endBy(deadlineMs)
  }

  /** Closes the files. */
  close(): void {
    this.#isClosed = true
    // A disk that hangs keeps the files open until the process ends: a call that ends later must not find its file
    // closed, nor find that the number of its file was given to another one.
    if (this.#isWriting || this.#tail.isTruncating) return
    for (const segment of this.#segments) segment.close()
  }

  #written(
    segment: Segment,
    groups: readonly Group[],
    done: (failure: null, placed: readonly PlacedGroup[]) => void,
  ): void {
    const placed: PlacedGroup[] = []
    for (const group of groups) {
      placed.push({ group, segment, position: segment.sizeBytes })
      segment.sizeBytes += group.sizeBytes
      segment.recordCount += group.recordCount
      if (group.notesUntilMs > segment.notesUntilMs) segment.notesUntilMs = group.notesUntilMs
      this.sizeBytes += group.sizeBytes
      this.pendingRecords += group.recordCount
      this.#tail.nextSeq += group.recordCount
    }
    if (segment.sizeBytes >= this.#options.segmentBytes) this.#tail.seal(segment)
    this.#isWriting = false
    done(null, placed)
    this.#noticeIdle()
  }

  #failed(error: NodeJS.ErrnoException): void {
    const { logger, stream } = this.#options
    const nowMs = performance.now()
    this.failures++
    this.failure = error.code ?? error.message
    this.#failingUntilMs = nowMs + failingForMs
    if (nowMs - this.#failureLoggedAtMs < failureLogIntervalMs) return
    this.#failureLoggedAtMs = nowMs
    logger.error(
      { stream, code: this.failure, err: error },
      'the disk refused a write; events of this stream are refused (503) until it takes one',
    )
  }

  readonly #flushAcks = (): void => {
    this.#isAckScheduled = false
    for (const { acks } of this.#segments) acks.flush(this.#acksFlushed)
  }

  readonly #acksFlushed = (error: NodeJS.ErrnoException | null): void => {
    if (error === null) {
      if (this.#onIdle !== null) this.#flushAcks()
    } else {
      this.#options.logger.debug({ err: error }, 'what is done could not be noted yet')
    }
    this.#removeDone()
    this.#noticeIdle()
  }

  #noticeIdle(): void {
    if (this.#onIdle === null || this.#isWriting || this.#tail.isTruncating || this.#isRemoving) return
    if (this.#segments.some(({ acks }) => acks.isWriting)) return
    const onIdle = this.#onIdle
    this.#onIdle = null
    onIdle()
  }

  /**
   * Removes segments that are done, the oldest first. A segment is never removed before an older one: the name of the next
   * segment says how many records a segment holds.
   */
  #removeDone(): void {
    const oldest = this.#segments[0]
    if (this.#isRemoving || oldest === undefined || !oldest.isSealed || !oldest.isDone) return
    if (this.#tail.isIn(oldest) || oldest.acks.isWriting || !this.#options.mayRemove(oldest)) return
    this.#isRemoving = true
    oldest.remove((error) => {
      if (error === null) return this.#removeAcks(oldest)
      // The removal is tried again. Until then the segment takes room, and nothing is lost.
      this.#options.logger.debug({ err: error }, 'a file of the spool could not be removed yet')
      this.#isRemoving = false
      this.#noticeIdle()
    })
  }

  /**
   * Removes the acks of a segment once it is certain that the segment is gone. If the acks went first, a power cut in between
   * would bring all records of the segment back. Where it is not certain, the next start removes the acks.
   */
  #removeAcks(gone: Segment): void {
    const end = (): void => {
      this.#isRemoving = false
      this.#segments.shift()
      this.sizeBytes -= gone.sizeBytes
      this.#options.onRemoved(gone)
      this.#removeDone()
      this.#noticeIdle()
    }
    this.#tail.sync(this.#options.folderFd, (error) => {
      if (error === null) this.#options.disk.remove(acksPath(gone.path), end)
      else end()
    })
  }
}

/**
 * Number of the next record. If the newest segment holds no record, it is written to first and its number is the next one,
 * unless the folder has seen a higher number.
 */
function firstSeqOf(newest: Segment | undefined, names: readonly string[]): number {
  if (newest === undefined || newest.isSealed) return nextFreeSeq(names, newest?.endSeq ?? 0)
  const own = segmentName(newest.baseSeq)
  const others = names.filter((name) => name !== own && name !== acksPath(own))
  const seq = nextFreeSeq(others, newest.baseSeq)
  if (seq !== newest.baseSeq) newest.isSealed = true
  return seq
}

/** A committed group, and its place in the log. */
export interface PlacedGroup {
  readonly group: Group
  readonly segment: Segment
  readonly position: number
}

/** Why groups were not committed. */
export interface WriteFailure {
  /** The error's code. */
  readonly code: string
  /** The disk did not remove the groups' bytes either: a later start may find the groups, unless something is committed first. */
  readonly isUndecided: boolean
}

/** Is told how a write ended. */
export type WriteDone = (failure: WriteFailure | null, placed: readonly PlacedGroup[]) => void

/** See {@link SpoolLog}. */
export interface SpoolLogOptions extends LogTailOptions {
  readonly stream: string
  /** A segment of this size takes no more groups. */
  readonly segmentBytes: number
  readonly logger: Logger
  /** Whether a segment that is done may go. If it may not, it is asked again every second. */
  readonly mayRemove: (segment: Segment) => boolean
  readonly onRemoved: (segment: Segment) => void
}

/** How long requests are refused after a failure, before one is risked again. */
const failingForMs = 1_000
const failureLogIntervalMs = 10_000
