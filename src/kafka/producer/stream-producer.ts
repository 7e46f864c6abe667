import type { Delivery, StreamConfig } from '../../config/config.ts'
import { Account } from './account.ts'
import { type RecordHeaders, AuditHeaders } from './record-headers.ts'
import { Accumulator } from './accumulator.ts'
import type { BatchJournal, ResumedBatch } from './batch-journal.ts'
import type { BufferPool } from '../../buffer-pool.ts'
import { BufferMemory } from './buffer-memory.ts'
import type { ClusterMetadata } from '../network/cluster-metadata.ts'
import { type ConfirmationMode, dropReasonOf } from './outcome.ts'
import { kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import type { LingerClocks } from './linger-clock.ts'
import { LogEndOffsets } from './log-end-offsets.ts'
import { LossLog } from './loss-log.ts'
import type { Logger } from '../../logger.ts'
import {
  chargeOf,
  admissionTraits,
  type Obstacle,
  type AccountedProducer,
  type PendingBatch,
  type ProducerAdmission,
  type ProducerStats,
  type ProducerTelemetry,
} from './producer.ts'
import type { ProducerBatch } from './producer-batch.ts'
import { RollingSum } from '../../rolling-sum.ts'
import type { RecordBytes } from '../protocol/record-bytes.ts'
import type { DeadLetterQueue, Refusal, Sender, SenderOptions } from './sender.ts'
import { withRatios } from './producer-stats.ts'
import type { Transport } from '../network/transport.ts'
import { TopicFollower } from './topic-follower.ts'
import type { TurnEnd } from '../network/turn.ts'

/**
 * The producer of one stream. It has its own memory, account, accumulator and sender, so another stream does not take its room. The sender
 * decides whether it shares connections. Appending never waits and never fails.
 */
export class StreamProducer implements AccountedProducer {
  readonly stream: StreamConfig
  /** null: the records are in memory only. */
  readonly durability = null
  readonly #memory: BufferMemory
  readonly #account: Account
  readonly #accumulator: Accumulator
  readonly #offsets = new LogEndOffsets()
  readonly #sender: Sender
  readonly #telemetry: ProducerTelemetry
  readonly #recentBatches = new RollingSum(30)
  readonly #recentBatchBytes = new RollingSum(30)
  readonly #lossLog: LossLog | null
  readonly #secondTimer: NodeJS.Timeout
  readonly #turn: TurnEnd
  #closing = false
  #pumpScheduled = false
  readonly #topic: TopicFollower
  readonly headerBytes: number
  readonly #headers: RecordHeaders | null
  readonly #audit: AuditHeaders | null
  readonly #deadLetters: DeadLetterQueue | null

  constructor(options: StreamProducerOptions) {
    const { stream, metadata, transport, logger, buffers } = options
    const config = stream.producer
    this.stream = stream
    this.#telemetry = options.telemetry
    this.#turn = options.turn
    this.#memory = options.memory ?? new BufferMemory(config.bufferMemoryBytes)
    this.#account = new Account(this.#memory)
    this.#audit = stream.audit ? new AuditHeaders() : null
    this.#headers = options.headers ?? this.#audit
    this.headerBytes = this.#headers?.headerBytes ?? 0
    this.#accumulator = new Accumulator({
      config,
      headers: this.#headers,
      memory: this.#memory,
      buffers,
      onReady: this.#schedulePump,
      awaitedLingerMs: awaitedLingerMs[stream.delivery],
      clock: options.clocks.of(config.lingerMs),
    })
    this.#topic = new TopicFollower({
      stream,
      metadata,
      logger,
      headerBytes: this.headerBytes,
      partitionCount: () => this.#accumulator.partitionCount,
      onReady: this.#schedulePump,
      onBatchSizeLimit: (bytes) => (this.#accumulator.batchSizeLimitBytes = bytes),
      onMadeAnew: () => this.#offsets.begunAnew(),
      onPartitions: (count) => this.#repartition(count),
    })
    this.#deadLetters =
      options.openDeadLetters?.({ account: this.#account, onReady: this.#schedulePump }) ?? null
    this.#sender = options.openSender({
      stream,
      accumulator: this.#accumulator,
      account: this.#account,
      metadata,
      transport,
      offsets: this.#offsets,
      telemetry: {
        batchWritten: (sizeBytes, recordCount, queueTimeMs, nowMs) =>
          this.#batchWritten(sizeBytes, recordCount, queueTimeMs, nowMs),
        requestCompleted: (latencyMs) => this.#telemetry.requestCompleted(latencyMs),
      },
      logger,
      onReady: this.#schedulePump,
      rights: this.#topic.rights,
      heldFor: () => this.#heldFor,
      onConnection: (failure) => this.#topic.connected(failure),
      onRejected: (batch, errorCode) => this.#rejected(batch, errorCode),
      onRefused: (batch, refusal) => this.#refuse(batch, refusal),
    })
    this.#topic.follow()
    this.#lossLog = options.logsLosses === false ? null : new LossLog(stream.name, this.#account, logger)
    this.#secondTimer = setInterval(() => this.#everySecond(), secondMs).unref()
  }

  /** @inheritdoc */
  get maxRecordBytes(): number {
    return this.#topic.maxRecordBytes
  }

  /** @inheritdoc */
  get needsKey(): boolean {
    return this.#topic.needsKey
  }

  /** @inheritdoc */
  get admission(): ProducerAdmission {
    return this.#closing ? 'closing' : this.#topic.admission
  }

  /** Records could be appended at some time since the start. */
  get wasOpen(): boolean {
    return this.#topic.wasOpen
  }

  /** @inheritdoc */
  get obstacle(): Obstacle | null {
    return this.#closing ? null : this.#topic.obstacle
  }

  /** @inheritdoc */
  reserve(sizeBytes: number): boolean {
    return this.#memory.reserve(sizeBytes)
  }

  /** @inheritdoc */
  unreserve(sizeBytes: number): void {
    this.#memory.unreserve(sizeBytes)
  }

  /** @inheritdoc */
  async reserveOrWait(sizeBytes: number): Promise<boolean> {
    return await this.#memory.reserveOrWait(sizeBytes, this.stream.producer.maxBlockMs)
  }

  /** @inheritdoc */
  append(record: RecordBytes): PendingBatch {
    const chargedBytes = chargeOf(record, this.headerBytes)
    const batch = this.#accumulator.append(record, chargedBytes)
    this.#account.accept()
    return batch
  }

  /** From now on `journal` is told of each batch before the batch is first written. Without idempotent writes the journal gets nothing. */
  keepJournal(journal: BatchJournal): void {
    this.#sender.keepJournal(journal)
  }

  /**
   * Sends a batch of an earlier process again as it was, with its records, its partition and its identity. To be called while the
   * stream is open and before any record is appended.
   * @returns null if the batch cannot be the same any more, or belongs to another topic. Then the caller still holds the room of the batch.
   */
  resume(noted: ResumedBatch): PendingBatch | null {
    const batch = this.#sender.resume(noted)
    if (batch === null) return null
    const { partition, recordCount } = batch
    if (noted.firstHeaders !== null) this.#audit?.resume(partition, noted.firstHeaders, recordCount)
    for (let count = recordCount; count > 0; count--) this.#account.accept()
    batch.chargedBytes = Math.min(noted.chargedBytes, batch.sizeBytes)
    this.#memory.unreserve(noted.chargedBytes - batch.chargedBytes)
    this.#schedulePump()
    return batch
  }

  /** @inheritdoc */
  drop(count: number): void {
    this.#account.acceptAndDrop(count)
  }

  /** @inheritdoc */
  retryAfterSeconds(): number {
    return this.#memory.retryAfterSeconds
  }

  /** @inheritdoc */
  get stats(): ProducerStats {
    const account = this.#account
    return withRatios({
      stream: this.stream.name,
      topic: this.stream.topic,
      delivery: this.stream.delivery,
      accepted: account.accepted,
      recovered: 0,
      spooled: 0,
      buffered: account.buffered,
      inFlight: account.inFlight,
      confirmed: account.confirmed,
      sent: account.sent,
      suspectedLost: account.suspectedLost,
      acked: account.acked,
      deadLettered: account.deadLettered,
      dropped: { ...account.dropped },
      refused: { ...account.refused },
      possiblyRepeated: account.possiblyRepeated,
      recordSendTotal: account.recordSendTotal,
      recordErrorTotal: account.recordErrorTotal,
      localErrorTotal: account.localErrorTotal,
      recent: {
        ...account.recent,
        batches: this.#recentBatches.sum(),
        batchBytes: this.#recentBatchBytes.sum(),
      },
      bufferTotalBytes: this.#memory.totalBytes,
      bufferAvailableBytes: this.#memory.availableBytes,
      connected: this.#sender.isConnected,
      circuitOpen: this.#sender.isCircuitOpen,
      available: admissionTraits[this.admission].isAvailable,
      topicKnown: this.#topic.isEverKnown,
      confirmation: this.confirmation,
      lacking: this.lacking,
      logEndOffsets: [...this.#offsets],
      audit: this.#headers?.counts ?? [],
      spool: null,
    })
  }

  /** @inheritdoc */
  get confirmation(): ConfirmationMode {
    return this.#sender.confirmationMode
  }

  /** @inheritdoc */
  get lacking(): readonly string[] {
    return this.#sender.lacking
  }

  /** Room that is left in `buffer.memory`, in bytes. */
  get bufferAvailableBytes(): number {
    return this.#memory.availableBytes
  }

  /** A connection to a broker of the stream is open. */
  get isConnected(): boolean {
    return this.#sender.isConnected
  }

  /** The buffer has no room for a request of the size of the last one, and no broker drains it. Readiness goes by this. */
  get isFullAndStuck(): boolean {
    return this.#memory.isFull && !this.#sender.isConnected
  }

  /**
   * Takes no more records, sends the records that it has, and waits for their outcomes, until `deadlineMs` (by `performance.now()`) at
   * most. Then it drops the records that were not sent. Records that were sent and have no outcome are suspected lost.
   * @returns whether every record had its outcome in time.
   */
  async close(deadlineMs: number): Promise<boolean> {
    this.#closing = true
    this.#memory.close()
    this.#accumulator.flush()
    this.#sender.hurry()
    const leftMs = deadlineMs - performance.now()
    let drained = await this.#settledBy(deadlineMs - Math.min(lettersMs, leftMs / 2))
    if (!drained) {
      this.#deadLetters?.hurry()
      drained = await this.#settledBy(deadlineMs)
    }
    if (drained) await this.#handledBy(Math.min(deadlineMs, performance.now() + handledWithinMs))
    this.abort()
    return drained
  }

  /** Ends at once. Records that were not sent are dropped. Records that were sent and have no outcome are suspected lost. */
  abort(): void {
    this.#closing = true
    clearInterval(this.#secondTimer)
    this.#sender.stop()
    for (const batch of this.#accumulator.takeAll()) this.#account.settle(batch, 'dropped', 'shutdown')
    this.#deadLetters?.stop()
    this.#topic.stop()
  }

  readonly #schedulePump = (): void => {
    if (this.#pumpScheduled) return
    this.#pumpScheduled = true
    this.#turn.make(this.#pump)
  }

  readonly #pump = (): void => {
    this.#pumpScheduled = false
    if (this.needsKey && this.#accumulator.hasUnkeyed) this.#refuseUnkeyed()
    this.#sender.pump()
    if (this.#onSettledAll !== null && this.#account.buffered + this.#account.inFlight === 0)
      this.#onSettledAll()
  }

  #onSettledAll: (() => void) | null = null

  /** Waits until every record has its outcome. Each settlement is followed by a pump, and the pump notices the end. */
  async #settledBy(deadlineMs: number): Promise<boolean> {
    return await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.max(0, deadlineMs - performance.now()))
      this.#onSettledAll = () => {
        clearTimeout(timer)
        resolve(true)
      }
      this.#schedulePump()
    })
  }

  async #handledBy(deadlineMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.max(0, deadlineMs - performance.now()))
    })
    await Promise.race([this.#sender.handled(), limit])
    clearTimeout(timer)
  }

  #batchWritten(sizeBytes: number, recordCount: number, queueTimeMs: number, nowMs?: number): void {
    this.#recentBatches.add(1, nowMs)
    this.#recentBatchBytes.add(sizeBytes, nowMs)
    this.#telemetry.batchWritten(sizeBytes, recordCount, queueTimeMs, nowMs)
  }

  #rejected(batch: ProducerBatch, errorCode: number): void {
    this.#account.refuse(kafkaErrorName(errorCode), batch.recordCount)
    if (errorCode === kafkaErrors.invalidTimestamp)
      this.#lossLog?.clockRefused(this.stream.topic, batch.baseTimestampMs)
  }

  /** Records that were not sent go to the partitions that their keys have now. */
  #repartition(count: number): void {
    for (const batch of this.#accumulator.repartition(count, this.#sender.leave(count)))
      this.#account.movedOn(batch)
    this.#schedulePump()
  }

  /**
   * Refuses the records without a key that wait: the topic is compacted by now, and Kafka would refuse them. At most once, a refusal by
   * Kafka ends the connection, and costs the other records on it.
   */
  #refuseUnkeyed(): void {
    const errorCode = kafkaErrors.invalidRecord
    const refusal = { reason: dropReasonOf(errorCode), errorCode, mayBeStored: false }
    for (const batch of this.#accumulator.takeUnkeyed()) this.#refuse(batch, refusal)
  }

  #refuse(batch: ProducerBatch, refusal: Refusal): void {
    if (this.#deadLetters !== null) this.#deadLetters.take(batch, refusal)
    else if (refusal.mayBeStored) this.#account.settle(batch, 'suspected_lost')
    else this.#account.settle(batch, 'dropped', refusal.reason)
  }

  /** See `SenderOptions.heldFor`. */
  get #heldFor(): number | null {
    return this.#deadLetters === null ? null : this.#topic.heldFor
  }

  #everySecond(): void {
    const nowMs = performance.now()
    this.#sender.everySecond(nowMs)
    // What waits behind a batch that waits for an operator becomes a dead letter as that one does.
    const errorCode = this.#heldFor
    for (const batch of this.#accumulator.takeExpired(nowMs, this.stream.producer.deliveryTimeoutMs)) {
      if (errorCode === null) this.#account.settle(batch, 'dropped', 'expired')
      else this.#refuse(batch, { reason: dropReasonOf(errorCode), errorCode, mayBeStored: false })
    }
    if (!this.#closing) this.#topic.everySecond()
    this.#lossLog?.everySecond(nowMs)
    this.#deadLetters?.everySecond(nowMs)
    this.#schedulePump()
  }
}

