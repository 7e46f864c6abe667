import { letGo, writeAll, type Disk, type DiskDone } from './disk.ts'
import { acksPath, Segment } from './segment.ts'

/**
 * The end of a log: the segment that groups are written to, and the bytes that a failed write left behind it. Makes new
 * segments, and removes those bytes. While they are there, nothing may be written.
 *
 * A segment in which a sync failed takes no more groups, unless it holds no record: after a failed sync nobody knows which
 * of its bytes the kernel still has.
 */
export class LogTail {
  /** Number that the next record gets. All records before it are committed. */
  nextSeq: number
  readonly #options: LogTailOptions
  /** The log's, oldest first. The last one may take groups. */
  readonly #segments: Segment[]
  #failedBytes: FailedBytes | null = null
  #onRemoved: (() => void)[] = []
  #isTruncating = false
  /** The next attempt to remove those bytes, while it is not due. */
  #nextAttempt: { readonly timer: NodeJS.Timeout; readonly begin: () => void } | null = null
  #endsAtMs = Infinity

  /** @param segments is shared: the log takes segments away in front, and this class adds them behind. */
  constructor(options: LogTailOptions, segments: Segment[], nextSeq: number) {
    this.#options = options
    this.#segments = segments
    this.nextSeq = nextSeq
  }

  /** A failed write left bytes that are not removed yet. */
  get hasFailedBytes(): boolean {
    return this.#failedBytes !== null
  }

  /** The bytes of a failed write are being removed. */
  get isTruncating(): boolean {
    return this.#isTruncating
  }

  /** Whether a segment has the bytes of a failed write in it. */
  isIn(segment: Segment): boolean {
    return this.#failedBytes?.segment === segment
  }

  /**
   * Finds the segment that groups are written to, or makes a new one. The segment's name is on disk before a group counts
   * that is in it.
   */
  activeSegment(done: SegmentDone): void {
    const last = this.#segments.at(-1)
    if (last === undefined || last.isSealed) this.#createSegment(done)
    else if (last.isReady) done(null, last)
    else this.#makeReady(last, done)
  }

