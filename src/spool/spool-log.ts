import type { Logger } from '../logger.ts'
import { ignored, letGo, writeAll, type Disk, type DiskDone } from './disk.ts'
import type { Group } from './group.ts'
import { acksPath, nextFreeSeq, parseName, Segment, segmentName } from './segment.ts'

/**
 * The log of one stream on disk: groups are appended to the newest of its files, one write and one sync a group, and are
 * committed when that is done. A group that failed is cut out before anybody is told that it was refused, so that no later
 * life finds it; where the disk does not take the cut, whoever waits is told that it is not known. A file that failed is
 * written to no more, unless it is empty: after a failed sync nobody knows what the kernel still has of its bytes.
 * Callbacks instead of promises: this is on the way of every 202.
 */
export class SpoolLog {
  readonly #options: SpoolLogOptions
  /** Oldest first; the last may be open. */
  readonly #segments: Segment[]
  #nextSeq: number
  #isWriting = false
  /** Bytes of a group that failed are in a file still; nothing is written before they are cut out. */
  #uncut: Uncut | null = null
  #isCutting = false
  #isClosed = false
  #isRemoving = false
  #isAckScheduled = false
  #failingUntilMs = 0
  #failureLoggedAtMs = -Infinity
  #onIdle: (() => void) | null = null
  #seqAtTend = 0
  /** Acks of files that are gone. */
  readonly #orphans: string[]
  /** Records that are not done. */
  pendingRecords = 0
  /** What its files hold, in bytes. */
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
    this.#nextSeq = firstSeqOf(segments.at(-1), names)
    for (const segment of segments) {
      this.pendingRecords += segment.recordCount - segment.doneCount
      this.sizeBytes += segment.sizeBytes
    }
  }

  /** What it is on. */
  get disk(): Disk {
    return this.#options.disk
  }

  /** Number that the next record gets: all before it are committed. */
  get nextSeq(): number {
    return this.#nextSeq
  }

  /** A group is on its way to the disk. */
  get isWriting(): boolean {
    return this.#isWriting
  }

  /** The disk refused a write a moment ago, or holds what is to be cut out. After that the next group is the trial. */
  get isFailing(): boolean {
    return this.#uncut !== null || performance.now() < this.#failingUntilMs
  }

  /** The file that a record is in; null if it is gone, done. */
  segmentOf(seq: number): Segment | null {
    for (let nth = this.#segments.length - 1; nth >= 0; nth--) {
      const segment = this.#segments[nth]!
      if (seq >= segment.baseSeq) return seq < segment.endSeq ? segment : null
    }
    return null
  }

  /** Number of the first record at or behind a number; numbers that no file has are stepped over. */
  seqFrom(seq: number): number {
    for (const { baseSeq, endSeq, recordCount } of this.#segments)
      if (recordCount > 0 && seq < endSeq) return Math.max(seq, baseSeq)
    return Math.max(seq, this.#nextSeq)
  }

  /** Its files, oldest first. */
  get segments(): readonly Segment[] {
    return this.#segments
  }

  /** Number of the oldest record that is on disk, or of the next one. */
  get firstSeq(): number {
    return this.#segments[0]?.baseSeq ?? this.#nextSeq
  }

  /**
   * Writes groups, in order and all in one piece. To be called when {@link isWriting} is false.
   * @param done is called with where each group is, or with the failure of all of them.
   */
  write(groups: readonly Group[], done: WriteDone): void {
    if (this.#uncut !== null || this.#isClosed) return done({ code: this.failure, isUndecided: false }, [])
    this.#isWriting = true
    let seq = this.#nextSeq
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
      this.#uncut = { segment, sizeBytes }
      this.#cut(cutAttempts, (isCut) => refuse(!isCut))
    }
    this.#activeSegment((error, segment) => {
      if (error !== null) return fail(error, null)
      const { disk } = this.#options
      const fd = segment!.writeFd!
      writeAll(disk, fd, frames, segment!.sizeBytes, (writeError) => {
        if (writeError !== null) return fail(writeError, segment)
        this.#sync(fd, (syncError) => {
          if (syncError !== null) return fail(syncError, segment)
          this.#written(segment!, groups, done)
        })
      })
    })
  }

  /** Books records as done; a file of which all are goes. */
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

  /** Is called every second: lets go of a file that is done when nothing is appended, so that a log without work takes no room. */
  tend(): void {
    const active = this.#segments.at(-1)
    const isQuiet = this.#nextSeq === this.#seqAtTend && !this.#isWriting
    this.#seqAtTend = this.#nextSeq
    // An empty file stays: its number is the next one, and a name is never used twice.
    if (active?.isDone === true && active.recordCount > 0 && isQuiet) this.#seal(active)
    if (this.#uncut !== null && !this.#isWriting && !this.#isCutting) this.#cut(1, () => this.#noticeIdle())
    for (const path of this.#orphans.splice(0)) this.#options.disk.remove(path, ignored)
    this.#removeDone()
    this.#flushAcks()
  }

  /** What is done is noted in the files, as far as it was booked. */
  get areAcksWritten(): boolean {
    return this.#segments.every(({ acks }) => !acks.isDirty && !acks.isWriting)
  }

  /** Calls back when nothing is being written, and what is done is noted, as far as the disk lets it. */
  whenIdle(done: () => void): void {
    this.#onIdle = done
    this.#flushAcks()
    this.#noticeIdle()
  }

  /** Closes its files. What is still being written to, on a disk that hangs, is left to the end of the process. */
  close(): void {
    this.#isClosed = true
    // What the disk has not answered keeps its files until the process ends: an answer that comes later must not find them
    // closed, nor their numbers given to other files.
    if (this.#isWriting || this.#isCutting) return
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
      this.#nextSeq += group.recordCount
    }
    if (segment.sizeBytes >= this.#options.segmentBytes) this.#seal(segment)
    this.#isWriting = false
    done(null, placed)
    this.#noticeIdle()
  }

  /** The file that groups go to; a new one where there is none. Its name is on disk before anything in it counts. */
  #activeSegment(done: SegmentDone): void {
    const last = this.#segments.at(-1)
    if (last === undefined || last.isSealed) this.#createSegment(done)
    else if (last.isReady) done(null, last)
    else this.#makeReady(last, done)
  }

  #createSegment(done: SegmentDone): void {
    const { disk, folder } = this.#options
    const segment = new Segment(disk, folder, this.#nextSeq)
    disk.create(segment.path, (error, fd) => {
      // The number is free, so a file that has it was made by a call that told of an error.
      if (error !== null && error.code !== 'EEXIST') return done(error, null)
      this.#segments.push(segment)
      if (error !== null) return this.#makeReady(segment, done)
      segment.writeFd = fd
      this.#nameOnDisk(segment, done)
    })
  }

  /** Makes a file ready that holds no record, whatever else it holds. What was acknowledged of such a file is no more. */
  #makeReady(segment: Segment, done: SegmentDone): void {
    const { disk } = this.#options
    const empty = (fd: number): void =>
      disk.truncate(fd, 0, (error) => {
        if (error !== null) return done(error, null)
        this.#sync(fd, (syncError) => {
          if (syncError !== null) return done(syncError, null)
          this.#nameOnDisk(segment, done)
        })
      })
    disk.remove(acksPath(segment.path), (error) => {
      if (error !== null) return done(error, null)
      if (segment.writeFd !== null) return empty(segment.writeFd)
      disk.open(segment.path, (openError, fd) => {
        if (openError !== null) return done(openError, null)
        segment.writeFd = fd
        empty(fd)
      })
    })
  }

  #nameOnDisk(segment: Segment, done: SegmentDone): void {
    this.#sync(this.#options.folderFd, (error) => {
      if (error !== null) return done(error, null)
      segment.isReady = true
      done(null, segment)
    })
  }

  #sync(fd: number, done: DiskDone): void {
    if (this.#options.fsync) this.#options.disk.sync(fd, done)
    else done(null)
  }

  #seal(segment: Segment): void {
    segment.isSealed = true
    if (segment.writeFd !== null) letGo(this.#options.disk, segment.writeFd)
    segment.writeFd = null
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

  /** Cuts out what a group left that failed. @param done is told whether that is certain, whatever happens next. */
  #cut(attempts: number, done: (isCut: boolean) => void): void {
    this.#isCutting = true
    const { segment, sizeBytes } = this.#uncut!
    if (segment.recordCount > 0) segment.isSealed = true
    else segment.isReady = false
    const end = (error: NodeJS.ErrnoException | null): void => {
      if (error === null) {
        this.#uncut = null
        if (segment.isSealed) this.#seal(segment)
      } else if (attempts > 1) {
        setTimeout(() => this.#cut(attempts - 1, done), cutPauseMs)
        return
      }
      this.#isCutting = false
      done(error === null)
    }
    if (segment.recordCount > 0) this.#cutBehind(segment, sizeBytes, end)
    else
      this.#makeReady(segment, (error) => (error === null ? end(null) : this.#blank(segment, sizeBytes, end)))
  }

  /**
   * Three ways to cut off what is behind the records of a file, each of which is enough: make the file shorter, write
   * zeros over what is there, or make the next file, whose name says how many records this one has.
   */
  #cutBehind(segment: Segment, sizeBytes: number, done: DiskDone): void {
    const { disk } = this.#options
    const next = this.#segments.at(-1)!
    const byName = (): void => {
      if (next === segment) this.#createSegment((error) => done(error))
      else this.#makeReady(next, (error) => done(error))
    }
    disk.truncate(segment.writeFd!, segment.sizeBytes, (error) => {
      if (error !== null)
        return this.#blank(segment, sizeBytes, (blankError) => (blankError === null ? done(null) : byName()))
      this.#sync(segment.writeFd!, (syncError) => (syncError === null ? done(null) : byName()))
    })
  }

  #blank({ writeFd, sizeBytes: position }: Segment, sizeBytes: number, done: DiskDone): void {
    if (writeFd === null) return done(new Error('the file is not open'))
    writeAll(this.#options.disk, writeFd, [Buffer.alloc(sizeBytes)], position, (error) => {
      if (error !== null) done(error)
      else this.#sync(writeFd, done)
    })
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
    if (this.#onIdle === null || this.#isWriting || this.#isCutting || this.#isRemoving) return
    if (this.#segments.some(({ acks }) => acks.isWriting)) return
    const onIdle = this.#onIdle
    this.#onIdle = null
    onIdle()
  }

  /** Oldest first, and none before those that are older: how many records a file holds is known from the next one's name. */
  #removeDone(): void {
    const oldest = this.#segments[0]
    if (this.#isRemoving || oldest === undefined || !oldest.isSealed || !oldest.isDone) return
    if (oldest === this.#uncut?.segment || oldest.acks.isWriting || !this.#options.mayRemove(oldest)) return
    this.#isRemoving = true
    oldest.remove((error) => {
      if (error === null) return this.#removeAcks(oldest)
      // It is tried again; until then the file takes room, and nothing is lost.
      this.#options.logger.debug({ err: error }, 'a file of the spool could not be removed yet')
      this.#isRemoving = false
      this.#noticeIdle()
    })
  }

  /**
   * The acks go when it is certain that their file is gone: were they to go first, a power cut in between would bring all
   * records of the file back. Where that is not certain, the next start removes them.
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
    this.#sync(this.#options.folderFd, (error) => {
      if (error === null) this.#options.disk.remove(acksPath(gone.path), end)
      else end()
    })
  }
}

/**
 * Number of the next record. A newest file that holds none is written to first, and its number is the next one; unless the
 * folder has seen a higher one.
 */
function firstSeqOf(newest: Segment | undefined, names: readonly string[]): number {
  if (newest === undefined || newest.isSealed) return nextFreeSeq(names, newest?.endSeq ?? 0)
  const own = segmentName(newest.baseSeq)
  const others = names.filter((name) => name !== own && name !== acksPath(own))
  const seq = nextFreeSeq(others, newest.baseSeq)
  if (seq !== newest.baseSeq) newest.isSealed = true
  return seq
}

/** Where a committed group is. */
export interface PlacedGroup {
  readonly group: Group
  readonly segment: Segment
  readonly position: number
}

/** Why groups were not committed. */
export interface WriteFailure {
  /** Of the error. */
  readonly code: string
  /** The disk did not take the cut either: a later life may find the groups, unless something is committed before. */
  readonly isUndecided: boolean
}

/** Is told how a write ended. */
export type WriteDone = (failure: WriteFailure | null, placed: readonly PlacedGroup[]) => void

type SegmentDone = (error: NodeJS.ErrnoException | null, segment: Segment | null) => void

/** What is to be cut out: so many bytes behind what is committed of a file. */
interface Uncut {
  readonly segment: Segment
  readonly sizeBytes: number
}

/** See {@link SpoolLog}. */
export interface SpoolLogOptions {
  readonly stream: string
  readonly folder: string
  /** Open for syncing its names. */
  readonly folderFd: number
  /** False: the kernel decides when bytes get to the disk; they survive the process and not a power cut. */
  readonly fsync: boolean
  /** Size from which on a file is not written to any more. */
  readonly segmentBytes: number
  readonly disk: Disk
  readonly logger: Logger
  /** Whether a file that is done may go; if not, it is asked again every second. */
  readonly mayRemove: (segment: Segment) => boolean
  readonly onRemoved: (segment: Segment) => void
}

/** How long requests are refused after a failure, before one is risked again. */
const failingForMs = 1_000
const failureLogIntervalMs = 10_000
/** How often a cut is tried before whoever waits is told that the end is not known. */
const cutAttempts = 4
const cutPauseMs = 250
