import type { IdentifiedBatch } from '../kafka/producer/batch-journal.ts'
import type { Logger } from '../logger.ts'
import type { PendingBatch } from '../kafka/producer/producer.ts'
import { ignored, writeAll, type Disk, type DiskDone } from './disk.ts'
import type { Runs } from './runs.ts'
import { carriedNote, encodeFrame, encodeNote, type SentNote } from './sent-note.ts'

/**
 * The journal of the batches that a stream has sent, so that the next process can send the very same batches again: which
 * records each holds, and the identity under which the broker tells it. A batch is noted before it is first written.
 *
 * One batch a partition is in flight, so the last note of a partition is all that is in doubt; what was before it is done if
 * the note says so. A note is written and not synced on its way: it survives the end of the process, and a power cut once
 * {@link sync} has ended. A file begins with all that is open, and then the older ones go.
 */
export class SentJournal {
  readonly #options: SentJournalOptions
  readonly #last = new Map<number, LastNote>()
  #olderPaths: string[] = []
  #nextNumber = 1
  #path = ''
  #fd: number | null = null
  #sizeBytes = 0
  #queue: Queued[] = []
  /** Those who wait for the end of a write. */
  readonly #waiting = new Set<Queued>()
  #isWriting = false
  #writingSinceMs = 0
  /** The write that is under way has lasted for too long: nobody waits for it. */
  #isOverdue = false
  #isDirty = false
  #isSyncing = false
  #syncedAtMs = -Infinity
  #isClosed = false
  #isStopped = false
  /** The file says more than what is open. */
  #isStale = false
  /** A sync failed: what the kernel still has of the file may never be on the disk, whatever a second sync says. */
  #isInDoubt = false
  /** Syncs that are under way, by file. */
  readonly #syncs = new Map<number, number>()
  /** Files to be closed once their syncs have ended: their numbers would be given to other files meanwhile. */
  readonly #toClose = new Set<number>()
  #beginAfterMs = -Infinity
  #failureLoggedAtMs = -Infinity

  constructor(options: SentJournalOptions) {
    this.#options = options
  }

