import { BrokerSession } from './broker-session.ts'
import type { BrokerAddress } from './cluster-metadata.ts'
import { isStaleMetadata, kafkaErrorName, kafkaErrors, mayBeStored } from './kafka-error.ts'
import type { LogEndOffsets } from './log-end-offsets.ts'
import type { DropReason } from './outcome.ts'
import type { Account } from './account.ts'
import type { Logger, ProducerTelemetry } from './producer.ts'
import type { RecordBatch } from './record-batch.ts'
import {
  decodeListOffsets,
  decodeProduce,
  encodeListOffsets,
  encodeProduce,
  type ProduceResult,
} from './requests.ts'
import type { BrokerConnection, Transport } from './transport.ts'
import type { ProducerConfig } from '../../config/config.ts'

/**
 * The way of one at-most-once stream to one broker. A batch is written once or never: what was written and is not known to
 * have arrived when the connection ends is suspected lost and is not sent again.
 *
 * After each connect, and before anything is risked: ListOffsets tells which partitions are online here (the broker closes
 * an acks=0 connection on any error, and everything behind the error is lost), and the first batches go with acks=1, one
 * request at a time, until one is stored. From then on they go with acks=0, and every `confirm.interval.ms` a barrier goes
 * after them: a broker serves one connection in order, so the answer to any request confirms every write before it. The
 * barrier is a ListOffsets request. It needs no batch to ride on, so the last batch before a silence is confirmed too.
 */
export class AtMostOnceLink {
  readonly nodeId: number
  readonly #options: AtMostOnceLinkOptions
  readonly #session: BrokerSession
  /** Partitions that this broker leads, as far as is known. */
  #assigned = new Set<number>()
  /** Of these, the ones that it said are online, on this connection. */
  readonly #online = new Set<number>()
  /** acks=0 writes without an outcome, in the order of writing. */
  #unconfirmed: RecordBatch[][] = []
  /** Writes that will be answered. */
  readonly #unanswered = new Set<RecordBatch[]>()
  /** A write was stored since the connection was made. */
  #trusted = false
  #probing = false
  #probeTimer: NodeJS.Timeout | null = null
  #barrierTimer: NodeJS.Timeout | null = null
  #barrierSentAtMs: number | null = null
  #lastBarrierAtMs = -Infinity
  /** Smoothed time of a barrier's round trip, in milliseconds. */
  #roundTripMs = 0
  #hurried = false
  /** Nothing is written before: the broker said that it takes nothing from us. */
  #pausedUntilMs = 0

