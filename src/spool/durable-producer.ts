import { BufferMemory } from '../kafka/producer/buffer-memory.ts'
import type { DropReason } from '../kafka/producer/outcome.ts'
import type { Logger } from '../logger.ts'
import {
  recordSizeUpperBound,
  type CommitListener,
  type Durability,
  type ManagedProducer,
  type PendingBatch,
  type Producer,
  type ProducerStats,
} from '../kafka/producer/producer.ts'
import { RollingSum } from '../rolling-sum.ts'
import { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import type { SpoolConfig } from '../config/config.ts'
import { accountWithSpool } from './account-with-spool.ts'
import type { StreamFolder } from './data-folder.ts'
import { realDisk, type Disk } from './disk.ts'
import { Feeder, type ResumableBatch } from './feeder.ts'
import { GroupCommit } from './group-commit.ts'
import type { Group } from './group.ts'
import type { InnerProducer } from './inner-producer.ts'
import { Notes } from './notes.ts'
import { findJournal, resolveNotes, type SentBefore } from './find-sent.ts'
import { Runs } from './runs.ts'
import { SentJournal } from './sent-journal.ts'
import { SpoolLog, type PlacedGroup } from './spool-log.ts'
import { SpooledRecord } from './spooled-record.ts'

/**
 * A stream whose 202 survives: what is appended is on disk before it counts as accepted, and goes on to Kafka from
 * there. Read this file of the folder first.
 *
 * `spool/` puts a log on disk in front of an at-least-once stream's producer: `group-commit.ts` collects requests,
 * `spool-log.ts` writes and syncs them in its files, `feeder.ts` takes them to the producer in order and books what Kafka
 * has. It knows neither HTTP nor Kafka's protocol.
 *
 * Memory is the producer's `buffer.memory`, all of it: what is on its way to the disk is reserved there, and what has been
 * committed gives its room back or goes on in it. At every moment accepted + recovered = spooled + what the producer has
 * + the outcomes.
 */
export class DurableProducer implements ManagedProducer, Durability {
  /** @inheritdoc */
  readonly isLasting: boolean
  readonly #producer: InnerProducer
  readonly #spool: SpoolConfig
  readonly #disk: BufferMemory
  readonly #log: SpoolLog
  readonly #commits: GroupCommit<SpooledRecord>
  readonly #feeder: Feeder
  readonly #journal: SentJournal
  readonly #logger: Logger
  readonly #notes: Notes
  readonly #recentlyFreed = new RollingSum(freedWindowSeconds)
  readonly #tendTimer: NodeJS.Timeout
  readonly #recovered: number
  readonly #dropped: Partial<Record<DropReason, number>> = {}
  /** What goes with the next record. */
  #laterNotes: LaterNote[] = []
  #accepted = 0
  #drained = 0
  #readFailures = 0
  #closing = false
  #isFull = false
  #suspectedBefore: number | null = null
  /** Records of batches of an earlier process, where Kafka may have a batch and not be able to tell it. */
  #possiblyRepeated = 0

  constructor(options: DurableProducerOptions) {
    const { producer, folder, spool, isLasting = true, logger, disk = realDisk } = options
    this.isLasting = isLasting
    this.#producer = producer
    this.#logger = logger
    this.#spool = spool
    this.#notes = new Notes({ folder: folder.path, folderFd: folder.fd, disk, logger })
    this.#log = new SpoolLog(
      {
        stream: producer.stream.name,
        folder: folder.path,
        folderFd: folder.fd,
        fsync: spool.fsync,
        segmentBytes: Math.min(largestSegmentBytes, Math.ceil(spool.maxBytes / 8)),
        disk,
        logger,
        mayRemove: (segment) => this.#notes.areSafe(segment),
        onRemoved: ({ sizeBytes }) => {
          this.#recentlyFreed.add(sizeBytes)
          this.#disk.release(sizeBytes)
        },
      },
      folder.segments,
    )
    this.#disk = new BufferMemory(spool.maxBytes)
    this.#disk.take(this.#log.sizeBytes)
    const journal = findJournal(folder.path, disk, logger)
    const before = resolveNotes(journal.notes, this.#log, disk)
    this.#recovered = this.#log.pendingRecords - before.doneSeqs.length
    if (this.#recovered > 0) {
      const found = { stream: producer.stream.name, records: this.#recovered, bytes: this.#log.sizeBytes }
      logger.info(found, 'records of an earlier run are on disk and go first')
    }
    const resumable = this.#reserveResumed(before)
    this.#journal = new SentJournal({
      stream: producer.stream.name,
      folder: folder.path,
      folderFd: folder.fd,
      fsync: spool.fsync,
      disk,
      logger,
      waitLimitMs: Math.min(longestNoteMs, producer.stream.producer.deliveryTimeoutMs / 2),
      isExactlyOnce: producer.stream.exactlyOnce,
      areAcksWritten: () => this.#log.areAcksWritten,
    })
    this.#feeder = new Feeder({
      log: this.#log,
      producer,
      resumable,
      done: before.doneSeqs,
      events: {
        resumed: (noted, batch) => {
          if (batch !== null) {
            if (Date.now() - noted.notedAtMs > producerExpirationMs)
              this.#tellUnsure(noted.recordCount, 'the note is older than a broker remembers a producer')
            return this.#journal.resumed(noted.partition, batch)
          }
          this.#journal.forget(noted.partition)
          this.#tellUnsure(noted.recordCount, 'its topic or its partition is not the same')
        },
        drained: (count) => {
          this.#drained += count
        },
        dropped: (reason, count) => {
          this.#dropped[reason] = (this.#dropped[reason] ?? 0) + count
        },
        readFailed: (code) => {
          if (this.#readFailures++ === 0)
            logger.error(
              { stream: producer.stream.name, code },
              'the spool cannot be read; it is tried again',
            )
        },
      },
    })
    this.#commits = new GroupCommit(this.#log, this.#committed)
    this.#tendTimer = setInterval(() => {
      this.#log.tend()
      this.#notes.tend()
      this.#journal.tend()
      if (spool.fsync) this.#journal.sync()
    }, tendIntervalMs).unref()
    producer.keepJournal({
      note: (scope, batches, done) =>
        this.#journal.note(scope, batches, {
          runsOf: ({ whole, firstPlace, recordCount }) => {
            const runs = new Runs()
            this.#feeder.seqsOf(whole, firstPlace, recordCount, (first, count) => runs.addRun(first, count))
            return runs
          },
          done,
        }),
    })
    const open = before.inDoubt
      .map(({ note }) => note)
      .filter(({ partition }) => resumable.some(({ batch }) => batch.partition === partition))
    const { paths, nextNumber } = journal
    this.#journal.start({ paths, nextNumber, open, done: before.done }, () => {
      for (const seq of before.doneSeqs) this.#log.done(seq, 1)
      this.#feeder.start()
    })
  }

  get stream(): Producer['stream'] {
    return this.#producer.stream
  }

  get maxRecordBytes(): number {
    return this.#producer.maxRecordBytes
  }

  get needsKey(): boolean {
    return this.#producer.needsKey
  }

  /** Kafka need not have been reached: until then the records wait on disk. */
  get admission(): Producer['admission'] {
    if (this.#closing) return 'closing'
    if (this.#log.isFailing) return 'spool_unavailable'
    const { admission } = this.#producer
    return admission === 'not_known_yet' || admission === 'no_leader_yet' ? 'open' : admission
  }

  get obstacle(): Producer['obstacle'] {
    return this.#producer.obstacle
  }

  get isConnected(): boolean {
    return this.#producer.isConnected
  }

  get headerBytes(): number {
    return this.#producer.headerBytes
  }

  get durability(): Durability {
    return this
  }

  /** @inheritdoc */
  get confirmation(): ManagedProducer['confirmation'] {
    return this.#producer.confirmation
  }

  /** @inheritdoc */
  get lacking(): readonly string[] {
    return this.#producer.lacking
  }

  /** @inheritdoc */
  get isFullAndStuck(): boolean {
    return this.#isFull && !this.#producer.isConnected
  }

  /** @inheritdoc */
  reserve(sizeBytes: number): boolean {
    this.#isFull = !this.#disk.reserve(sizeBytes)
    if (this.#isFull) return false
    if (this.#producer.reserve(sizeBytes)) return true
    this.#disk.release(sizeBytes)
    return false
  }

  /** @inheritdoc */
  unreserve(sizeBytes: number): void {
    this.#producer.unreserve(sizeBytes)
    this.#disk.release(sizeBytes)
  }

  /** @inheritdoc */
  async reserveOrWait(sizeBytes: number): Promise<boolean> {
    if (!(await this.#disk.reserveOrWait(sizeBytes, this.stream.producer.maxBlockMs))) return false
    if (await this.#producer.reserveOrWait(sizeBytes)) return true
    this.#disk.release(sizeBytes)
    return false
  }

  /** Takes one record to the group that is committed next. It is accepted when that is. */
  append(record: RecordBytes): PendingBatch {
    const group = this.#commits.append('record', record)
    group.reservedBytes += recordSizeUpperBound(record.keyBytes, record.valueBytes, this.headerBytes)
    if (this.#laterNotes.length > 0) {
      for (const { key: name, value, untilMs } of this.#laterNotes) this.note(name, value, untilMs)
      this.#laterNotes = []
    }
    return new SpooledRecord(group)
  }

  /** @inheritdoc */
  commit(listener: CommitListener): void {
    this.#commits.commit(listener)
  }

  /** @inheritdoc */
  note(key: string, value: Buffer, untilMs: number): void {
    const group = this.#commits.open
    if (group.recordCount === 0) throw new Error('a note goes with records')
    this.#commits.append('note', RecordBytes.of(value, Buffer.from(key), untilMs))
  }

  /** @inheritdoc */
  noteLater(key: string, value: Buffer, untilMs: number): void {
    this.#laterNotes.push({ key, value, untilMs })
  }

  /** @inheritdoc */
  readNotes(windowMs: number, each: (key: string, value: Buffer, untilMs: number) => void): void {
    this.#notes.read(this.#log.segments, Date.now() - windowMs, each)
  }

  /** @inheritdoc */
  drop(count: number): void {
    this.#producer.drop(count)
    this.#accepted += count
  }

  /** @inheritdoc */
  retryAfterSeconds(): number {
    const { availableBytes, totalBytes } = this.#disk
    if (availableBytes > totalBytes / 10) return this.#producer.retryAfterSeconds()
    const freedPerSecond = this.#recentlyFreed.sum() / freedWindowSeconds
    const seconds = freedPerSecond > 0 ? totalBytes / 10 / freedPerSecond : maxRetryAfterSeconds
    return Math.min(maxRetryAfterSeconds, Math.max(1, Math.ceil(seconds)))
  }

  /** What is committed of the file that is written to. */
  get newestFileBytes(): number {
    return this.#log.segments.at(-1)?.sizeBytes ?? 0
  }

  /** @inheritdoc */
  get stats(): ProducerStats {
    const { oldestMs } = this.#feeder
    return accountWithSpool(this.#producer.stats, {
      accepted: this.#accepted,
      recovered: this.#recovered,
      dropped: this.#dropped,
      suspectedBefore: this.#suspectedBefore,
      possiblyRepeated: this.#possiblyRepeated,
      spool: {
        records: this.#log.pendingRecords,
        bytes: this.#log.sizeBytes,
        maxBytes: this.#spool.maxBytes,
        oldestAgeSeconds: oldestMs === null ? 0 : Math.max(0, Date.now() - oldestMs) / 1000,
        drained: this.#drained,
        writeFailures: this.#log.failures,
        readFailures: this.#readFailures,
        available: !this.#log.isFailing,
      },
    })
  }

  /**
   * Ends by the deadline, whatever the disk does. Does not wait for Kafka to take what is on disk: only for what is on its way to the disk, and, for a moment, for what
   * is on its way to a Kafka that answers, so that the next start sends nothing of it again.
   */
  async close(deadlineMs: number): Promise<boolean> {
    this.#closing = true
    this.#disk.close()
    this.#feeder.stop()
    // Before the producer closes, which gives batches up at its end.
    this.#journal.stop()
    this.#suspectedBefore = this.#producer.stats.suspectedLost
    await by(deadlineMs, (done) => this.#commits.whenIdle(done))
    const isSafe = this.#commits.isIdle
    const graceMs = this.#producer.isConnected ? inFlightGraceMs : lettersGraceMs
    await this.#producer.close(Math.min(deadlineMs, performance.now() + graceMs))
    this.abort()
    // Settlements are told in microtasks.
    await new Promise((resolve) => setImmediate(resolve))
    this.#feeder.leaveWaiters()
    await by(deadlineMs, (done) => this.#log.whenIdle(done))
    this.#log.close()
    this.#journal.close()
    return isSafe
  }

  /** @inheritdoc */
  abort(): void {
    this.#closing = true
    clearInterval(this.#tendTimer)
    this.#feeder.stop()
    this.#journal.stop()
    this.#suspectedBefore ??= this.#producer.stats.suspectedLost
    this.#producer.abort()
  }

  readonly #committed = (groups: readonly Group<SpooledRecord>[], placed: readonly PlacedGroup[]): void => {
    if (placed.length === 0) {
      for (const { reservedBytes } of groups) this.unreserve(reservedBytes)
      return
    }
    for (const each of placed) {
      const { group } = each
      this.#accepted += group.recordCount
      // On disk a record takes less than in a batch of its own; notes have no room reserved for them.
      this.#disk.release(group.reservedBytes)
      this.#disk.take(group.sizeBytes)
      this.#feeder.offer(each)
    }
    if (this.#spool.fsync) this.#journal.sync()
  }

  /** Takes room for the batches that are sent again. */
  #reserveResumed({ inDoubt, lost }: SentBefore): ResumableBatch[] {
    for (const { recordCount } of lost) this.#tellUnsure(recordCount, 'its records cannot be read back')
    return inDoubt.flatMap(({ note, records }) => {
      const headerBytes = note.firstHeaders?.length ?? 0
      const chargedBytes = records.reduce(
        (sum, { key, value }) => sum + recordSizeUpperBound(key?.length ?? 0, value.length, headerBytes),
        0,
      )
      if (!this.#producer.reserve(chargedBytes)) {
        this.#tellUnsure(note.recordCount, 'buffer.memory has no room for it')
        return []
      }
      const runs = new Runs()
      for (const [first, count] of note.runs) for (let seq = first; seq < first + count; seq++) runs.add(seq)
      return [{ batch: { ...note, chargedBytes, records }, runs }]
    })
  }

  /** Kafka may have a batch of an earlier process, and not be able to tell it. */
  #tellUnsure(records: number, reason: string): void {
    this.#possiblyRepeated += records
    this.#logger.warn(
      { stream: this.stream.name, records, reason },
      'Kafka may not know a batch of an earlier run that it has: the records of the batch go, and can be there twice',
    )
  }
}

/** See {@link DurableProducer}. */
export interface DurableProducerOptions {
  /** The stream's own; nobody else appends to it. */
  readonly producer: InnerProducer
  readonly folder: StreamFolder
  readonly spool: SpoolConfig
  /** See {@link Durability.isLasting}; true unless given. */
  readonly isLasting?: boolean
  readonly logger: Logger
  readonly disk?: Disk
}

/** Waits for a call back, and no longer than until a moment by `performance.now()`. */
async function by(deadlineMs: number, call: (done: () => void) => void): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, deadlineMs - performance.now()))
    call(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}

interface LaterNote {
  readonly key: string
  readonly value: Buffer
  readonly untilMs: number
}

const tendIntervalMs = 1_000
/** A broker that has forgotten a producer takes any batch of it (Kafka's `producer.id.expiration.ms`, a day unless it was changed). */
const producerExpirationMs = 86_400_000
/** A disk that takes longer for a note than this hangs. */
const longestNoteMs = 5_000
const largestSegmentBytes = 32 << 20
const freedWindowSeconds = 5
const maxRetryAfterSeconds = 60
/** How long SIGTERM waits for the acknowledgments of what is sent already. */
const inFlightGraceMs = 1_000
/** The same without Kafka: what Kafka had refused before goes to the dead-letter file meanwhile. */
const lettersGraceMs = 250
