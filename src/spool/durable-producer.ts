import type { SpoolConfig } from '../config/config.ts'
import { BufferMemory } from '../kafka/producer/buffer-memory.ts'
import {
  admissionTraits,
  chargeOf,
  type CommitListener,
  type Durability,
  type AccountedProducer,
  type LargeCommit,
  type PendingBatch,
  type Producer,
  type ProducerStats,
} from '../kafka/producer/producer.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import type { Logger } from '../logger.ts'
import { RollingSum } from '../rolling-sum.ts'
import type { StreamFolder } from './data-folder.ts'
import { realDisk, type Disk } from './disk.ts'
import { Feeder, type FeederEvents, type InnerProducer } from './feeder.ts'
import { findJournal, reserveSent, resolveSent } from './find-sent.ts'
import { by, GroupCommit } from './group-commit.ts'
import { SpooledRecord, type Group } from './group.ts'
import { Notes } from './notes.ts'
import { Runs } from './sent-batch.ts'
import { SentJournal } from './sent-journal.ts'
import { SpoolAccount } from './spool-account.ts'
import { SpoolLog, type PlacedGroup } from './spool-log.ts'

/**
 * A stream whose 202 survives a crash: a record counts as accepted once it is on disk, and goes to Kafka from there. Read this
 * file of the folder first.
 *
 * `spool/` puts a write-ahead log on disk in front of the producer of an at-least-once stream. `group-commit.ts` collects
 * requests into groups. `spool-log.ts` writes and syncs the groups. `feeder.ts` takes the records to the producer in their order,
 * and books those that have an outcome. `sent-journal.ts` notes which batches were sent, so that the next process can send the same ones.
 * The folder knows the producer's interface. It knows neither HTTP, nor Kafka's connections, nor Prometheus.
 *
 * The producer's `buffer.memory` bounds the memory of both. Requests on their way to the disk have their room reserved there. A
 * group that was committed gives its room back, or goes on to the producer in it.
 */
export class DurableProducer implements AccountedProducer, Durability {
  /** @inheritdoc */
  readonly isLasting: boolean
  /** @inheritdoc */
  readonly left: readonly DurableProducer[]
  readonly #producer: InnerProducer
  readonly #spool: SpoolConfig
  /** Room on disk: `spool.max.bytes`. */
  readonly #disk: BufferMemory
  readonly #log: SpoolLog
  readonly #commits: GroupCommit
  readonly #feeder: Feeder
  readonly #journal: SentJournal
  readonly #account: SpoolAccount
  readonly #logger: Logger
  readonly #notes: Notes
  readonly #recentlyFreed = new RollingSum(freedWindowSeconds)
  readonly #maintenanceTimer: NodeJS.Timeout
  #closing = false
  #isFull = false

