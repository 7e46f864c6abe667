import type { Account } from '../account.ts'
import { BrokerSession } from '../../network/broker-session.ts'
import type { BrokerAddress } from '../../network/cluster-metadata.ts'
import { configuredMode, type ConfirmationMode, dropReasonOf } from '../outcome.ts'
import type { LeaderLink } from '../../network/leader-links.ts'
import { Confirmation } from './confirmation.ts'
import {
  isBadContent,
  isStaleMetadata,
  isUnauthorized,
  kafkaErrorName,
  kafkaErrors,
  mayBeStored,
} from '../../protocol/kafka-error.ts'
import type { LogEndOffsets } from '../log-end-offsets.ts'
import { OnlinePartitions } from './online-partitions.ts'
import type { Logger } from '../../../logger.ts'
import type { ProducerTelemetry } from '../producer.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import { decodeProduce, encodeMetadata, encodeProduce, type ProduceResult } from '../../protocol/requests.ts'
import type { BrokerConnection, Transport } from '../../network/transport.ts'
import { askToWrite, type WriteRights } from '../../network/write-rights.ts'
import type { ProducerConfig } from '../../../config/config.ts'

/**
 * The way of one at-most-once stream to one broker. A batch is written once or never: what was written and is not known to
 * have arrived when the connection ends is suspected lost and is not sent again.
 *
 * After each connect, and before anything is risked: `online-partitions.ts` asks which partitions are online here (the broker
 * closes an acks=0 connection on any error, and everything behind the error is lost), and the first batches go with acks=1,
 * one request at a time, until one is stored. From then on they go with acks=0, and `confirmation.ts` finds out what arrived;
 * where it cannot, they go on with acks=1, many at a time.
 */
export class AtMostOnceLink implements LeaderLink {
  readonly nodeId: number
  readonly #options: AtMostOnceLinkOptions
  readonly #session: BrokerSession
  readonly #online: OnlinePartitions
  /** Null with `confirm: off`, and where every write is answered by all in-sync replicas (acks=all). */
  readonly #confirmation: Confirmation | null
  /** Unconfirmed acks=0 writes that the kernel has not taken whole, in the order of writing. */
  #unflushed: ProducerBatch[][] = []
  /** Writes that will be answered, and when they were written, the oldest first. */
  readonly #unanswered = new Map<ProducerBatch[], number>()
  /** Smoothed time that the answer to a write takes, in milliseconds. */
  #answerMs = 0
  #isStandstillTold = false
  /** Where the last connection led. */
  #address: BrokerAddress | null = null
  /** A write was stored since the connection was made. */
  #trusted = false
  /** The broker asks to be left alone until then (KIP-219). What waits for that stays in the buffer, from where any connection can take it. */
  #throttledUntilMs = 0
  /** Until then each write is answered, one at a time: see {@link AtMostOnceLink.#isCareful}. */
  #carefulUntilMs = 0
  /** The session of the connection is so short that a quota can make the broker stop reading until it is over. */
  #isShortSession = false
  /** What is on the old connection was asked after: the answer says that the broker has handled all of it. A later write voids the question. */
  #drain: object | null = null
  /** The last connection took along what was not confirmed: an acks=0 write that is not permitted ends so, too. */
  #wasCut = false
  /** This connection was asked whether the topic may be written to: nothing is written before the answer. */
  #isAsking = false

