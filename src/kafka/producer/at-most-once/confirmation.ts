import type { Account } from '../account.ts'
import { Barrier, type BarrierQuestions } from './barrier.ts'
import { isStaleMetadata, kafkaErrors } from '../../protocol/kafka-error.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { PartitionOffset } from '../../protocol/requests.ts'
import { continues, LogEndProof, ReplicatedPartition, type AppendedBatch } from './replicated-partition.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * Finds out what became of acks=0 writes on one connection, without pausing the flow: the barrier. A batch is confirmed
 * only when all in-sync replicas have it.
 *
 * A broker serves one connection in order, and closes it on any error of an acks=0 write. So the answer to any request
 * proves that every write before it is in the leader's log. That alone is not enough where a topic has replicas: a leader
 * that dies takes along what its followers did not fetch. So the barrier is two ListOffsets requests, one behind the other:
 * the first tells where the log ends behind the writes, the second how far all in-sync replicas have it (the high
 * watermark). A batch is confirmed once the second has reached the first; until then it waits for the next barrier.
 *
 * The first answer counts only if the log has grown by at least what was written since the last one. Where it has not, nothing is
 * confirmed by it, and the next barrier asks again. A broker that goes on like this does not tell where its log ends
 * ({@link LogEndProof}): then each write has to be answered ({@link needsAnswers}), and its own answer says where it is.
 *
 * When barriers go is in `barrier.ts`. Where the high watermark of a partition stands still, nothing more is written to it
 * (`replicated-partition.ts`).
 */
export class Confirmation implements BarrierQuestions {
  readonly #options: ConfirmationOptions
  readonly #barrier: Barrier
  readonly #proof = new LogEndProof()
  /** acks=0 writes that no answer covers, in the order of writing. */
  #written: ProducerBatch[][] = []
  readonly #partitions = new Map<number, ReplicatedPartition>()
  /** Batches that are in the leader's log and not known to be replicated. */
  #waiting = 0
  /** Batches that were answered for by a log end that does not show them. */
  #unproved = 0

  constructor(options: ConfirmationOptions) {
    this.#options = options
    const { topic, intervalMs, onAnswered } = options
    this.#barrier = new Barrier({ topic, intervalMs, questions: this, onAnswered })
  }

  /** Writes that no answer covers: `max.in.flight` counts them. */
  get uncoveredWrites(): number {
    return this.#written.length
  }

  /** A barrier is out: a batch that is written now has to wait for the next one. */
  get isBarrierOut(): boolean {
    return this.#barrier.sentAtMs !== null
  }

  /** When the barrier was sent that is out; null: none is. */
  get owedSinceMs(): number | null {
    return this.#barrier.sentAtMs
  }

  /** Something has no outcome yet. */
  get hasPending(): boolean {
    return this.#written.length > 0 || this.#waiting > 0 || this.#unproved > 0
  }

  /**
   * Each write has to be answered (acks=1): the broker does not tell where its log ends, or has not shown yet that it does.
   * Without replicas that makes no difference, as long as the log grows by what is written.
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
   * @param isElsewhere the connection leads to another address than the one before it, and so to another broker. Nothing of what was
   * written to the old one is open any more.
   */
  attach(connection: BrokerConnection, isElsewhere = false): void {
    if (isElsewhere) this.#proof.forget()
    this.#barrier.attach(connection)
  }

