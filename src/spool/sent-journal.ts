import type { IdentifiedBatch } from '../kafka/producer/batch-journal.ts'
import { isLeftAtEnd } from '../kafka/producer/outcome.ts'
import type { Logger } from '../logger.ts'
import type { PendingBatch } from '../kafka/producer/producer.ts'
import { ignored, writeAll, type Disk, type DiskDone } from './disk.ts'
import { carryOver, encodeJournalFrame, encodeSentBatch, type Runs, type SentBatch } from './sent-batch.ts'

/**
 * The journal of the batches that a stream has sent. It says which records a batch holds, and under which identity the broker
 * knows the batch, so that the next process can send the very same batch again. A batch is noted before it is first written to
 * a broker.
 *
 * One batch a partition is in flight. So only the last batch of a partition can be in doubt, and the journal says with each
 * batch whether the one before it is done. The journal is written before the batch is, but not synced: it survives the end of
 * the process, and a power cut once {@link sync} has ended. A new file begins with all open batches. Then the older files go.
 *
 * A new file leaves out the batches that are done when it begins, for whatever reason it does. So before that, the ack files must have their
 * records ({@link Roll}). Meanwhile notes go on in the file that there is.
 */
export class SentJournal {
  readonly #options: SentJournalOptions
  readonly #last = new Map<number, LastBatch>()
  #olderPaths: string[] = []
  /** What was found at start and is done, until a file of this process has it. */
  #doneAtStart: Buffer[] = []
  #nextNumber = 1
  #path = ''
  #fd: number | null = null
  #sizeBytes = 0
  /** A file of this size is full. */
  #fullAtBytes = fileBytes
  #queue: Queued[] = []
  /** Requests of the sender that wait for the end of a write. */
  readonly #waiting = new Set<Queued>()
  #isWriting = false
  #writingSinceMs = 0
  /** The write that is under way has lasted for too long. Nothing waits for its end any more. */
  #isOverdue = false
  #isDirty = false
  #isSyncing = false
  #syncedAtMs = -Infinity
  #isClosed = false
  #isStopped = false
  /** The file has batches that the journal no longer stands for. */
  #isStale = false
  /** A sync failed: some bytes of the file may never get to the disk, even if a second sync ends well. */
  #isInDoubt = false
  /** Syncs that are under way, by file. */
  readonly #syncs = new Map<number, number>()
  /** Files that are closed once their syncs have ended. Closed earlier, their numbers could be given to other files meanwhile. */
  readonly #toClose = new Set<number>()
  #beginAfterMs = -Infinity
  #roll: Roll | null = null
  #failureLoggedAtMs = -Infinity

  constructor(options: SentJournalOptions) {
    this.#options = options
  }