/** See {@link StreamProducer}. */
export interface StreamProducerOptions {
  readonly stream: StreamConfig
  readonly metadata: ClusterMetadata
  readonly transport: Transport
  readonly telemetry: ProducerTelemetry
  readonly buffers: BufferPool
  readonly logger: Logger
  /** When the producer writes: once a turn, together with other producers. */
  readonly turn: TurnEnd
  /** When batches have lingered. Streams that share them write in the same turns. */
  readonly clocks: LingerClocks
  /** Gives records their headers. Left out: the stream's configuration says which headers they get. */
  readonly headers?: RecordHeaders
  /** The memory that the topics of a stream share. Left out: `buffer.memory` is the producer's own. */
  readonly memory?: BufferMemory
  /** Makes the sender of the stream's delivery. */
  readonly openSender: (options: SenderOptions) => Sender
  /** Opens the place for batches that Kafka refuses for good. Left out: such batches are dropped. */
  readonly openDeadLetters?: (options: DeadLetterQueueOptions) => DeadLetterQueue
  /** False: somebody else tells what became of the records, as `DeadLetters` does. */
  readonly logsLosses?: boolean
}

/** What a {@link DeadLetterQueue} gets of its stream. */
export interface DeadLetterQueueOptions {
  readonly account: Account
  /** A batch got its outcome. */
  readonly onReady: () => void
}

/**
 * How long a batch lingers while a client waits for its outcome, in milliseconds. At most once, a write does not wait for another one. At
 * least once, a partition has one batch in flight. If a batch leaves early, the records behind it wait for its round trip. So the batch
 * lingers for about as long as a round trip takes.
 */
const awaitedLingerMs = { 'at-most-once': 0, 'at-least-once': 1 } satisfies Record<Delivery, number>

const secondMs = 1_000
/** A broker that takes longer than this to handle what it has is not waited for: others wait for the end, too. */
const handledWithinMs = 1_000
/** The part of the time to drain in which dead letters that have not reached their topic are written to the file. At most half of the time. */
const lettersMs = 1_000