  /** The connection is gone. Gives back what has no outcome: nobody will ever know. */
  detach(): ProducerBatch[] {
    this.#barrier.detach()
    const unknown: ProducerBatch[] = []
    for (const { waiting, unproved } of this.#partitions.values()) {
      for (const { batch } of waiting) unknown.push(batch)
      unknown.push(...unproved)
    }
    unknown.push(...this.#written.flat())
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
   * Batches were written with acks=1, and it is not known yet whether the broker tells where its log ends. A barrier right behind the
   * batches shows it, while the replicas do not have them yet.
   */
  writtenForAnswer(batches: readonly ProducerBatch[]): void {
    if (this.#proof.tellsLogEnd === null) this.#barrier.send(batches.map(({ partition }) => partition))
  }

  /**
   * The leader acknowledged a batch (acks=1). Unproved batches that were written before it on the connection are in front of it in the
   * log, if there is room for them there.
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
   * Nothing more is to be written to the partition for now: its replicas stand still. At shutdown everything is written all the same: a
   * batch that is not written then is lost.
   */
  isHeldBack(partition: number): boolean {
    return !this.#barrier.isHurried && this.#partitions.get(partition)?.still.isOn === true
  }

  /**
   * While a barrier is overdue, writing pauses. So the batches that no barrier covers, which a broker that dies takes along, are never
   * more than two intervals carry.
   */
  isLate(nowMs: number): boolean {
    return this.#barrier.isLate(nowMs)
  }

  /** Partitions whose replicas have been standing still for this long. */
  standingFor(ms: number, nowMs: number): number[] {
    const standing: number[] = []
    for (const [partition, { still }] of this.#partitions)
      if (still.lastsMs(nowMs) > ms) standing.push(partition)
    return standing
  }

  /** Is called every second: nobody waits longer for replicas than `delivery.timeout.ms`. */
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

  /** From now on a barrier follows each write at once: the stream is shutting down. */
  hurry(): void {
    this.#barrier.hurry()
  }

  /** Sends a barrier now, unless one is out: nothing more may be written before its answer. */
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
   * Takes note of a high watermark: confirms what it has reached. An answer that shows another leader in between, or another
   * log, leaves what waits in doubt.
   * @returns whether it is the same log.
   */
  observe({ partition, offset: highWatermark, leaderEpoch }: PartitionOffset): boolean {
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
        const state = this.#state(batch.partition)
        state.unproved.push(batch)
        state.unprovedRecords += batch.recordCount
        this.#unproved++
      }
    }
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
        // The broker does not answer this kind of question.
        state.isShort = true
      }
    }
  }

  /** @returns whether the log end that the first answer told is short of what was written. */
  #judge(replicated: PartitionOffset): boolean {
    const { partition, errorCode, offset } = replicated
    const state = this.#state(partition)
    const { answeredLogEnd, isShort } = state
    state.answeredLogEnd = null
    state.isShort = false
    if (errorCode === kafkaErrors.none) {
      if (!this.observe(replicated)) return false
      if (answeredLogEnd !== null && answeredLogEnd > offset) this.#proof.beyond()
      return isShort
    }
    if (errorCode === kafkaErrors.leaderNotAvailable) {
      // It leads, but has not heard from the replicas yet how far they are (KIP-207).
      this.#stays(state, partition)
      return isShort
    }
    // The leader moved, or may not be asked any more: whether a successor has them, this broker can't say.
    state.end = null
    this.#suspect(state)
    this.#options.onStale(partition)
    return false
  }

  /** A log end was short of what was written. Once the proof has failed, the batches wait for the answer to a later write. */
  #short(): void {
    if (!this.#proof.short()) return
    this.cover(this.#written.length, [])
    this.#options.onNoLogEnd()
  }

  /** The unproved batches are in the leader's log, which ends at `endOffset`. */
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

  /** The high watermark did not move. Another broker may lead by now, and a broker that lags behind the cluster does not know it. */
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

  /** Where the broker does not tell where its log ends, unproved batches wait for the answer to a later write, and no barrier asks. */
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
  /** A barrier was answered, after so long: what it held up can go on. */
  readonly onAnswered: (tookMs: number) => void
  /** The broker does not lead the partition any more. */
  readonly onStale: (partition: number) => void
  /** Partitions of the topic have more than one replica, as far as is known. */
  readonly isReplicated: () => boolean
  /** It is certain that the broker does not tell where its log ends. Is called once for each address of the broker. */
  readonly onNoLogEnd: () => void
  /** The replicas of the partition stand still from now on: another broker may lead it by now. */
  readonly onStandstill: (partition: number) => void
}

function isAwaited(batch: ProducerBatch): boolean {
  return batch.isAwaited
}