  constructor(options: DurableProducerOptions) {
    const { producer, folder, spool, isLasting = true, logger, disk = realDisk } = options
    const stream = producer.stream.name
    this.isLasting = isLasting
    this.left = options.left ?? []
    this.#producer = producer
    this.#logger = logger
    this.#spool = spool
    this.#notes = new Notes({ folder: folder.path, folderFd: folder.fd, disk, logger })
    this.#log = new SpoolLog(
      {
        stream,
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
    this.#disk = options.room ?? new BufferMemory(spool.maxBytes)
    this.#disk.take(this.#log.sizeBytes)
    const found = findJournal(folder.path, disk, logger)
    const before = resolveSent(found.batches, this.#log, disk)
    const recovered = this.#log.pendingRecords - before.doneSeqs.length
    this.#account = new SpoolAccount(recovered)
    if (recovered > 0) {
      const bytes = this.#log.sizeBytes
      logger.info({ stream, records: recovered, bytes }, 'records of an earlier run are on disk and go first')
    }
    for (const { recordCount } of before.lost)
      this.#tellUnsure(recordCount, 'its records cannot be read back, or only some of them are done')
    const resumable = reserveSent(before, producer, ({ recordCount }) =>
      this.#tellUnsure(recordCount, 'buffer.memory has no room for it'),
    )
    this.#journal = new SentJournal({
      stream,
      folder: folder.path,
      folderFd: folder.fd,
      fsync: spool.fsync,
      disk,
      logger,
      waitLimitMs: Math.min(longestNoteMs, producer.stream.producer.deliveryTimeoutMs / 2),
      isExactlyOnce: producer.stream.exactlyOnce,
      secureAcks: (done) => this.#log.secureAcks(done),
    })
    const events = this.#feederEvents()
    this.#feeder = new Feeder({ log: this.#log, producer, resumable, done: before.doneSeqs, events })
    this.#commits = new GroupCommit(this.#log, this.#committed)
    this.#maintenanceTimer = setInterval(() => {
      this.#log.maintain()
      this.#notes.removeOld()
      this.#journal.giveUpOverdueWrite()
      if (spool.fsync) this.#journal.sync()
    }, maintenanceIntervalMs).unref()
    producer.keepJournal({
      left: (partition) => this.#journal.left(partition),
      note: (scope, batches, done) =>
        this.#journal.note(scope, batches, {
          runsOf: ({ whole, firstPlace, recordCount }) => {
            const runs = new Runs()
            const places = { from: firstPlace, length: recordCount }
            this.#feeder.eachSeq(whole, places, (first, count) => runs.addRun(first, count))
            return runs
          },
          done,
        }),
    })
    const open = before.inDoubt
      .map(({ batch }) => batch)
      .filter(({ partition }) => resumable.some(({ batch }) => batch.partition === partition))
    const { paths, nextNumber } = found
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

  /** Records are taken before Kafka was reached: until then they wait on disk. */
  get admission(): Producer['admission'] {
    if (this.#closing) return 'closing'
    if (this.#log.isFailing) return 'spool_unavailable'
    const { admission } = this.#producer
    return admissionTraits[admission].waits ? 'open' : admission
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
  get confirmation(): AccountedProducer['confirmation'] {
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

  /** Appends one record to the group that is committed next. The record is accepted when the group is committed. */
  append(record: RecordBytes): PendingBatch {
    const group = this.#commits.append(record)
    group.reservedBytes += chargeOf(record, this.headerBytes)
    return new SpooledRecord(group)
  }

  /** @inheritdoc */
  commit(listener: CommitListener): void {
    this.#commits.commit(listener)
  }

  /** @inheritdoc */
  begin(): LargeCommit {
    return this.#commits.begin(this.headerBytes)
  }

  /** @inheritdoc */
  note(key: string, value: Buffer, untilMs: number): void {
    this.#commits.note({ key, value, untilMs })
  }

  /** @inheritdoc */
  noteLater(key: string, value: Buffer, untilMs: number): void {
    this.#commits.noteLater({ key, value, untilMs })
  }

  /** @inheritdoc */
  readNotes(windowMs: number, each: (key: string, value: Buffer, untilMs: number) => void): void {
    this.#notes.read(this.#log.segments, Date.now() - windowMs, each)
  }

  /** @inheritdoc */
  whenDecided(done: () => void): void {
    this.#log.whenDecided(done)
  }

  /** @inheritdoc */
  drop(count: number): void {
    this.#producer.drop(count)
    this.#account.accepted += count
  }

  /** @inheritdoc */
  retryAfterSeconds(): number {
    const { availableBytes, totalBytes } = this.#disk
    if (availableBytes > totalBytes / 10) return this.#producer.retryAfterSeconds()
    const freedPerSecond = this.#recentlyFreed.sum() / freedWindowSeconds
    const seconds = freedPerSecond > 0 ? totalBytes / 10 / freedPerSecond : maxRetryAfterSeconds
    return Math.min(maxRetryAfterSeconds, Math.max(1, Math.ceil(seconds)))
  }

  /** Size of what is committed of the newest segment, in bytes. */
  get newestSegmentBytes(): number {
    return this.#log.segments.at(-1)?.sizeBytes ?? 0
  }

  /** @inheritdoc */
  get stats(): ProducerStats {
    const { oldestMs } = this.#feeder
    const inner = { ...this.#producer.stats, available: admissionTraits[this.admission].isAvailable }
    return this.#account.stats(inner, {
      records: this.#log.pendingRecords,
      bytes: this.#log.sizeBytes,
      maxBytes: this.#spool.maxBytes,
      oldestAgeSeconds: oldestMs === null ? 0 : Math.max(0, Date.now() - oldestMs) / 1000,
      drained: this.#account.drained,
      writeFailures: this.#log.failures,
      readFailures: this.#account.readFailures,
      available: !this.#log.isFailing,
    })
  }

  /**
   * Ends by the deadline, whatever the disk does. Waits for the requests that are on their way to the disk. Waits a moment for
   * the batches that are on their way to Kafka, if Kafka answers, so that the next start does not send them again. Does not wait
   * for Kafka to take the records that are on disk.
   */
  async close(deadlineMs: number): Promise<boolean> {
    this.#closing = true
    this.#disk.close()
    this.#feeder.stop()
    // Before the producer closes: at its end it gives batches up, and these are not done.
    this.#journal.stop()
    this.#account.beginEnd(this.#producer.stats)
    this.#log.endBy(deadlineMs)
    await by(deadlineMs, (done) => this.#commits.whenIdle(done))
    const isSafe = this.#commits.isIdle
    const graceMs = this.#producer.isConnected ? inFlightGraceMs : lettersGraceMs
    await this.#producer.close(Math.min(deadlineMs, performance.now() + graceMs))
    this.abort()
    // Settlements are told in microtasks.
    await new Promise((resolve) => setImmediate(resolve))
    this.#feeder.leaveAwaited()
    await by(deadlineMs, (done) => this.#log.whenIdle(done))
    this.#log.close()
    this.#journal.close()
    return isSafe
  }

  /** @inheritdoc */
  abort(): void {
    this.#closing = true
    clearInterval(this.#maintenanceTimer)
    this.#feeder.stop()
    this.#journal.stop()
    this.#account.beginEnd(this.#producer.stats)
    this.#producer.abort()
  }

  readonly #committed = (groups: readonly Group[], placed: readonly PlacedGroup[]): void => {
    if (placed.length === 0) {
      for (const { reservedBytes } of groups) this.unreserve(reservedBytes)
      return
    }
    for (const each of placed) {
      const { group } = each
      this.#account.accepted += group.recordCount
      // A record takes less room on disk than was reserved for it. Nothing was reserved for notes.
      this.#disk.release(group.reservedBytes)
      this.#disk.take(group.sizeBytes)
      this.#feeder.offer(each)
    }
    if (this.#spool.fsync) this.#journal.sync()
  }

  #feederEvents(): FeederEvents {
    const account = this.#account
    return {
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
        account.drained += count
      },
      dropped: (reason, count) => account.drop(reason, count),
      readFailed: (code) => {
        if (account.readFailures++ > 0) return
        const { name } = this.stream
        this.#logger.error({ stream: name, code }, 'the spool cannot be read; it is tried again')
      },
    }
  }

  /** Counts and logs a batch of an earlier process that Kafka may have, though Kafka can no longer tell that it has it. */
  #tellUnsure(records: number, reason: string): void {
    this.#account.possiblyRepeated += records
    this.#logger.warn(
      { stream: this.stream.name, records, reason },
      'Kafka may not know a batch of an earlier run that it has: the records of the batch go, and can be there twice',
    )
  }
}

/** See {@link DurableProducer}. */
export interface DurableProducerOptions {
  /** The stream's own producer. Nobody else appends to it. */
  readonly producer: InnerProducer
  readonly folder: StreamFolder
  readonly spool: SpoolConfig
  /** `spool.max.bytes`, where several producers share it. Left out: it is this producer's own. */
  readonly room?: BufferMemory
  /** See {@link Durability.left}; none unless given. */
  readonly left?: readonly DurableProducer[]
  /** See {@link Durability.isLasting}; true unless given. */
  readonly isLasting?: boolean
  readonly logger: Logger
  readonly disk?: Disk
}

const maintenanceIntervalMs = 1_000
/** A broker forgets a producer after `producer.id.expiration.ms` (a day by default). Then it takes any batch of that producer as new. */
const producerExpirationMs = 86_400_000
/** A disk that takes longer than this to note a batch hangs. */
const longestNoteMs = 5_000
const largestSegmentBytes = 32 << 20
const freedWindowSeconds = 5
const maxRetryAfterSeconds = 60
/** How long SIGTERM waits for the acknowledgments of batches that are sent already. */
const inFlightGraceMs = 1_000
/** How long SIGTERM waits if Kafka does not answer. Meanwhile batches that Kafka had refused go to the dead-letter file. */
const lettersGraceMs = 250