  constructor(nodeId: number, options: AtMostOnceLinkOptions) {
    this.nodeId = nodeId
    this.#options = options
    const { topic, config, account, offsets, onReady, onStale } = options
    this.#online = new OnlinePartitions({
      topic,
      offsets,
      onReady,
      onStale,
      onOnline: (answer) => this.#confirmation?.observe(answer),
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
              if (tookMs > throttleSuspicionMs) this.#suspectThrottle()
              this.#handOver()
              onReady()
            },
            onStale: (partition) => this.#online.lost(partition),
            isReplicated: options.isReplicated,
            onNoLogEnd: () => this.#logNoLogEnd(),
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
    return this.#confirmation?.hasPending === true || this.#unflushed.length > 0 || this.#unanswered.size > 0
  }

  /** Metadata was looked at: sets which partitions the broker leads; those that are new here are looked at before anything is written to them. */
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
    if (connection === null || connection.pendingBytes > socketHighWaterBytes) return false
    if (this.#isAsking || this.#session.isHandingOver || nowMs < this.#throttledUntilMs) return false
    const { acks, maxInFlight } = this.#options.config
    if (acks === 0 && (!this.#trusted || this.#isCareful(nowMs))) return this.#inFlight === 0
    return this.#inFlight < maxInFlight && !this.#isLate(nowMs)
  }

  /** The partition's replicas stand still, and what could be written to it waits in the buffer. */
  isHeldBack(partition: number): boolean {
    return this.#confirmation?.isHeldBack(partition) === true
  }

  /** How outcomes are found out here. */
  get confirmationMode(): ConfirmationMode {
    const mode = configuredMode(this.#options.config)
    return mode === 'log_end' && this.#trusted && this.#confirmation!.needsAnswers ? 'acks_1' : mode
  }

  /**
   * A batch that somebody waits for need not linger. Writes are not held up by one another here, so a small one costs the
   * others nothing but its own handling; and that is bounded, since it leaves early once a round trip at most.
   */
  get hurriesAwaited(): boolean {
    return this.#confirmation === null ? this.#inFlight === 0 : !this.#confirmation.isBarrierOut
  }

  /** The broker is away, or takes longer to answer than it should. */
  isSilent(nowMs: number): boolean {
    return this.#session.connection === null || this.#isLate(nowMs)
  }

  /** How long the broker usually takes to answer, in milliseconds; 0: it never did. */
  get usualAnswerMs(): number {
    return this.#confirmation?.roundTripMs ?? this.#answerMs
  }

  /** Another request may be written now, to some partition. */
  isUsable(nowMs: number): boolean {
    return this.#online.hasAny && this.canWrite(nowMs)
  }

  /**
   * The broker has owed an answer for longer than a good one takes. What can go to another broker goes there.
   * @param usualAnswerMs of the quickest broker.
   */
  isBehind(nowMs: number, usualAnswerMs: number): boolean {
    const [oldestMs = nowMs] = this.#unanswered.values()
    const owedSinceMs = Math.min(oldestMs, this.#confirmation?.owedSinceMs ?? nowMs)
    const graceMs = this.#options.config.confirmIntervalMs ?? answerGraceMs
    return nowMs - owedSinceMs > graceMs + 2 * usualAnswerMs
  }

  /** Writes batches, at most one a partition. Only after {@link canWrite} and {@link isOnline}. */
  write(batches: ProducerBatch[]): void {
    const connection = this.#session.connection!
    const { topic, config, account, offsets, telemetry } = this.#options
    const nowMs = performance.now()
    const acks = config.acks === 0 && (this.#needsAnswers || this.#isCareful(nowMs)) ? 1 : config.acks
    const request = encodeProduce(topic, acks, config.requestTimeoutMs, batches)
    for (const batch of batches) {
      account.written(batch)
      offsets.written(batch.partition, batch.recordCount)
      telemetry.batchWritten(batch.sizeBytes, batch.recordCount, nowMs - batch.createdAtMs)
    }
    this.#drain = null
    if (acks === 0) this.#writeUnanswered(connection, request, batches, nowMs)
    else this.#writeAnswered(connection, request, batches, nowMs)
  }

  /** Is called every second. Looks at the log end offsets where something was written. */
  tend(nowMs: number): void {
    this.#confirmation?.tend(nowMs)
    this.#tellStandstill(nowMs)
    this.#session.tend(nowMs)
    const { connection } = this.#session
    if (connection === null) return
    // Where the broker answers the high watermark in place of the log's end, replicas that are behind would look like loss.
    const isLookTrue = this.#confirmation?.needsAnswers !== true || !this.hasPending
    this.#ask(connection)
    this.#handOver()
    if (isLookTrue) this.#online.look()
  }

  /** From now on a barrier follows each write at once: the stream is shutting down. */
  hurry(): void {
    this.#confirmation?.hurry()
  }

  /** Ends the connection for good. What was written and not confirmed is suspected lost. */
  stop(cause: Error): void {
    this.#session.stop(cause)
  }

  /** Requests that were written and are neither answered nor covered by an answer. */
  get #inFlight(): number {
    return (this.#confirmation?.uncoveredWrites ?? this.#unflushed.length) + this.#unanswered.size
  }

  /**
   * A broker that throttles (KIP-219) stops reading, for seconds, and with acks=0 does not say so. What is behind the first write is
   * lost if the session ends meanwhile. So where a session ends, and the broker throttles or the session is short, nothing is
   * written before the last write is answered; the answer tells for how long the broker wants to be left alone.
   */
  #isCareful(nowMs: number): boolean {
    return this.#isShortSession || nowMs < this.#carefulUntilMs
  }

  /** A barrier took long. The next write is answered, and tells whether it was a quota. */
  #suspectThrottle(): void {
    const endsSession = (this.#session.connection?.renewAtMs ?? Infinity) < Infinity
    if (endsSession) this.#carefulUntilMs = Math.max(this.#carefulUntilMs, performance.now() + carefulForMs)
  }

  /** Before it is trusted, and where nothing else would tell what became of a write. */
  get #needsAnswers(): boolean {
    return !this.#trusted || this.#confirmation?.needsAnswers === true
  }

  /** A barrier is overdue, or the answer to a write that has one in the place of a barrier. */
  #isLate(nowMs: number): boolean {
    const confirmation = this.#confirmation
    if (confirmation === null) return false
    if (confirmation.isLate(nowMs)) return true
    const { acks, confirmIntervalMs } = this.#options.config
    if (acks !== 0 || this.#unanswered.size === 0) return false
    const [oldestMs] = this.#unanswered.values()
    return nowMs - oldestMs! > confirmIntervalMs! + 2 * Math.max(this.#answerMs, confirmation.roundTripMs)
  }

  #writeUnanswered(
    connection: BrokerConnection,
    request: ReturnType<typeof encodeProduce>,
    batches: ProducerBatch[],
    nowMs: number,
  ): void {
    const { config, telemetry } = this.#options
    const confirmation = this.#confirmation
    if (confirmation === null) this.#unflushed.push(batches)
    connection.send(request, () => {
      telemetry.requestCompleted(performance.now() - nowMs)
      for (const batch of batches) if (batch.state === 'written') batch.release()
      if (confirmation === null) this.#flushed(batches)
    })
    confirmation?.written(batches)
    if (this.#inFlight >= config.maxInFlight) confirmation?.sendBarrier()
  }

  /** Without confirmation, that the kernel has them is the last that can be said of batches. */
  #flushed(batches: readonly ProducerBatch[]): void {
    if (this.#unflushed[0] !== batches) return
    this.#unflushed.shift()
    for (const batch of batches) this.#options.account.settle(batch, 'sent')
    this.#handOver()
    this.#options.onReady()
  }

  #writeAnswered(
    connection: BrokerConnection,
    request: ReturnType<typeof encodeProduce>,
    batches: ProducerBatch[],
    nowMs: number,
  ): void {
    this.#unanswered.set(batches, nowMs)
    connection.call(
      request,
      (payload) => {
        const tookMs = performance.now() - nowMs
        this.#options.telemetry.requestCompleted(tookMs)
        if (!this.#unanswered.delete(batches)) return
        this.#answerMs = this.#answerMs === 0 ? tookMs : this.#answerMs * 0.8 + tookMs * 0.2
        const { results, throttleTimeMs } = decodeProduce(payload)
        this.#throttle(connection, throttleTimeMs)
        this.#settleAnswered(batches, results)
        this.#handOver()
        this.#options.onReady()
      },
      (error) => connection.destroy(error),
    )
    if (this.#options.config.acks === 0) this.#confirmation?.writtenForAnswer(batches)
  }

  #settleAnswered(batches: readonly ProducerBatch[], results: readonly ProduceResult[]): void {
    const { account } = this.#options
    const byPartition = new Map(results.map((result) => [result.partition, result]))
    for (const batch of batches) {
      const result = byPartition.get(batch.partition)
      if (result === undefined) {
        account.settle(batch, 'suspected_lost')
      } else if (result.errorCode === kafkaErrors.none) {
        this.#trust()
        if (this.#confirmation === null) account.settle(batch, 'confirmed', null, result.baseOffset)
        else this.#confirmation.appended(batch, result.baseOffset)
      } else {
        this.#rejected(batch, result.errorCode)
      }
    }
  }

  /** The broker said no; at most once, the batch is not sent again all the same. */
  #rejected(batch: ProducerBatch, errorCode: number): void {
    const { account, logger, topic, rights, onStale, onBadContent, onRejected } = this.#options
    const reason = dropReasonOf(errorCode)
    onRejected(batch, errorCode)
    if (mayBeStored(errorCode)) account.settle(batch, 'suspected_lost')
    else account.settle(batch, 'dropped', reason)
    if (isBadContent(errorCode)) onBadContent()
    const fields = {
      topic,
      partition: batch.partition,
      records: batch.recordCount,
      kafkaError: kafkaErrorName(errorCode),
    }
    logger.debug(fields, 'the broker refused a batch')
    if (isStaleMetadata(errorCode)) this.#online.lost(batch.partition)
    if (isUnauthorized(errorCode)) rights.answered(errorCode)
    onStale()
  }

  /** Is called once. */
  #logNoLogEnd(): void {
    const { logger, topic, address } = this.#options
    const { host, port } = address() ?? { host: `broker ${this.nodeId}`, port: '' }
    const broker = port === '' ? host : `${host}:${port}`
    logger.warn(
      { topic, broker, confirmation: 'acks_1' },
      'the broker does not tell where its log ends; from now on each write is answered by it (acks=1)',
    )
  }

  /** Once for each time that replicas stand still for long: with too few of them in sync they may do so for hours. */
  #tellStandstill(nowMs: number): void {
    const partitions = this.#confirmation?.standingFor(standstillToldAfterMs, nowMs) ?? []
    if (partitions.length === 0) {
      this.#isStandstillTold = false
    } else if (!this.#isStandstillTold) {
      this.#isStandstillTold = true
      const { logger, topic } = this.#options
      const fields = { topic, broker: this.nodeId, partitions: partitions.slice(0, 20) }
      logger.warn(fields, 'replicas do not fetch what was written; records wait in the buffer')
    }
  }

  #trust(): void {
    if (this.#trusted) return
    this.#trusted = true
    this.#session.succeeded()
  }

  #throttle(connection: BrokerConnection, throttleTimeMs: number): void {
    if (throttleTimeMs <= 0) return
    connection.throttle(throttleTimeMs)
    this.#throttledUntilMs = performance.now() + throttleTimeMs
    if (connection.renewAtMs < Infinity) this.#carefulUntilMs = this.#throttledUntilMs + carefulForMs
    setTimeout(this.#options.onReady, throttleTimeMs)
  }

  /**
   * One step towards the next connection, if there is one. Nothing is written meanwhile, and nothing is written to the next
   * one before the broker has handled all that is on the old one: the order holds, and nothing is in doubt. What waits for replicas
   * goes on to wait, by barriers of the next connection.
   */
  #handOver(): void {
    const session = this.#session
    if (!session.isHandingOver || this.#drain !== null) return
    const confirmation = this.#confirmation
    if (this.#isAsking || this.#unanswered.size > 0 || this.#unflushed.length > 0) return
    if (confirmation !== null && confirmation.uncoveredWrites > 0) return confirmation.sendBarrier()
    // Where every write has been answered, or covered by a barrier, the broker has nothing left to handle.
    if (confirmation !== null || this.#options.config.acks !== 0) return this.#swap()
    const old = session.connection!
    const drain = (this.#drain = {})
    const drained = (): void => {
      if (this.#drain !== drain) return
      // Where the next connection is gone by now, the one after it is handed over to as any other.
      this.#drain = null
      if (session.isHandingOver) this.#swap()
    }
    old.call(encodeMetadata([]), drained, (error) => old.destroy(error))
  }

  #swap(): void {
    this.#drain = null
    const { old, connection } = this.#session.handOver()
    this.#online.detach()
    this.#attach(connection)
    old.destroy(new Error('another connection took its place'))
    this.#options.onReady()
  }

  #attach(connection: BrokerConnection): void {
    this.#isShortSession = connection.renewAtMs - performance.now() < shortSessionMs
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

  /** Asks the broker about the right to write where only it can tell. */
  #ask(connection: BrokerConnection): void {
    const partition = this.#online.anyAssigned
    if (partition !== null) this.#options.rights.ask(connection, partition)
  }

  /** As {@link #ask}, whatever is known: the right may have been taken away, and a record is not the one to find out. */
  #askFirst(connection: BrokerConnection): void {
    const { topic, rights, onReady } = this.#options
    const partition = this.#online.anyAssigned
    if (partition === null) return
    this.#isAsking = true
    askToWrite(connection, topic, partition, (errorCode) => {
      // Where the connection ended, it was not the one to answer.
      if (errorCode === null) return
      this.#isAsking = false
      rights.answered(errorCode)
      this.#handOver()
      onReady()
    })
  }

  #down(cause: Error): void {
    this.#trusted = false
    this.#drain = null
    this.#online.detach()
    const unknown = [
      ...(this.#confirmation?.detach() ?? []),
      ...this.#unflushed.flat(),
      ...[...this.#unanswered.keys()].flat(),
    ]
    this.#unflushed = []
    this.#unanswered.clear()
    // A broker that ends the connection for the question is not asked again.
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
  readonly transport: Transport
  readonly account: Account
  readonly offsets: LogEndOffsets
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  readonly address: () => BrokerAddress | null
  /** Something that kept batches from being written is gone. */
  readonly onReady: () => void
  /** Partitions of the topic have more than one replica. */
  readonly isReplicated: () => boolean
  /** The broker may not lead what it was thought to lead. */
  readonly onStale: () => void
  /** The topic takes less than was thought, or is compacted by now. */
  readonly onBadContent: () => void
  readonly rights: WriteRights
  /** The broker refused a batch by name. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  readonly onUp: () => void
  /** The connection ended, or could not be made; `suspectedRecords` were settled as suspected lost. */
  readonly onDown: (cause: Error, suspectedRecords: number) => void
}

/** Enough to keep the kernel busy; more would only be more to lose. */
const socketHighWaterBytes = 1 << 20
/** A barrier that took longer may have been behind a quota. */
const throttleSuspicionMs = 200
/** Longer than the window in which a broker adds up what a quota is about (`quota.window.num` and `quota.window.size.seconds`). */
const carefulForMs = 15_000
/** To the time of renewal. The rest of a longer session is enough for what a broker can be behind. */
const shortSessionMs = 50_000
const standstillToldAfterMs = 5_000
/** Beside twice the usual time, with `confirm: off`: the default of `confirm.interval.ms`. */
const answerGraceMs = 20
