import type { Account } from '../account.ts'
import { Barrier, type BarrierQuestions } from './barrier.ts'
import { isStaleMetadata, kafkaErrors } from '../../protocol/kafka-error.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { PartitionOffset } from '../../protocol/requests.ts'
import { continues, LogEndProof, ReplicatedPartition, type AppendedBatch } from './replicated-partition.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * Finds out what became of the acks=0 writes on one connection, without a pause in the flow, by barriers (`barrier.ts`). A batch is
 * confirmed only when all in-sync replicas have it.
 *
 * A broker serves one connection in order, and closes it on any error of an acks=0 write. So the answer to any request proves that every
 * write before it is in the leader's log. If the topic has replicas, that is not enough: when a leader dies, the records that its followers
 * did not fetch are lost. So a barrier is two ListOffsets requests, one behind the other. The first asks where the log ends behind the
 * writes. The second asks how far all in-sync replicas have the log (the high watermark). A batch is confirmed once the high watermark has
 * reached that log end. Until then the batch waits for the next barrier.
 *
 * The first answer counts only if the log has grown at least by the records that were written since the last answer. An answer that does
 * not count confirms nothing, and the next barrier asks again. A broker that keeps giving such answers does not tell where its log ends
 * ({@link LogEndProof}). Then the broker has to answer each write ({@link needsAnswers}), and the answer has the offset of the write.
 *
 * While the high watermark of a partition stands still, nothing more is written to the partition (`replicated-partition.ts`).
 */
export class Confirmation implements BarrierQuestions {
  readonly #options: ConfirmationOptions
  readonly #barrier: Barrier
  readonly #proof = new LogEndProof()
  /** acks=0 writes that no answer covers, in the order of writing. */
  #written: ProducerBatch[][] = []
  readonly #partitions = new Map<number, ReplicatedPartition>()
  /** Number of batches that are in the leader's log and not known to be replicated. */
  #waiting = 0
  /** Number of batches that an answer covers whose log end did not show them. */
  #unproved = 0

  constructor(options: ConfirmationOptions) {
    this.#options = options
    const { topic, intervalMs, onAnswered } = options
    this.#barrier = new Barrier({ topic, intervalMs, questions: this, onAnswered })
  }

  /** acks=0 writes that no answer covers. `max.in.flight.requests.per.connection` limits them. */
  get uncoveredWrites(): number {
    return this.#written.length
  }

  /**
   * The next write needs an answer ({@link needsAnswers}), and uncovered writes stand before it. It has to wait for their barrier: its
   * answer would show where its own records are, and the uncovered ones could not be told from those that are missing in front of them.
   */
  get isChangingToAnswers(): boolean {
    return this.#written.length > 0 && this.needsAnswers
  }

  /** A barrier is out. A batch that is written now has to wait for the next barrier. */
  get isBarrierOut(): boolean {
    return this.#barrier.sentAtMs !== null
  }

  /** When the barrier that is out was sent; null if none is out. */
  get owedSinceMs(): number | null {
    return this.#barrier.sentAtMs
  }

  /** A batch has no outcome yet. */
  get hasPending(): boolean {
    return this.#written.length > 0 || this.#waiting > 0 || this.#unproved > 0
  }