  /**
   * Goes on from what was found at start. To be called once, before anything is noted.
   * @param ready is called when a file of this process has what was found, or when no such file can be written.
   */
  start(found: JournalStart, ready: () => void): void {
    this.#olderPaths = [...found.paths]
    this.#nextNumber = found.nextNumber
    for (const { partition, bytes } of found.open)
      this.#last.set(partition, { bytes, isDone: false, isWritten: true })
    if (found.paths.length === 0) return ready()
    const start: Queued = { batches: [], done: ready }
    this.#waiting.add(start)
    this.#beginWriting()
    this.#doneAtStart = found.done.map(({ bytes }) => carryOver(bytes, true))
    this.#begin((error, queued) => {
      this.#endWriting()
      if (error !== null) this.#failed(error.code ?? error.message)
      this.#end([start, ...queued], error !== null)
      this.#write()
    })
  }

  /** An earlier process's last batch of a partition is with the producer again, as `batch`. */
  resumed(partition: number, batch: PendingBatch): void {
    const last = this.#last.get(partition)
    if (last !== undefined) this.#follow(last, batch, batch.recordCount)
  }

  /** A partition is gone, and the records of its last batch go to others. The next file leaves the batch out. */
  left(partition: number): void {
    this.#last.delete(partition)
  }

  /** The last batch of a partition is not sent again as it was. Its records go in new batches. */
  forget(partition: number): void {
    if (this.#last.delete(partition)) this.#isStale = true
  }

  /** See `BatchJournal.note`. @param runsOf gives the numbers of a batch's records. */
  note(
    scope: number,
    batches: readonly IdentifiedBatch[],
    { runsOf, done }: { runsOf: (batch: IdentifiedBatch) => Runs; done: () => void },
  ): void {
    const noted = batches.map((batch) => {
      const { partition, recordCount } = batch
      const isPreviousDone = this.#last.get(partition)?.isDone ?? false
      const bytes = encodeSentBatch(batch, runsOf(batch), { scope, isPreviousDone })
      const last: LastBatch = { bytes, isDone: false, isWritten: false }
      // A new file has the batches in the order in which they were sent.
      this.#last.delete(partition)
      this.#last.set(partition, last)
      this.#follow(last, batch, recordCount)
      return last
    })
    // The disk hangs: the batches go without being noted.
    if (this.#isOverdue) return done()
    const queued: Queued = { batches: noted, done }
    this.#queue.push(queued)
    this.#waiting.add(queued)
    this.#write()
  }

  /**
   * Is called every second. A disk that hangs must not hold up what Kafka could take: after `waitLimitMs` batches go without being
   * noted. Only the batches of an exactly-once stream wait until the write ends.
   */
  giveUpOverdueWrite(): void {
    if (!this.#isWriting || performance.now() - this.#writingSinceMs < this.#options.waitLimitMs) return
    this.#failed('ETIMEDOUT')
    if (this.#options.isExactlyOnce) return
    this.#isOverdue = true
    this.#queue = []
    const waiting = Array.from(this.#waiting)
    this.#waiting.clear()
    for (const { done } of waiting) done()
  }

  /**
   * Learns when a batch is done. A settlement of a part of its records does not count: the batch was split, and its parts are in the
   * journal by themselves. A batch that is given up after {@link stop} is not done.
   */
  #follow(last: LastBatch, batch: Pick<PendingBatch, 'onSettled'>, count: number): void {
    batch.onSettled((settlement) => {
      if (settlement.recordCount !== count || !last.isWritten) return
      if (this.#isStopped && isLeftAtEnd(settlement, true)) return
      if (this.#roll !== null) this.#keepForRoll(this.#roll, last)
      // Only the files of earlier processes have the batch.
      else if (this.#fd === null) this.#doneAtStart.push(carryOver(last.bytes, true))
      last.isDone = true
      last.bytes = nothing
    })
  }

  /** From now on a batch that is given up is not done: its records stay on disk. A batch that Kafka answers for still is. */
  stop(): void {
    this.#isStopped = true
  }

  /**
   * Syncs the file in the background, unless a sync is under way or began a moment ago. If a sync fails, all open batches are
   * written to another file a moment later.
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

  /** Closes the file. Batches that wait go without being noted. */
  close(): void {
    this.#isClosed = true
    if (!this.#isWriting) this.#letGo()
  }

  /** Writes what is queued. One write is under way at a time: what comes meanwhile goes with the next write. */
  #write(): void {
    if (this.#isWriting) return
    this.#prepareRoll()
    // Under load something is always queued, or always on its way to the ack files. So a file that is full does not wait for a note.
    const isNewFileDue = this.#fd !== null && this.#mayBegin
    if (this.#queue.length === 0 && (!isNewFileDue || this.#isClosed)) return
    if (this.#isClosed) return this.#end(this.#queue.splice(0), true)
    this.#beginWriting()
    const written = (error: NodeJS.ErrnoException | null, queued: readonly Queued[]): void => {
      this.#endWriting()
      if (error !== null) this.#failed(error.code ?? error.message)
      this.#end(queued, error !== null)
      if (this.#isClosed) this.#letGo()
      this.#write()
    }
    if (this.#mayBegin)
      return this.#begin((error, queued) => {
        if (error === null) written(null, queued)
        // Notes go on in the file that there is.
        else if (queued.length + this.#queue.length === 0) written(this.#isInDoubt ? error : null, [])
        else if (this.#fd === null) written(error, [...queued, ...this.#queue.splice(0)])
        else this.#append([...queued, ...this.#queue.splice(0)], written)
      })
    const queued = this.#queue.splice(0)
    if (this.#fd !== null)
      return this.#append(queued, (error) => {
        if (error === null || !this.#isStale) return written(error, queued)
        // Only these notes say that the records of a forgotten batch go in others. Without them the next start could take some of the
        // records for sent. So the new file, which leaves the batch out, does not wait for the ack files.
        this.#queue.unshift(...queued)
        this.#begin((beginError, begun) =>
          written(beginError, beginError === null ? begun : [...begun, ...this.#queue.splice(0)]),
        )
      })
    // No file could be made a moment ago.
    this.#endWriting()
    this.#end(queued, true)
  }

  #append(
    queued: readonly Queued[],
    written: (error: NodeJS.ErrnoException | null, queued: readonly Queued[]) => void,
  ): void {
    const frame = encodeJournalFrame(
      queued.flatMap(({ batches }) => batches.map(({ bytes }) => bytes)),
      false,
    )
    // After a failure the next frame goes to the same place: nothing behind a torn frame can be read.
    const write = { fd: this.#fd!, buffers: [frame], position: this.#sizeBytes }
    writeAll(this.#options.disk, write, (error) => {
      if (error === null) this.#sizeBytes += frame.length
      written(error, queued)
    })
  }

  /** If a new file is to follow the one that there is, has the ack files secured. Then the new file is begun. */
  #prepareRoll(): void {
    if (this.#roll !== null || this.#fd === null || this.#isClosed) return
    if (!this.#isStale && !this.#isInDoubt && this.#sizeBytes < this.#fullAtBytes) return
    if (performance.now() < this.#beginAfterMs) return
    const roll: Roll = { done: [], doneBytes: 0, areAcksSecure: false }
    this.#roll = roll
    // Settlements are told in microtasks: one that the journal knows of is in the log before the next turn.
    setImmediate(() => {
      this.#options.secureAcks((error) => {
        if (this.#roll !== roll) return
        if (error !== null) {
          this.#roll = null
          this.#beginAfterMs = performance.now() + retryMs
          return
        }
        roll.areAcksSecure = true
        this.#write()
      })
    })
  }

  /** A batch is done, and the ack files may not say so when the new file begins. */
  #keepForRoll(roll: Roll, { bytes }: LastBatch): void {
    roll.done.push(carryOver(bytes, true))
    roll.doneBytes += bytes.length
    // The disk hangs. The next write tries it anew. Once the acks are secure, a new file may be under way, which needs the list.
    if (roll.doneBytes > fileBytes && !roll.areAcksSecure) this.#roll = null
  }

  /** A new file may begin now: there is none of this process, or nothing gets lost with the one that there is. */
  get #mayBegin(): boolean {
    if (performance.now() < this.#beginAfterMs) return false
    return this.#fd === null || this.#roll?.areAcksSecure === true
  }

  /**
   * Begins a file with all open batches: the last one of each partition, unless it is done.
   * @param done is told which of the queued batches are in the file.
   */
  #begin(done: (error: NodeJS.ErrnoException | null, queued: readonly Queued[]) => void): void {
    const { disk, folder } = this.#options
    const path = `${folder}/${journalName(this.#nextNumber++)}`
    const failed = (error: NodeJS.ErrnoException, queued: readonly Queued[]): void => {
      this.#beginAfterMs = performance.now() + retryMs
      this.#roll = null
      disk.remove(path, ignored)
      done(error, queued)
    }
    disk.create(path, (error, fd) => {
      if (error !== null) return failed(error, [])
      // Queued batches are the last ones of their partitions, so the first frame has them. They must not be written once more.
      const queued = this.#queue.splice(0)
      const open = [...this.#last.values()].filter(({ isDone }) => !isDone)
      const ended = [...this.#doneAtStart, ...(this.#roll?.done ?? [])]
      // From here on a batch that gets done is in the new file.
      this.#roll = null
      const frame = encodeJournalFrame([...ended, ...open.map(({ bytes }) => carryOver(bytes, false))], true)
      writeAll(disk, { fd, buffers: [frame], position: 0 }, (writeError) => {
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
        // With very many partitions the first frame alone can be larger than a file.
        this.#fullAtBytes = Math.max(fileBytes, 2 * frame.length)
        this.#doneAtStart = []
        this.#isStale = false
        this.#isInDoubt = false
        this.#removeOlder(fd, older)
        done(null, queued)
      })
    })
  }

  /** Removes older files in the background. With fsync, the new file has to be on the disk first. */
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

  /** Syncs a file. The file stays open until the sync has ended. */
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

  /** The bytes of a file, or its name, may not be on the disk. */
  #doubt(fd: number): void {
    if (fd !== this.#fd) return
    this.#isInDoubt = true
    this.#isDirty = true
    this.#beginAfterMs = performance.now() + retryMs
  }

  #end(queued: readonly Queued[], isFailed: boolean): void {
    if (!isFailed) this.#isDirty = true
    for (const each of queued) {
      for (const batch of each.batches) batch.isWritten = !isFailed
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
  /** Open, to sync the names of the folder. */
  readonly folderFd: number
  readonly fsync: boolean
  readonly disk: Disk
  readonly logger: Logger
  /** How long a batch waits to be noted, in milliseconds. It is looked at every second. */
  readonly waitLimitMs: number
  /** A batch waits until it is noted, however long the disk takes. */
  readonly isExactlyOnce: boolean
  /** See `SpoolLog.secureAcks`. */
  readonly secureAcks: (done: DiskDone) => void
}

/** What a journal goes on from. */
export interface JournalStart {
  /** Files of earlier processes. */
  readonly paths: readonly string[]
  readonly nextNumber: number
  /** Batches that are going to be sent again, one a partition. */
  readonly open: readonly SentBatch[]
  /** Batches that are done, though the ack files may not say so yet. */
  readonly done: readonly SentBatch[]
}

/** The name of a file of the journal. The newest file has the highest number. */
export function journalName(number: number): string {
  return `${String(number).padStart(15, '0')}.sent`
}

/** The last batch of a partition. */
interface LastBatch {
  bytes: Buffer
  isDone: boolean
  /** The batch is in the file. If it is not, its end must not be noted: the file has an older batch as the last one. */
  isWritten: boolean
}

/**
 * A file is full, in doubt or stale, and a new one is wanted. The new one leaves out the batches that were done when this began, once the ack files have
 * their records. It has those that were done later.
 */
interface Roll {
  /** Batches that were done since then, as the new file has them. */
  readonly done: Buffer[]
  doneBytes: number
  areAcksSecure: boolean
}

/** Batches of one request of the sender, until they are written. */
interface Queued {
  readonly batches: readonly LastBatch[]
  readonly done: () => void
}

const nothing = Buffer.alloc(0)
/** A file of this size holds some thousand batches, and takes a millisecond to read. */
const fileBytes = 1 << 20
const retryMs = 1_000
/** One sync for each group of requests would cost a tenth of the CPU time of a single event. */
const syncIntervalMs = 50
const failureLogIntervalMs = 10_000