  /** Syncs a file or a folder, unless the stream does without (`spool.fsync`). */
  sync(fd: number, done: DiskDone): void {
    if (this.#options.fsync) this.#options.disk.sync(fd, done)
    else done(null)
  }

  /** No group is written to a segment from now on. */
  seal(segment: Segment): void {
    segment.isSealed = true
    if (segment.writeFd !== null) letGo(this.#options.disk, segment.writeFd)
    segment.writeFd = null
  }

  /**
   * Removes what a failed write left behind the records of a segment.
   * @param done is told whether it is certain that no later start finds these bytes. If it is not, {@link retry} goes on.
   */
  truncate(failed: FailedBytes, done: (isRemoved: boolean) => void): void {
    this.#failedBytes = failed
    this.#try(attempts, done)
  }

  /** Tries once more to remove what a failed write left, unless there is nothing or a try is under way. */
  retry(done: () => void): void {
    if (this.#failedBytes !== null && !this.#isTruncating) this.#try(1, done)
  }

  /** Calls back, once, when no bytes of a failed write are left. */
  whenRemoved(done: () => void): void {
    if (this.#failedBytes === null) done()
    else this.#onRemoved.push(done)
  }

  /**
   * The process ends at this time by `performance.now()`. The attempt that waits begins now. The pauses become so short that
   * {@link truncate} tells its end before this time, unless the disk hangs.
   */
  endBy(deadlineMs: number): void {
    this.#endsAtMs = deadlineMs
    if (this.#nextAttempt === null) return
    clearTimeout(this.#nextAttempt.timer)
    this.#nextAttempt.begin()
  }

  #try(attemptsLeft: number, done: (isRemoved: boolean) => void): void {
    this.#isTruncating = true
    const failed = this.#failedBytes!
    const { segment } = failed
    if (segment.recordCount > 0) segment.isSealed = true
    else segment.isReady = false
    const end = (error: NodeJS.ErrnoException | null): void => {
      if (error === null) {
        this.#failedBytes = null
        if (segment.isSealed) this.seal(segment)
        for (const removed of this.#onRemoved.splice(0)) removed()
      } else if (attemptsLeft > 1) {
        const begin = (): void => {
          this.#nextAttempt = null
          this.#try(attemptsLeft - 1, done)
        }
        // Half of the time that is left: the last attempt has time to end, and the reply to leave.
        const limitMs = (this.#endsAtMs - performance.now()) / 2
        this.#nextAttempt = { timer: setTimeout(begin, Math.max(0, Math.min(pauseMs, limitMs))), begin }
        return
      }
      this.#isTruncating = false
      done(error === null)
    }
    if (segment.recordCount > 0) this.#truncateBehind(failed, end)
    else this.#makeReady(segment, (error) => (error === null ? end(null) : this.#blank(failed, end)))
  }

  /**
   * Three ways to remove what is behind the records of a segment. Each of them is enough: make the file shorter, write zeros
   * over the bytes, or make the next segment, whose name says how many records this one has.
   */
  #truncateBehind(failed: FailedBytes, done: DiskDone): void {
    const { disk } = this.#options
    const { segment } = failed
    const next = this.#segments.at(-1)!
    const byName = (): void => {
      if (next === segment) this.#createSegment((error) => done(error))
      else this.#makeReady(next, (error) => done(error))
    }
    const { writeFd: fd } = segment
    if (fd === null) return byName()
    disk.truncate(fd, segment.sizeBytes, (error) => {
      if (error !== null)
        return this.#blank(failed, (blankError) => (blankError === null ? done(null) : byName()))
      this.sync(fd, (syncError) => (syncError === null ? done(null) : byName()))
    })
  }

  /** Writes zeros over what a failed write left. */
  #blank({ segment, sizeBytes }: FailedBytes, done: DiskDone): void {
    const { writeFd: fd, sizeBytes: position } = segment
    if (fd === null) return done(new Error('the file is not open'))
    writeAll(this.#options.disk, { fd, buffers: [Buffer.alloc(sizeBytes)], position }, (error) => {
      if (error !== null) done(error)
      else this.sync(fd, done)
    })
  }

  #createSegment(done: SegmentDone): void {
    const { disk, folder } = this.#options
    const segment = new Segment(disk, folder, this.nextSeq)
    disk.create(segment.path, (error, fd) => {
      // No segment has this number. So if the name is taken, an earlier call made the file and told of an error all the same.
      if (error !== null && error.code !== 'EEXIST') return done(error, null)
      this.#segments.push(segment)
      if (error !== null) return this.#makeReady(segment, done)
      segment.writeFd = fd
      this.#nameOnDisk(segment, done)
    })
  }

  /** Makes a segment ready that holds no record. Whatever bytes its file has, and its acks, are removed. */
  #makeReady(segment: Segment, done: SegmentDone): void {
    const { disk } = this.#options
    const empty = (fd: number): void =>
      disk.truncate(fd, 0, (error) => {
        if (error !== null) return done(error, null)
        this.sync(fd, (syncError) => {
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
    this.sync(this.#options.folderFd, (error) => {
      if (error !== null) return done(error, null)
      segment.isReady = true
      done(null, segment)
    })
  }
}

/** Is given a segment that a group can be written to, or the error that kept it from being ready. */
type SegmentDone = (error: NodeJS.ErrnoException | null, segment: Segment | null) => void

/** What a failed write may have left: so many bytes behind the committed ones of a segment. */
interface FailedBytes {
  readonly segment: Segment
  readonly sizeBytes: number
}

/** See {@link LogTail}. */
export interface LogTailOptions {
  readonly folder: string
  /** Open, to sync the names of the folder. */
  readonly folderFd: number
  /** False: the kernel decides when bytes get to the disk. They survive the end of the process, and no power cut. */
  readonly fsync: boolean
  readonly disk: Disk
}

/** How often the bytes of a failed write are tried to be removed before the requests are told that their end is not known. */
const attempts = 4
const pauseMs = 250