  constructor(nodeId: number, options: AtMostOnceLinkOptions) {
    this.nodeId = nodeId
    this.#options = options
    this.#session = new BrokerSession({
      transport: options.transport,
      requestTimeoutMs: options.config.requestTimeoutMs,
      address: options.address,
      onUp: (connection) => this.#up(connection),
      onDown: (cause) => this.#down(cause),
    })
  }

  /** The connection is open. */
  get isConnected(): boolean {
    return this.#session.connection !== null
  }

  /** The circuit breaker holds the next try to connect back. */
  get isCircuitOpen(): boolean {
    return this.#session.isCircuitOpen
  }

  /** Something was written here and has no outcome yet. */
  get hasPending(): boolean {
    return this.#unconfirmed.length > 0 || this.#unanswered.size > 0
  }

  /** Sets which partitions the broker leads; those that are new here are looked at before anything is written to them. */
  assign(partitions: readonly number[]): void {
    this.#assigned = new Set(partitions)
    for (const partition of this.#online) if (!this.#assigned.has(partition)) this.#online.delete(partition)
    this.#probe()
  }

  /** The broker leads the partition and said so on this connection. */
  isOnline(partition: number): boolean {
    return this.#online.has(partition)
  }

  /** Another request may be written now. */
  canWrite(nowMs: number): boolean {
    const { connection } = this.#session
    if (connection === null || connection.pendingBytes > socketHighWaterBytes || connection.isExpiring)
      return false
    if (nowMs < this.#pausedUntilMs) return false
    const { acks, maxInFlight } = this.#options.config
    if (acks === 0 && !this.#trusted) return this.#unanswered.size === 0
    return this.#unconfirmed.length + this.#unanswered.size < maxInFlight && !this.#isBarrierLate(nowMs)
  }

  /** Writes batches, at most one a partition. Only after {@link canWrite} and {@link isOnline}. */
  write(batches: RecordBatch[]): void {
    const connection = this.#session.connection!
    const { topic, config, account, offsets, telemetry } = this.#options
    const nowMs = performance.now()
    const acks = config.acks === 0 && !this.#trusted ? 1 : config.acks
    const request = encodeProduce(topic, acks, config.requestTimeoutMs, batches)
    for (const batch of batches) {
      account.written(batch)
      offsets.written(batch.partition, batch.recordCount)
      telemetry.batchWritten(batch.sizeBytes, batch.recordCount, nowMs - batch.createdAtMs)
    }
    if (acks === 0) this.#writeUnanswered(connection, request, batches, nowMs)
    else this.#writeAnswered(connection, request, batches, nowMs)
  }

  /**
   * Is called every second. Looks at the log end offsets where something was written, and opens a new connection in the
   * place of one that would have to authenticate again, once nothing is pending on it.
   */
  tend(): void {
    const { connection } = this.#session
    if (connection === null) return
    if (!connection.isExpiring) this.#look(connection)
    else if (!this.hasPending) this.#session.fail(new Error('the SASL session expires'))
  }

  /** From now on a barrier follows each write at once: the stream is shutting down. */
  hurry(): void {
    this.#hurried = true
    this.#scheduleBarrier()
  }

  /** Ends the connection for good. What was written and not confirmed is suspected lost. */
  stop(cause: Error): void {
    this.#session.stop(cause)
  }

  #writeUnanswered(
    connection: BrokerConnection,
    request: ReturnType<typeof encodeProduce>,
    batches: RecordBatch[],
    nowMs: number,
  ): void {
    const { account, config, telemetry, onWritable } = this.#options
    this.#unconfirmed.push(batches)
    connection.send(request, () => {
      telemetry.requestCompleted(performance.now() - nowMs)
      for (const batch of batches) if (batch.state === 'written') batch.release()
      if (config.confirmIntervalMs !== null || this.#unconfirmed[0] !== batches) return
      // Without confirmation this is the last that can be said of them.
      this.#unconfirmed.shift()
      for (const batch of batches) account.settle(batch, 'sent')
      onWritable()
    })
    if (this.#unconfirmed.length >= config.maxInFlight) this.#sendBarrier()
    else this.#scheduleBarrier()
  }

  #writeAnswered(
    connection: BrokerConnection,
    request: ReturnType<typeof encodeProduce>,
    batches: RecordBatch[],
    nowMs: number,
  ): void {
    this.#unanswered.add(batches)
    connection.call(
      request,
      (payload) => {
        this.#options.telemetry.requestCompleted(performance.now() - nowMs)
        if (!this.#unanswered.delete(batches)) return
        const { results, throttleTimeMs } = decodeProduce(payload)
        connection.throttle(throttleTimeMs)
        this.#settleAnswered(batches, results)
        this.#options.onWritable()
      },
      (error) => connection.destroy(error),
    )
  }

  #settleAnswered(batches: readonly RecordBatch[], results: readonly ProduceResult[]): void {
    const { account } = this.#options
    const byPartition = new Map(results.map((result) => [result.partition, result]))
    for (const batch of batches) {
      const result = byPartition.get(batch.partition)
      if (result === undefined) {
        account.settle(batch, 'suspected_lost')
      } else if (result.errorCode === kafkaErrors.none) {
        this.#trust()
        account.settle(batch, 'confirmed', null, result.baseOffset)
      } else {
        this.#rejected(batch, result.errorCode)
      }
    }
  }

  /** The broker said no; at most once, the batch is not sent again all the same. */
  #rejected(batch: RecordBatch, errorCode: number): void {
    const { account, logger, topic, onStale, onForbidden } = this.#options
    if (mayBeStored(errorCode)) account.settle(batch, 'suspected_lost')
    else account.settle(batch, 'dropped', dropReasonOf(errorCode))
    const fields = {
      topic,
      partition: batch.partition,
      records: batch.recordCount,
      kafkaError: kafkaErrorName(errorCode),
    }
    logger.debug(fields, 'the broker refused a batch')
    if (isStaleMetadata(errorCode)) this.#offline(batch.partition)
    if (errorCode === kafkaErrors.topicAuthorizationFailed) {
      this.#pausedUntilMs = performance.now() + refusedPauseMs
      onForbidden()
    }
    onStale()
  }

  #trust(): void {
    if (this.#trusted) return
    this.#trusted = true
    this.#session.succeeded()
  }

  #up(connection: BrokerConnection): void {
    connection.onDrain(this.#options.onWritable)
    this.#probe()
    this.#options.onUp(this)
  }

  #down(cause: Error): void {
    const { account } = this.#options
    this.#trusted = false
    this.#probing = false
    this.#online.clear()
    for (const timer of [this.#probeTimer, this.#barrierTimer]) if (timer !== null) clearTimeout(timer)
    this.#probeTimer = this.#barrierTimer = null
    this.#barrierSentAtMs = null
    const suspects = [...this.#unconfirmed, ...this.#unanswered]
    this.#unconfirmed = []
    this.#unanswered.clear()
    let records = 0
    for (const batches of suspects) {
      for (const batch of batches) {
        records += batch.recordCount
        account.settle(batch, 'suspected_lost')
      }
    }
    this.#options.onDown(this, cause, records)
  }

  /** Asks which of the partitions are online here that are not known to be. */
  #probe(): void {
    const { connection } = this.#session
    const { topic, offsets, onWritable } = this.#options
    const asked = [...this.#assigned].filter((partition) => !this.#online.has(partition))
    if (connection === null || this.#probing || asked.length === 0) return
    if (this.#probeTimer !== null) clearTimeout(this.#probeTimer)
    this.#probeTimer = null
    this.#probing = true
    const written = asked.map((partition) => offsets.writtenTo(partition))
    connection.call(
      encodeListOffsets(topic, asked),
      (payload) => {
        this.#probing = false
        for (const found of decodeListOffsets(payload)) {
          if (found.errorCode !== kafkaErrors.none) continue
          offsets.observe(found.partition, found.logEndOffset, written[asked.indexOf(found.partition)]!)
          if (this.#assigned.has(found.partition)) this.#online.add(found.partition)
        }
        const missing = [...this.#assigned].filter((partition) => !this.#online.has(partition))
        // What was assigned in the meantime was not asked about.
        if (missing.some((partition) => !asked.includes(partition))) this.#probe()
        else if (missing.length > 0) this.#probeLater()
        onWritable()
      },
      (error) => connection.destroy(error),
    )
  }

  #probeLater(): void {
    this.#options.onStale()
    this.#probeTimer ??= setTimeout(() => {
      this.#probeTimer = null
      this.#probe()
    }, probeIntervalMs)
  }

  #offline(partition: number): void {
    if (this.#online.delete(partition)) this.#probeLater()
  }

  #scheduleBarrier(): void {
    const { confirmIntervalMs } = this.#options.config
    if (confirmIntervalMs === null || this.#barrierSentAtMs !== null || this.#unconfirmed.length === 0) return
    if (this.#hurried) {
      this.#sendBarrier()
    } else if (this.#barrierTimer === null) {
      const dueInMs = this.#lastBarrierAtMs + confirmIntervalMs - performance.now()
      this.#barrierTimer = setTimeout(
        () => this.#sendBarrier(),
        Math.max(1, Math.min(dueInMs, confirmIntervalMs)),
      )
    }
  }

  #sendBarrier(): void {
    const { connection } = this.#session
    const { topic, config, onWritable } = this.#options
    if (config.confirmIntervalMs === null || this.#barrierSentAtMs !== null || connection === null) return
    if (this.#barrierTimer !== null) clearTimeout(this.#barrierTimer)
    this.#barrierTimer = null
    const sentAtMs = performance.now()
    const covered = this.#unconfirmed.length
    const partition = this.#unconfirmed.at(-1)?.[0]?.partition ?? 0
    this.#barrierSentAtMs = this.#lastBarrierAtMs = sentAtMs
    connection.call(
      encodeListOffsets(topic, [partition]),
      (payload) => {
        this.#barrierSentAtMs = null
        const tookMs = performance.now() - sentAtMs
        this.#roundTripMs = this.#roundTripMs === 0 ? tookMs : this.#roundTripMs * 0.8 + tookMs * 0.2
        for (const batches of this.#unconfirmed.splice(0, covered)) {
          for (const batch of batches) this.#options.account.settle(batch, 'confirmed')
        }
        for (const { errorCode } of decodeListOffsets(payload)) {
          if (isStaleMetadata(errorCode)) this.#offline(partition)
        }
        this.#scheduleBarrier()
        onWritable()
      },
      (error) => connection.destroy(error),
    )
  }

  /** The loss that the log shows, and a leader that moved without our notice. */
  #look(connection: BrokerConnection): void {
    const { topic, offsets } = this.#options
    const asked = [...this.#online].filter((partition) => offsets.isBehind(partition))
    if (asked.length === 0 || this.#probing) return
    const written = asked.map((partition) => offsets.writtenTo(partition))
    connection.call(
      encodeListOffsets(topic, asked),
      (payload) => {
        for (const { partition, errorCode, logEndOffset } of decodeListOffsets(payload)) {
          if (errorCode === kafkaErrors.none)
            offsets.observe(partition, logEndOffset, written[asked.indexOf(partition)]!)
          else if (isStaleMetadata(errorCode)) this.#offline(partition)
        }
      },
      (error) => connection.destroy(error),
    )
  }

  /**
   * While a barrier is overdue, writing pauses: what is not confirmed, and so what a broker that dies can take along, stays
   * at what two intervals carry.
   */
  #isBarrierLate(nowMs: number): boolean {
    const { confirmIntervalMs } = this.#options.config
    if (confirmIntervalMs === null || this.#barrierSentAtMs === null) return false
    return nowMs - this.#barrierSentAtMs > confirmIntervalMs + 2 * this.#roundTripMs
  }
}

/** See {@link AtMostOnceLink}. */
export interface AtMostOnceLinkOptions {
  readonly topic: string
  readonly config: ProducerConfig
  readonly transport: Transport
  readonly account: Account
  readonly offsets: LogEndOffsets
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  readonly address: () => BrokerAddress | null
  /** Something that kept batches from being written is gone. */
  readonly onWritable: () => void
  /** The broker does not lead what it was thought to lead. */
  readonly onStale: () => void
  /** The credentials may not write to the topic. */
  readonly onForbidden: () => void
  readonly onUp: (link: AtMostOnceLink) => void
  /** The connection ended, or could not be made; `suspectedRecords` were settled as suspected lost. */
  readonly onDown: (link: AtMostOnceLink, cause: Error, suspectedRecords: number) => void
}

/** What the broker's word means for the batch's outcome. */
export function dropReasonOf(errorCode: number): DropReason {
  switch (errorCode) {
    case kafkaErrors.messageTooLarge:
    case kafkaErrors.recordListTooLarge:
      return 'message_too_large'
    case kafkaErrors.unknownTopicOrPartition:
      return 'unknown_topic'
    case kafkaErrors.topicAuthorizationFailed:
    case kafkaErrors.clusterAuthorizationFailed:
      return 'not_authorized'
    default:
      return 'broker_rejected'
  }
}

/** Enough to keep the kernel busy; more would only be more to lose. */
const socketHighWaterBytes = 1 << 20
const probeIntervalMs = 100
const refusedPauseMs = 1_000
