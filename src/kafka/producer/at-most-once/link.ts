import type { Account } from '../account.ts'
import { BrokerSession } from '../../network/broker-session.ts'
import type { BrokerAddress } from '../../network/cluster-metadata.ts'
import { configuredMode, fallbackOf, type ConfirmationMode } from '../outcome.ts'
import type { LeaderLink } from '../../network/leader-links.ts'
import { Confirmation } from './confirmation.ts'
import type { WireRequest } from '../../protocol/wire.ts'
import { AnsweredWrites } from './answered-writes.ts'
import { LinkLog } from './link-log.ts'
import { UnconfirmedWrites } from './unconfirmed-writes.ts'
import { QuotaCare } from './quota-care.ts'
import type { LogEndOffsets } from '../log-end-offsets.ts'
import { OnlinePartitions } from './online-partitions.ts'
import type { Logger } from '../../../logger.ts'
import type { ProducerTelemetry } from '../producer.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import { isUnauthorized } from '../../protocol/kafka-error.ts'
import { encodeMetadata, encodeProduce } from '../../protocol/requests.ts'
import { responseTo, type BrokerConnection } from '../../network/transport.ts'
import type { TopicTransport } from '../../network/shared-connections.ts'
import { askToWrite, type WriteRights } from '../../network/write-rights.ts'
import type { ProducerConfig } from '../../../config/config.ts'

/**
 * The way of one at-most-once stream to one broker. A batch is written once or never. A batch that was written is suspected lost, and is
 * not sent again, if the connection ends before the batch is known to have arrived.
 *
 * A broker closes an acks=0 connection on any error, and everything behind the error is lost. So each connection begins with care.
 * `online-partitions.ts` asks which partitions are online here. Then the first batches go with acks=1, one request at a time, until one of
 * them is stored. The next batches go with acks=0, and `confirmation.ts` finds out which of them arrived. If the broker does not let it
 * find that out, all batches go with acks=1, many requests at a time. A stream that is set to acks=1 or acks=all writes with that instead.
 */
export class AtMostOnceLink implements LeaderLink {
  readonly #options: AtMostOnceLinkOptions
  readonly #session: BrokerSession
  readonly #online: OnlinePartitions
  /** null with `confirm: off`, and with acks=all, where the answer to a write says that all in-sync replicas have it. */
  readonly #confirmation: Confirmation | null
  readonly #answered: AnsweredWrites
  readonly #quota: QuotaCare
  /** Used with `confirm: off` and acks=0 only. */
  readonly #unconfirmed: UnconfirmedWrites
  readonly #log: LinkLog
  /** The address of the last connection. */
  #address: BrokerAddress | null = null
  /** A write was stored since the connection was made. */
  #trusted = false
  /** The last connection ended with unconfirmed batches. A missing right to write is one of the possible causes. */
  #wasCut = false
  /** The broker was asked over this connection whether the topic may be written to. Nothing is written before the answer. */
  #isAsking = false