  /**
   * Goes on from what was found at start. To be called once, before anything is noted.
   * @param ready is called when that is on disk in a file of this process, or cannot be brought there.
   */
  start(found: JournalStart, ready: () => void): void {
    this.#olderPaths = [...found.paths]
    this.#nextNumber = found.nextNumber
    for (const { partition, bytes } of found.open)
      this.#last.set(partition, { bytes, isDone: false, isWritten: true })
    if (found.paths.length === 0) return ready()
    const start: Queued = { notes: [], done: ready }
    this.#waiting.add(start)
    this.#beginWriting()
    const done = found.done.map(({ bytes }) => carriedNote(bytes, true))
    this.#begin(done, (error, queued) => {
      this.#endWriting()
      if (error !== null) this.#failed(error.code ?? error.message)
      this.#end([start, ...queued], error !== null)
      this.#write()
    })
  }

  /** The batch that stands for what an earlier process noted for a partition. */
  resumed(partition: number, batch: PendingBatch): void {
    const last = this.#last.get(partition)
    if (last !== undefined) this.#follow(last, batch, batch.recordCount)
  }

  /** What an earlier process noted for a partition stands for nothing any more: its records go as others do. */
  forget(partition: number): void {
    if (this.#last.delete(partition)) this.#isStale = true
  }

  /** See `BatchJournal.note`. @param runsOf gives the numbers of a batch's records. */
  note(
    scope: number,
    batches: readonly IdentifiedBatch[],
    { runsOf, done }: { runsOf: (batch: IdentifiedBatch) => Runs; done: () => void },
  ): void {
    const notes = batches.map((batch) => {
      const { partition, recordCount } = batch
      const isPreviousDone = this.#last.get(partition)?.isDone ?? false
      const bytes = encodeNote(batch, runsOf(batch), { scope, isPreviousDone })
      const last: LastNote = { bytes, isDone: false, isWritten: false }
      this.#last.set(partition, last)
      this.#follow(last, batch, recordCount)
      return last
    })
    // A note that is given up stands for nothing, and no batch waits for it.
    if (this.#isOverdue) return done()
    const queued: Queued = { notes, done }
    this.#queue.push(queued)
    this.#waiting.add(queued)
    this.#write()
  }

  /**
   * Is called every second. A disk that hangs must not hold up what Kafka could take: after a while batches go without a note, except
   * those of an exactly-once stream, which wait for as long as it takes.
   */
  tend(): void {
    if (!this.#isWriting || performance.now() - this.#writingSinceMs < this.#options.waitLimitMs) return
    this.#failed('ETIMEDOUT')
    if (this.#options.isExactlyOnce) return
    this.#isOverdue = true
    this.#queue = []
    const waiting = Array.from(this.#waiting)
    this.#waiting.clear()
    for (const { done } of waiting) done()
  }

  /** Learns when a batch has its end. Parts of it have notes of their own. That a batch is given up after {@link stop} is no end. */
  #follow(last: LastNote, batch: Pick<PendingBatch, 'onSettled'>, count: number): void {
    batch.onSettled(({ recordCount, outcome, reason }) => {
      if (recordCount !== count || !last.isWritten) return
      if (this.#isStopped && (reason === 'shutdown' || outcome === 'suspected_lost')) return
      last.isDone = true
      last.bytes = nothing
    })
  }

  /** From now on a batch that is given up has no end: its records stay on disk. What Kafka still answers is an end. */
  stop(): void {
    this.#isStopped = true
  }

  /**
   * Brings what was noted to the disk, in the background, unless that is under way or was done a moment ago. Where a sync
   * fails, all that is open goes into another file a moment later.
   */
  sync(): void {
    this.#write()
    if (this.#isSyncing || !this.#isDirty || this.#fd === null || this.#isWriting) return
    const nowMs = performance.now()
    if (nowMs - this.#syncedAtMs < syncIntervalMs) return
    this.#syncedAtMs = nowMs
    this.#isSyncing = true
    this.#isDirty = false
    this.#syncFile(this.#fd, () => {
      this.#isSyncing = false
    })
  }

  /** Lets go of its file. What waits is told, and is not noted any more. */
  close(): void {
    this.#isClosed = true
    if (!this.#isWriting) this.#letGo()
  }

  /** One write at a time: what comes meanwhile goes with the next one. */
  #write(): void {
    if (this.#isWriting) return
    if (this.#queue.length === 0 && !(this.#isInDoubt && this.#wantsNewFile && !this.#isClosed)) return
    if (this.#isClosed) return this.#end(this.#queue.splice(0), true)
    this.#beginWriting()
    const written = (error: NodeJS.ErrnoException | null, queued: readonly Queued[]): void => {
      this.#endWriting()
      if (error !== null) this.#failed(error.code ?? error.message)
      this.#end(queued, error !== null)
      if (this.#isClosed) this.#letGo()
      this.#write()
    }
    if (this.#wantsNewFile)
      return this.#begin([], (error, queued) => {
        if (error === null) written(null, queued)
        else if (queued.length + this.#queue.length === 0) written(error, [])
        else if (this.#fd === null) written(error, [...queued, ...this.#queue.splice(0)])
        else this.#append([...queued, ...this.#queue.splice(0)], written)
      })
    const queued = this.#queue.splice(0)
    if (this.#fd !== null) return this.#append(queued, written)
    // A moment ago there could be no file.
    this.#endWriting()
    this.#end(queued, true)
  }

  #append(
    queued: readonly Queued[],
    written: (error: NodeJS.ErrnoException | null, queued: readonly Queued[]) => void,
  ): void {
    const frame = encodeFrame(
      queued.flatMap(({ notes }) => notes.map(({ bytes }) => bytes)),
      false,
    )
    // After a failure the next frame goes to the same place: a frame that is torn hides what is behind it.
    writeAll(this.#options.disk, this.#fd!, [frame], this.#sizeBytes, (error) => {
      if (error === null) this.#sizeBytes += frame.length
      written(error, queued)
    })
  }

  /** What is done has to be in the ack files before the notes go that say so. */
  get #wantsNewFile(): boolean {
    if (performance.now() < this.#beginAfterMs) return false
    if (this.#fd === null || this.#isStale || this.#isInDoubt) return true
    return this.#sizeBytes >= fileBytes && this.#options.areAcksWritten()
  }

  /**
   * Begins a file with all that is open: what was noted last for each partition and is not done.
   * @param done is told which of what waited is in it.
   */
  #begin(
    more: readonly Buffer[],
    done: (error: NodeJS.ErrnoException | null, queued: readonly Queued[]) => void,
  ): void {
    const { disk, folder } = this.#options
    const path = `${folder}/${journalName(this.#nextNumber++)}`
    const failed = (error: NodeJS.ErrnoException, queued: readonly Queued[]): void => {
      this.#beginAfterMs = performance.now() + retryMs
      disk.remove(path, ignored)
      done(error, queued)
    }
    disk.create(path, (error, fd) => {
      if (error !== null) return failed(error, [])
      // What waits is among the last notes: it must not be noted once more, behind itself.
      const queued = this.#queue.splice(0)
      const open = [...this.#last.values()].filter(({ isDone }) => !isDone)
      const frame = encodeFrame([...more, ...open.map(({ bytes }) => carriedNote(bytes, false))], true)
      writeAll(disk, fd, [frame], 0, (writeError) => {
        if (writeError !== null) {
          disk.close(fd, ignored)
          return failed(writeError, queued)
        }
        const older = this.#olderPaths.splice(0)
        if (this.#fd !== null) {
          older.push(this.#path)
          this.#closeFile(this.#fd)
        }
        this.#fd = fd
        this.#path = path
        this.#sizeBytes = frame.length
        this.#isStale = false
        this.#isInDoubt = false
        this.#removeOlder(fd, older)
        done(null, queued)
      })
    })
  }

  /** In the background. Where there is a power cut to survive, the new file has to be on the disk first. */
  #removeOlder(fd: number, paths: readonly string[]): void {
    const { disk, fsync, folderFd } = this.#options
    const remove = (): void => {
      for (const path of paths) disk.remove(path, ignored)
    }
    if (!fsync) return remove()
    this.#syncFile(fd, (error) => {
      if (error !== null) return void this.#olderPaths.push(...paths)
      disk.sync(folderFd, (folderError) => {
        if (folderError === null) return remove()
        this.#olderPaths.push(...paths)
        this.#doubt(fd)
      })
    })
  }

  /** A file that is synced stays open until that has ended. */
  #syncFile(fd: number, done: DiskDone): void {
    this.#syncs.set(fd, (this.#syncs.get(fd) ?? 0) + 1)
    this.#options.disk.sync(fd, (error) => {
      const left = this.#syncs.get(fd)! - 1
      if (left > 0) this.#syncs.set(fd, left)
      else this.#syncs.delete(fd)
      if (error !== null) this.#doubt(fd)
      done(error)
      if (left === 0 && this.#toClose.delete(fd)) this.#closeFile(fd)
    })
  }

  #closeFile(fd: number): void {
    if (this.#syncs.has(fd)) this.#toClose.add(fd)
    else this.#options.disk.close(fd, ignored)
  }

  /** A file may not be on the disk, or its name. */
  #doubt(fd: number): void {
    if (fd !== this.#fd) return
    this.#isInDoubt = true
    this.#isDirty = true
    this.#beginAfterMs = performance.now() + retryMs
  }

  #end(queued: readonly Queued[], isFailed: boolean): void {
    if (!isFailed) this.#isDirty = true
    for (const each of queued) {
      for (const note of each.notes) note.isWritten = !isFailed
      if (this.#waiting.delete(each)) each.done()
    }
  }

  #beginWriting(): void {
    this.#isWriting = true
    this.#writingSinceMs = performance.now()
  }

  #endWriting(): void {
    this.#isWriting = false
    this.#isOverdue = false
  }

  #failed(code: string): void {
    const nowMs = performance.now()
    if (nowMs - this.#failureLoggedAtMs < failureLogIntervalMs) return
    this.#failureLoggedAtMs = nowMs
    const { logger, stream, isExactlyOnce } = this.#options
    const waits = isExactlyOnce && code === 'ETIMEDOUT'
    logger.warn(
      { stream, code },
      waits
        ? 'the disk hangs: no batch of this exactly-once stream is sent before the disk has taken a note of it'
        : 'batches are sent without a note of them: if the gateway is killed now, their records can be in Kafka twice',
    )
  }

  #letGo(): void {
    if (this.#fd !== null) this.#closeFile(this.#fd)
    this.#fd = null
  }
}

/** See {@link SentJournal}. */
export interface SentJournalOptions {
  readonly stream: string
  readonly folder: string
  /** Open for syncing its names. */
  readonly folderFd: number
  readonly fsync: boolean
  readonly disk: Disk
  readonly logger: Logger
  /** For how long a batch waits for its note, in milliseconds. It is looked at every second. */
  readonly waitLimitMs: number
  /** A batch waits for its note however long that takes. */
  readonly isExactlyOnce: boolean
  /** What is done is in files, as far as it is booked. */
  readonly areAcksWritten: () => boolean
}

/** What a journal begins with. */
export interface JournalStart {
  /** Files of earlier processes. */
  readonly paths: readonly string[]
  readonly nextNumber: number
  /** Notes of batches that are going to be sent again, one a partition. */
  readonly open: readonly SentNote[]
  /** Notes of batches that are done, which no ack file may say yet. */
  readonly done: readonly SentNote[]
}

/** The name of a file; the newest has the highest number. */
export function journalName(number: number): string {
  return `${String(number).padStart(15, '0')}.sent`
}

interface LastNote {
  bytes: Buffer
  isDone: boolean
  /** A note that could not be written must not say anything of the one before it. */
  isWritten: boolean
}

interface Queued {
  readonly notes: readonly LastNote[]
  readonly done: () => void
}

const nothing = Buffer.alloc(0)
/** A file of this size holds the notes of some thousand batches, and takes a millisecond to read. */
const fileBytes = 1 << 20
const retryMs = 1_000
/** A sync with every group of requests would cost a tenth of the CPU time of a single event. */
const syncIntervalMs = 50
const failureLogIntervalMs = 10_000