  /**
   * The broker has to answer each write (acks=1): it does not tell where its log ends, or it has not yet shown that it does. A topic
   * without replicas needs no such proof: there the high watermark is the log end.
   */
  get needsAnswers(): boolean {
    const { tellsLogEnd } = this.#proof
    return tellsLogEnd === false || (tellsLogEnd === null && this.#options.isReplicated())
  }

  /** Smoothed time of a barrier's round trip, in milliseconds. */
  get roundTripMs(): number {
    return this.#barrier.roundTripMs
  }

  /**
   * Barriers go over this connection from now on.
   * @param isElsewhere the connection leads to another address than the last one, and so to another broker. Then the proof is forgotten.
   */
  attach(connection: BrokerConnection, isElsewhere = false): void {
    if (isElsewhere) this.#proof.forget()
    this.#barrier.attach(connection)
  }

  /** The connection has ended. Gives back the batches without an outcome: nothing can show any more whether they arrived. */
  detach(): ProducerBatch[] {
    this.#barrier.detach()
    const unknown: ProducerBatch[] = []
    for (const { waiting, unproved } of this.#partitions.values()) {
      for (const { batch } of waiting) unknown.push(batch)
      unknown.push(...unproved)
    }
    unknown.push(...this.#written.flat().filter(({ state }) => state === 'written'))
    this.#partitions.clear()
    this.#written = []
    this.#waiting = 0
    this.#unproved = 0
    return unknown
  }

  /** Batches were written with acks=0. */
  written(batches: ProducerBatch[]): void {
    this.#written.push(batches)
    this.#barrier.written(batches.some(isAwaited))
  }

  /**
   * Batches were written with acks=1. If it is not known yet whether the broker tells where its log ends, a barrier goes right behind them.
   * It can show that, as long as the replicas do not have the batches.
   */
  writtenForAnswer(batches: readonly ProducerBatch[]): void {
    if (this.#proof.tellsLogEnd === null) this.#barrier.send(batches.map(({ partition }) => partition))
  }

  /**
   * The leader acknowledged a batch (acks=1). If the log has room for the unproved batches in front of it, they are there, since they were
   * written before it on the connection. Else they are suspected lost.
   */
  appended(batch: ProducerBatch, baseOffset: bigint): void {
    const state = this.#state(batch.partition)
    if (state.unproved.length > 0) {
      if (baseOffset >= state.grownEnd) this.#prove(state, baseOffset)
      else this.#suspectUnproved(state, state.unproved.length)
    }
    const endOffset = baseOffset + BigInt(batch.recordCount)
    state.end = endOffset
    this.#append(state, batch, baseOffset, endOffset, performance.now())
    this.#barrier.appended(batch.isAwaited)
  }

  /**
   * Nothing more is to be written to the partition for now, since its replicas stand still. During a shutdown this is false: a batch that
   * is not written then is lost.
   */
  isHeldBack(partition: number): boolean {
    return !this.#barrier.isHurried && this.#partitions.get(partition)?.still.isOn === true
  }

  /**
   * A barrier is overdue. Writing pauses meanwhile. So the batches that no barrier covers, and that are lost if the broker dies, are at most
   * those of about two intervals.
   */
  isLate(nowMs: number): boolean {
    return this.#barrier.isLate(nowMs)
  }

  /** Partitions whose replicas have been standing still for longer than `ms`. */
  standingFor(ms: number, nowMs: number): number[] {
    const standing: number[] = []
    for (const [partition, { still }] of this.#partitions)
      if (still.lastsMs(nowMs) > ms) standing.push(partition)
    return standing
  }

  /** Is called every second. Batches that have waited for longer than `delivery.timeout.ms` are suspected lost. */
  everySecond(nowMs: number): void {
    const { deliveryTimeoutMs } = this.#options
    const isExpired = (batch: ProducerBatch): boolean => nowMs - batch.createdAtMs > deliveryTimeoutMs
    for (const state of this.#partitions.values()) {
      const { waiting, unproved } = state
      let expired = 0
      while (expired < waiting.length && isExpired(waiting[expired]!.batch)) expired++
      this.#suspectWaiting(state, expired)
      expired = 0
      while (expired < unproved.length && isExpired(unproved[expired]!)) expired++
      this.#suspectUnproved(state, expired)
    }
  }

  /** From now on a barrier goes right behind each write: the stream is shutting down. */
  hurry(): void {
    this.#barrier.hurry()
  }

  /** Sends a barrier now, unless one is out. To be called where nothing more may be written before its answer. */
  sendBarrier(): void {
    this.#barrier.send()
  }

  /** @inheritdoc */
  get hasAny(): boolean {
    return this.#written.length > 0 || this.#waiting > 0 || this.#isUnprovedAskedFor
  }

  /** @inheritdoc */
  addUncovered(partitions: Set<number>): void {
    for (const batches of this.#written) for (const { partition } of batches) partitions.add(partition)
    if (!this.#isUnprovedAskedFor) return
    for (const [partition, { unproved }] of this.#partitions)
      if (unproved.length > 0) partitions.add(partition)
  }

  /** @inheritdoc */
  addWaiting(partitions: Set<number>): void {
    for (const [partition, { waiting }] of this.#partitions) if (waiting.length > 0) partitions.add(partition)
  }

  /** @inheritdoc */
  judge(highWatermarks: readonly PartitionOffset[]): void {
    let isShort = false
    for (const replicated of highWatermarks) isShort = this.#judge(replicated) || isShort
    if (isShort) this.#short()
  }

  /** @inheritdoc */
  patience(): { isAnyWaiting: boolean; isAwaited: boolean; isStandstill: boolean } {
    const isAnyWaiting = this.#waiting > 0 || this.#unproved > 0
    let isAwaitedYet = false
    let isStandstill = false
    for (const { waiting, unproved, still } of this.#partitions.values()) {
      isAwaitedYet ||= waiting.some(({ batch }) => batch.isAwaited) || unproved.some(isAwaited)
      isStandstill ||= still.isOn
    }
    return { isAnyWaiting, isAwaited: isAwaitedYet, isStandstill }
  }

  /**
   * The broker leads a partition, perhaps again. Nothing was written to the partition since the question. So if another leader was in between, or
   * the log is another one, the batches that no barrier covers are in doubt, too: a later log end can have grown by the records of others.
   */
  found(answer: PartitionOffset): void {
    if (this.#observe(answer)) return
    for (const batch of this.#written.flat())
      if (batch.partition === answer.partition && batch.state === 'written')
        this.#options.account.settle(batch, 'suspected_lost')
  }

  /**
   * Takes a high watermark, and confirms the batches that it has reached. If the answer shows that another leader was in between, or that
   * the log is another one, the batches that wait are suspected lost.
   * @returns whether the log is the same as before.
   */
  #observe({ partition, offset: highWatermark, leaderEpoch }: PartitionOffset): boolean {
    const state = this.#state(partition)
    const isSameLog = continues(state, highWatermark, leaderEpoch)
    const hasMoved = highWatermark !== state.highWatermark
    state.highWatermark = highWatermark
    state.leaderEpoch = leaderEpoch
    if (!isSameLog) {
      state.end = highWatermark
      this.#suspect(state)
      return false
    }
    // A later high watermark may be beyond the unproved batches, which would then count twice.
    state.end ??= highWatermark
    const { waiting } = state
    let replicated = 0
    while (replicated < waiting.length && waiting[replicated]!.endOffset <= highWatermark) replicated++
    for (const { batch, baseOffset } of this.#take(state, replicated))
      this.#options.account.settle(batch, 'confirmed', null, baseOffset)
    if (!hasMoved && waiting.length > 0) this.#stays(state, partition)
    else state.still.moved(performance.now(), waiting.length === 0)
    return true
  }

  /** @inheritdoc */
  cover(count: number, logEnds: readonly PartitionOffset[]): void {
    for (const batches of this.#written.splice(0, count)) {
      for (const batch of batches) {
        // It is in doubt: see `found`.
        if (batch.state !== 'written') continue
        const state = this.#state(batch.partition)
        state.unproved.push(batch)
        state.unprovedRecords += batch.recordCount
        this.#unproved++
      }
    }
    // Such a log end proves nothing, even where the records of others let it look grown.
    if (this.#proof.tellsLogEnd === false) return
    for (const { partition, errorCode, offset } of logEnds) {
      const state = this.#state(partition)
      if (errorCode === kafkaErrors.none) {
        state.answeredLogEnd = offset
        if (state.end === null || offset >= state.grownEnd) {
          this.#prove(state, offset)
          state.end = offset
        } else {
          state.isShort = true
        }
      } else if (isStaleMetadata(errorCode) || errorCode === kafkaErrors.topicAuthorizationFailed) {
        this.#suspectUnproved(state, state.unproved.length)
      } else {
        // The broker does not answer a question for its log end.
        state.isShort = true
      }
    }
  }

  /** @returns whether the log end of the first answer does not show all records that were written before it. */
  #judge(replicated: PartitionOffset): boolean {
    const { partition, errorCode, offset } = replicated
    const state = this.#state(partition)
    const { answeredLogEnd, isShort } = state
    state.answeredLogEnd = null
    state.isShort = false
    if (errorCode === kafkaErrors.none) {
      if (!this.#observe(replicated)) return false
      if (answeredLogEnd !== null && answeredLogEnd > offset) this.#proof.beyond()
      return isShort
    }
    if (errorCode === kafkaErrors.leaderNotAvailable) {
      // The broker leads, but the replicas have not told it yet how far they are (KIP-207).
      this.#stays(state, partition)
      return isShort
    }
    // The leader moved, or may not be asked any more. This broker cannot say whether its successor has the batches.
    state.end = null
    this.#suspect(state)
    this.#options.onStale(partition)
    return false
  }

  /**
   * A log end did not show all records. If that decides that the broker tells no log end, the unproved batches wait for the answer to a
   * later write. The writes behind this barrier are uncovered yet: the next barrier covers them.
   */
  #short(): void {
    if (this.#proof.short()) this.#options.onNoLogEnd()
  }

  /** The unproved batches of a partition are in the leader's log, before `endOffset`. */
  #prove(state: ReplicatedPartition, endOffset: bigint): void {
    if (state.unproved.length === 0) return
    const nowMs = performance.now()
    for (const batch of this.#takeUnproved(state, state.unproved.length))
      this.#append(state, batch, null, endOffset, nowMs)
  }

  #append(
    state: ReplicatedPartition,
    batch: ProducerBatch,
    baseOffset: bigint | null,
    endOffset: bigint,
    nowMs: number,
  ): void {
    if (state.waiting.length === 0) state.still.waits(nowMs)
    state.waiting.push({ batch, baseOffset, endOffset })
    this.#waiting++
  }

  #suspect(state: ReplicatedPartition): void {
    this.#suspectWaiting(state, state.waiting.length)
    this.#suspectUnproved(state, state.unproved.length)
  }

  #suspectWaiting(state: ReplicatedPartition, count: number): void {
    for (const { batch } of this.#take(state, count)) this.#options.account.settle(batch, 'suspected_lost')
    if (state.waiting.length === 0) state.still.end()
  }

  #suspectUnproved(state: ReplicatedPartition, count: number): void {
    for (const batch of this.#takeUnproved(state, count))
      this.#options.account.settle(batch, 'suspected_lost')
  }

  #take({ waiting }: ReplicatedPartition, count: number): AppendedBatch[] {
    this.#waiting -= count
    return waiting.splice(0, count)
  }

  #takeUnproved(state: ReplicatedPartition, count: number): ProducerBatch[] {
    this.#unproved -= count
    const taken = state.unproved.splice(0, count)
    for (const batch of taken) state.unprovedRecords -= batch.recordCount
    return taken
  }

  /** The high watermark did not move. Another broker may lead by now, and this broker may not know it. */
  #stays(state: ReplicatedPartition, partition: number): void {
    if (!state.still.stays(performance.now(), this.#barrier.roundTripMs)) return
    this.#options.onStandstill(partition)
  }

  #state(partition: number): ReplicatedPartition {
    let state = this.#partitions.get(partition)
    if (state === undefined) {
      state = new ReplicatedPartition(this.#options.intervalMs)
      this.#partitions.set(partition, state)
    }
    return state
  }

  /** Barriers ask about unproved batches. They do not if the broker tells no log end: then these batches wait for the answer to a later write. */
  get #isUnprovedAskedFor(): boolean {
    return this.#unproved > 0 && this.#proof.tellsLogEnd !== false
  }
}

/** See {@link Confirmation}. */
export interface ConfirmationOptions {
  readonly topic: string
  /** `confirm.interval.ms`. */
  readonly intervalMs: number
  /** `delivery.timeout.ms`. */
  readonly deliveryTimeoutMs: number
  readonly account: Account
  /** A barrier was answered, so more may be written. @param tookMs time from the barrier to its answer. */
  readonly onAnswered: (tookMs: number) => void
  /** The broker does not lead the partition any more. */
  readonly onStale: (partition: number) => void
  /** Partitions of the topic have more than one replica, as far as is known. */
  readonly isReplicated: () => boolean
  /** The broker does not tell where its log ends. Is called once for each address of the broker. */
  readonly onNoLogEnd: () => void
  /** The replicas of the partition begin to stand still: another broker may lead the partition by now. */
  readonly onStandstill: (partition: number) => void
}

function isAwaited(batch: ProducerBatch): boolean {
  return batch.isAwaited
}