  constructor(nodeId: number, options: AtMostOnceLinkOptions) {
    this.#options = options
    const { topic, config, account, offsets, onReady, onStale } = options
    this.#quota = new QuotaCare(onReady)
    this.#unconfirmed = new UnconfirmedWrites(account)
    this.#log = new LinkLog(options.logger, topic, nodeId)
    this.#answered = new AnsweredWrites({
      topic,
      acks: options.config.acks,
      account,
      telemetry: options.telemetry,
      logger: options.logger,
      rights: options.rights,
      onStored: (batch, baseOffset) => this.#stored(batch, baseOffset),
      onRejected: (batch, errorCode) => {
        options.transport.refused(errorCode)
        options.onRejected(batch, errorCode)
      },
      onNotLed: (partition) => this.#online.lost(partition),
      onStale,
      onBadContent: options.onBadContent,
      onThrottled: (connection, throttleTimeMs) => this.#quota.throttle(connection, throttleTimeMs),
      onAnswered: () => {
        this.#handOver()
        onReady()
      },
    })
    this.#online = new OnlinePartitions({
      topic,
      offsets,
      onReady,
      onStale,
      onOnline: (answer) => this.#confirmation?.found(answer),
    })
    this.#confirmation =
      config.confirmIntervalMs === null || config.acks === -1
        ? null
        : new Confirmation({
            topic,
            intervalMs: config.confirmIntervalMs,
            deliveryTimeoutMs: config.deliveryTimeoutMs,
            account,
            onAnswered: (tookMs) => {
              this.#quota.barrierTook(this.#session.connection, tookMs)
              this.#handOver()
              onReady()
            },
            onStale: (partition) => this.#online.lost(partition),
            isReplicated: options.isReplicated,
            onNoLogEnd: () => this.#log.noLogEnd(options.address()),
            onStandstill: options.onStale,
          })
    this.#session = new BrokerSession({
      transport: options.transport,
      requestTimeoutMs: config.requestTimeoutMs,
      needs: ['Produce', 'ListOffsets', 'Metadata'],
      address: options.address,
      onUp: (connection) => this.#up(connection),
      onNext: () => this.#handOver(),
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

  /** See {@link BrokerSession.lacking}. */
  get lacking(): string | null {
    return this.#session.lacking
  }

  /** Something was written here and has no outcome yet. */
  get hasPending(): boolean {
    return this.#confirmation?.hasPending === true || this.#unconfirmed.count > 0 || this.#answered.count > 0
  }

  /** @inheritdoc A partition that is new here gets no writes before the broker has answered that the partition is online. */
  assign(partitions: readonly number[]): void {
    this.#session.follow()
    this.#online.assign(partitions)
  }

  /** The broker leads the partition and said so on this connection. */
  isOnline(partition: number): boolean {
    return this.#online.has(partition)
  }

  /** Another request may be written now. */
  canWrite(nowMs: number): boolean {
    const { connection } = this.#session
    if (connection === null || !connection.askForRoom()) return false
    if (this.#isAsking || this.#session.isHandingOver || this.#quota.isThrottled) return false
    const { acks, maxInFlight } = this.#options.config
    if (this.#confirmation?.isChangingToAnswers === true) return false
    if (acks === 0 && (!this.#trusted || this.#quota.isCareful(nowMs))) return this.#inFlight === 0
    return this.#inFlight < maxInFlight && !this.#isLate(nowMs)
  }

  /** The partition's replicas stand still, so its batches wait in the buffer. */
  isHeldBack(partition: number): boolean {
    return this.#confirmation?.isHeldBack(partition) === true
  }

  /** How the outcomes of writes to this broker are found out. */
  get confirmationMode(): ConfirmationMode {
    const mode = configuredMode(this.#options.config)
    return this.#trusted && this.#confirmation?.needsAnswers === true ? fallbackOf(mode) : mode
  }

  /**
   * A batch whose outcome a client waits for need not linger. A write does not hold up another one here, so a small batch costs only its
   * own handling. At most one batch a round trip leaves early, which bounds that cost.
   */
  get hurriesAwaited(): boolean {
    return this.#confirmation === null ? this.#inFlight === 0 : !this.#confirmation.isBarrierOut
  }

  /** The broker is away, or takes longer to answer than it should. */
  isSilent(nowMs: number): boolean {
    return this.#session.connection === null || this.#isLate(nowMs)
  }

  /** How long the broker usually takes to answer, in milliseconds; 0 before its first answer. */
  get usualAnswerMs(): number {
    return this.#confirmation?.roundTripMs ?? this.#answered.usualMs
  }

  /** Another request may be written now, to some partition. */
  isUsable(nowMs: number): boolean {
    return this.#online.hasAny && this.canWrite(nowMs)
  }

  /**
   * The broker has owed an answer for longer than a healthy broker takes. Records that can go to another broker go there.
   * @param usualAnswerMs the usual time of the quickest broker.
   */
  isBehind(nowMs: number, usualAnswerMs: number): boolean {
    const owedSinceMs = Math.min(this.#answered.oldestAtMs ?? nowMs, this.#confirmation?.owedSinceMs ?? nowMs)
    const graceMs = this.#options.config.confirmIntervalMs ?? answerGraceMs
    return nowMs - owedSinceMs > graceMs + 2 * usualAnswerMs
  }

  /** Writes batches, at most one a partition. To be called only where {@link canWrite} and {@link isOnline} are true. */
  write(batches: ProducerBatch[]): void {
    const connection = this.#session.connection!
    const { topic, config, account, offsets, telemetry } = this.#options
    const nowMs = performance.now()
    const acks = config.acks === 0 && (this.#needsAnswers || this.#quota.isCareful(nowMs)) ? 1 : config.acks
    const request = encodeProduce(topic, acks, config.requestTimeoutMs, batches)
    for (const batch of batches) {
      account.written(batch, nowMs)
      batch.writtenAtMs = nowMs
      offsets.written(batch.partition, batch.recordCount)
      telemetry.batchWritten(batch.sizeBytes, batch.recordCount, nowMs - batch.createdAtMs, nowMs)
    }
    this.#unconfirmed.forgetDrain()
    if (acks === 0) this.#writeUnanswered(connection, request, batches, nowMs)
    else {
      this.#answered.write(connection, request, batches)
      if (config.acks === 0) this.#confirmation?.writtenForAnswer(batches)
    }
  }

  /** Is called every second. Looks at the log end offsets where something was written. */
  everySecond(nowMs: number): void {
    this.#confirmation?.everySecond(nowMs)
    this.#log.standstill(this.#confirmation?.standingFor(standstillLoggedAfterMs, nowMs) ?? [])
    this.#session.everySecond(nowMs)
    const { connection } = this.#session
    if (connection === null) return
    // A broker that answers the high watermark in place of the log's end makes lagging replicas look like loss, while writes are pending.
    const isLookTrue = this.#confirmation?.needsAnswers !== true || !this.hasPending
    this.#ask(connection)
    this.#handOver()
    if (isLookTrue) this.#online.look()
  }

  /** From now on a barrier goes right behind each write: the stream is shutting down. */
  hurry(): void {
    this.#confirmation?.hurry()
  }

  /**
   * Resolves when the broker has handled all that the kernel was given. Where outcomes are confirmed, the last outcome shows it: only
   * `confirm: off` has to ask. At the end of a connection the kernel throws away what the broker has not got.
   */
  async handled(): Promise<void> {
    const { connection } = this.#session
    if (connection === null || this.#confirmation !== null || this.#options.config.acks !== 0) return
    // After an error there is no connection to wait for.
    await responseTo(connection, encodeMetadata([])).catch(() => {})
  }

  /** Ends the connection for good. Batches that were written and not confirmed are suspected lost. */
  stop(cause: Error): void {
    this.#session.stop(cause)
  }

  /** Produce requests that were written and have no answer, and that no barrier's answer covers. */
  get #inFlight(): number {
    return (this.#confirmation?.uncoveredWrites ?? this.#unconfirmed.count) + this.#answered.count
  }

  /** Writes need answers before the connection is trusted, and where no barrier could tell what became of a write. */
  get #needsAnswers(): boolean {
    return !this.#trusted || this.#confirmation?.needsAnswers === true
  }

  /** A barrier is overdue, or the answer to a write which takes the place of a barrier. */
  #isLate(nowMs: number): boolean {
    const confirmation = this.#confirmation
    if (confirmation === null) return false
    if (confirmation.isLate(nowMs)) return true
    const { acks, confirmIntervalMs } = this.#options.config
    const { oldestAtMs, usualMs } = this.#answered
    if (acks !== 0 || oldestAtMs === null) return false
    return nowMs - oldestAtMs > confirmIntervalMs! + 2 * Math.max(usualMs, confirmation.roundTripMs)
  }

  #writeUnanswered(
    connection: BrokerConnection,
    request: WireRequest,
    batches: ProducerBatch[],
    nowMs: number,
  ): void {
    const { config, telemetry } = this.#options
    const confirmation = this.#confirmation
    if (confirmation === null) this.#unconfirmed.written(batches)
    connection.send(request, () => {
      telemetry.requestCompleted(performance.now() - nowMs)
      for (const batch of batches) if (batch.state === 'written') batch.release()
      if (confirmation !== null || !this.#unconfirmed.flushed(batches)) return
      this.#handOver()
      this.#options.onReady()
    })
    confirmation?.written(batches)
    if (this.#inFlight >= config.maxInFlight) confirmation?.sendBarrier()
  }

  /** The leader has the batch, from `baseOffset` on. */
  #stored(batch: ProducerBatch, baseOffset: bigint): void {
    if (!this.#trusted) this.#session.succeeded()
    this.#trusted = true
    if (this.#confirmation === null) this.#options.account.settle(batch, 'confirmed', null, baseOffset)
    else this.#confirmation.appended(batch, baseOffset)
  }

  /**
   * One step of the change to the next connection, if there is one. Nothing is written until the broker has handled everything that is on
   * the old connection. So the order holds, and no batch is in doubt. Batches that wait for replicas keep waiting, and barriers of the next
   * connection ask about them.
   */
  #handOver(): void {
    const session = this.#session
    if (!session.isHandingOver || this.#unconfirmed.isDraining) return
    const confirmation = this.#confirmation
    if (this.#isAsking || this.#answered.count > 0 || this.#unconfirmed.count > 0) return
    if (confirmation !== null && confirmation.uncoveredWrites > 0) return confirmation.sendBarrier()
    // Every write has been answered, or a barrier covers it. So the broker has nothing left to handle.
    if (confirmation !== null || this.#options.config.acks !== 0) return this.#swap()
    this.#unconfirmed.drain(session.connection!, () => {
      // The next connection may have ended by now. Then the one after it is handed over to later.
      if (session.isHandingOver) this.#swap()
    })
  }

  #swap(): void {
    const { old, connection } = this.#session.handOver()
    this.#online.detach()
    this.#attach(connection)
    old.destroy(new Error('another connection took its place'))
    this.#options.onReady()
  }

  #attach(connection: BrokerConnection): void {
    this.#quota.attach(connection)
    connection.onDrain(this.#options.onReady)
    const { host, port } = this.#session.address!
    const isElsewhere = this.#address !== null && (this.#address.host !== host || this.#address.port !== port)
    this.#address = { host, port }
    this.#confirmation?.attach(connection, isElsewhere)
    this.#online.attach(connection)
  }

  #up(connection: BrokerConnection): void {
    this.#attach(connection)
    if (this.#wasCut) this.#askFirst(connection)
    else this.#ask(connection)
    this.#options.onUp()
  }

  /** Asks the broker about the right to write, if metadata has not told. */
  #ask(connection: BrokerConnection): void {
    const partition = this.#online.anyAssigned
    if (partition !== null) this.#options.rights.ask(connection, partition)
  }

  /** Asks the broker about the right to write, whatever is known: the right may have been taken away. No record is risked to find out. */
  #askFirst(connection: BrokerConnection): void {
    const { topic, rights, onReady } = this.#options
    const partition = this.#online.anyAssigned
    if (partition === null) return
    this.#isAsking = true
    askToWrite(connection, topic, partition, (errorCode) => {
      // The connection ended before the answer.
      if (errorCode === null) return
      this.#isAsking = false
      if (isUnauthorized(errorCode)) this.#options.transport.refused(errorCode)
      rights.answered(errorCode)
      this.#handOver()
      onReady()
    })
  }

  #down(cause: Error): void {
    this.#trusted = false
    this.#online.detach()
    const unknown = [
      ...(this.#confirmation?.detach() ?? []),
      ...this.#unconfirmed.takeAll(),
      ...this.#answered.takeAll(),
    ]
    // A broker that ends the connection over this question is not asked again.
    this.#wasCut = unknown.length > 0 && !this.#isAsking
    this.#isAsking = false
    let records = 0
    for (const batch of unknown) {
      records += batch.recordCount
      this.#options.account.settle(batch, 'suspected_lost')
    }
    this.#options.onDown(cause, records)
  }
}

/** See {@link AtMostOnceLink}. */
export interface AtMostOnceLinkOptions {
  readonly topic: string
  readonly config: ProducerConfig
  readonly transport: TopicTransport
  readonly account: Account
  readonly offsets: LogEndOffsets
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  readonly address: () => BrokerAddress | null
  /** See `SenderOptions.onReady`. */
  readonly onReady: () => void
  /** Partitions of the topic have more than one replica. */
  readonly isReplicated: () => boolean
  /** The broker may not lead its partitions any more. */
  readonly onStale: () => void
  /** The topic's size limit may be lower than was known, or the topic may be compacted by now. */
  readonly onBadContent: () => void
  readonly rights: WriteRights
  /** See `SenderOptions.onRejected`. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  readonly onUp: () => void
  /** The connection ended, or could not be made. `suspectedRecords` records were settled as suspected lost. */
  readonly onDown: (cause: Error, suspectedRecords: number) => void
}

const standstillLoggedAfterMs = 5_000
/** With `confirm: off`, added to twice the usual time of an answer. It is the default of `confirm.interval.ms`. */
const answerGraceMs = 20
