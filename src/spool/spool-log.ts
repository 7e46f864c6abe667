import fs from 'node:fs'
import type { Logger } from '../kafka/producer/producer.ts'
import { writeAll, type Disk } from './disk.ts'
import type { Group } from './group.ts'
import { Segment } from './segment.ts'

/**
 * The log of one stream on disk: groups are appended to the newest of its files, one write and one sync a group, and are
 * committed when that is done. A group that fails has left nothing behind, and its file is written to no more: after a
 * failed sync nobody knows what the kernel still has. Callbacks instead of promises: this is on the way of every 202.
 */
export class SpoolLog {
  readonly #options: SpoolLogOptions
  /** Oldest first; the last may be open. */
  readonly #segments: Segment[]
  #nextSeq: number
  #isWriting = false
  #isAckScheduled = false
  #failingUntilMs = 0
  #failureLoggedAtMs = -Infinity
  #onIdle: (() => void) | null = null
  #seqAtTend = 0
  /** Records that are not done. */
  pendingRecords = 0
  /** What its files hold, in bytes. */
  sizeBytes = 0
  /** Writes to the disk that failed. */
  failures = 0
  /** Why the last write failed: the error's code. */
  failure = ''

  /** @param segments what was found at start, oldest first. */
  constructor(options: SpoolLogOptions, segments: Segment[]) {
    this.#options = options
    this.#segments = segments
    this.#nextSeq = segments.at(-1)?.endSeq ?? 0
    for (const segment of segments) {
      this.pendingRecords += segment.recordCount - segment.doneCount
      this.sizeBytes += segment.sizeBytes
    }
  }

  /** Number that the next record gets: all before it are committed. */
  get nextSeq(): number {
    return this.#nextSeq
  }

  /** A group is on its way to the disk. */
  get isWriting(): boolean {
    return this.#isWriting
  }

  /** The disk refused a write a moment ago. After that moment the next group is the trial. */
  get isFailing(): boolean {
    return performance.now() < this.#failingUntilMs
  }

  /** The file that a record is in; null if it is gone, done. */
  segmentOf(seq: number): Segment | null {
    for (let nth = this.#segments.length - 1; nth >= 0; nth--) {
      const segment = this.#segments[nth]!
      if (seq >= segment.baseSeq) return seq < segment.endSeq ? segment : null
    }
    return null
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
  write(
    groups: readonly Group[],
    done: (failure: string | null, placed: readonly PlacedGroup[]) => void,
  ): void {
    this.#isWriting = true
    let seq = this.#nextSeq
    const frames = groups.map((group) => {
      group.firstSeq = seq
      seq += group.recordCount
      return group.seal(group.firstSeq)
    })
    const fail = (error: NodeJS.ErrnoException, segment: Segment | null): void => {
      this.#failed(error, segment, () => {
        this.#isWriting = false
        done(this.failure, [])
        this.#noticeIdle()
      })
    }
    this.#activeSegment((error, segment) => {
      if (error !== null) return fail(error, null)
      const { disk, fsync } = this.#options
      const fd = segment!.writeFd!
      writeAll(disk, fd, frames, segment!.sizeBytes, (writeError) => {
        if (writeError !== null) return fail(writeError, segment)
        if (!fsync) return this.#written(segment!, groups, done)
        disk.sync(fd, (syncError) => {
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
    if (active?.isDone === true && isQuiet) this.#seal(active)
    this.#removeDone()
    this.#flushAcks()
  }

  /** Calls back when nothing is being written, and what is done is noted, as far as the disk lets it. */
  whenIdle(done: () => void): void {
    this.#onIdle = done
    this.#flushAcks()
    this.#noticeIdle()
  }

  /** Closes its files. */
  close(): void {
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
  #activeSegment(done: (error: NodeJS.ErrnoException | null, segment: Segment | null) => void): void {
    const last = this.#segments.at(-1)
    if (last !== undefined && !last.isSealed) return done(null, last)
    const { disk, folder, folderFd, fsync } = this.#options
    const segment = new Segment(folder, this.#nextSeq)
    disk.create(segment.path, (error, fd) => {
      if (error !== null) return done(error, null)
      segment.writeFd = fd
      const add = (syncError: NodeJS.ErrnoException | null): void => {
        if (syncError !== null) {
          segment.close()
          return done(syncError, null)
        }
        this.#segments.push(segment)
        done(null, segment)
      }
      if (fsync) disk.sync(folderFd, add)
      else add(null)
    })
  }

  #seal(segment: Segment): void {
    segment.isSealed = true
    if (segment.writeFd !== null) fs.closeSync(segment.writeFd)
    segment.writeFd = null
  }

  #failed(error: NodeJS.ErrnoException, segment: Segment | null, done: () => void): void {
    const { logger, stream, disk } = this.#options
    const nowMs = performance.now()
    this.failures++
    this.failure = error.code ?? error.message
    this.#failingUntilMs = nowMs + failingForMs
    if (nowMs - this.#failureLoggedAtMs >= failureLogIntervalMs) {
      this.#failureLoggedAtMs = nowMs
      logger.error(
        { stream, code: this.failure, err: error },
        'the disk refused a write; events of this stream are refused (503) until it takes one',
      )
    }
    if (segment === null || segment.writeFd === null) return done()
    // What was written in part must never be taken for a frame that counts.
    disk.truncate(segment.writeFd, segment.sizeBytes, () => {
      this.#seal(segment)
      if (segment.sizeBytes === 0) this.#forget(segment)
      done()
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
    this.#noticeIdle()
  }

  #noticeIdle(): void {
    if (this.#onIdle === null || this.#isWriting) return
    if (this.#segments.some(({ acks }) => acks.isWriting)) return
    const onIdle = this.#onIdle
    this.#onIdle = null
    onIdle()
  }

  /** A file that nothing was committed to: another of the same name takes its place. */
  #forget(segment: Segment): void {
    this.#segments.splice(this.#segments.indexOf(segment), 1)
    fs.rm(segment.path, { force: true }, () => {})
  }

  /** Oldest first, and none before those that are older: how many records a file holds is known from the next one's name. */
  #removeDone(): void {
    for (let oldest = this.#segments[0]; oldest !== undefined; oldest = this.#segments[0]) {
      if (!oldest.isSealed || !oldest.isDone || !this.#options.mayRemove(oldest)) return
      try {
        oldest.remove()
      } catch (error) {
        // It is tried again; until then the file takes room, and nothing is lost.
        this.#options.logger.debug({ err: error }, 'a file of the spool could not be removed yet')
        return
      }
      this.#segments.shift()
      this.sizeBytes -= oldest.sizeBytes
      this.#options.onRemoved(oldest)
    }
  }
}

/** Where a committed group is. */
export interface PlacedGroup {
  readonly group: Group
  readonly segment: Segment
  readonly position: number
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
