import type { Account } from './account.ts'
import { BarrierPace } from './barrier-pace.ts'
import { BarrierRequests } from './barrier-requests.ts'
import { kafkaErrors } from './kafka-error.ts'
import type { RecordBatch } from './record-batch.ts'
import { decodeListOffsets, type PartitionOffset } from './requests.ts'
import type { BrokerConnection } from './transport.ts'

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
 * Barriers go every `confirm.interval.ms` while something waits, one at a time; and earlier with a write, in one call to the
 * kernel, where no other is to be expected before the interval ends (`barrier-pace.ts`).
 * They need no batch to ride on, so the last batch before a silence is confirmed too. Where a client waits for the outcome, one goes right behind the write, or behind
 * the answer that is out: never more of them than writes that somebody waits for, and a few more each for replicas that lag.
 */
export class Confirmation {
  readonly #options: ConfirmationOptions
  readonly #requests: BarrierRequests
  readonly #pace: BarrierPace
  #connection: BrokerConnection | null = null
  /** acks=0 writes that no answer covers, in the order of writing. */
  #written: RecordBatch[][] = []
  readonly #partitions = new Map<number, PartitionState>()
  /** Batches that are in the leader's log and not known to be replicated. */
  #waiting = 0
  #timer: NodeJS.Timeout | null = null
  #sentAtMs: number | null = null
  /** Smoothed time of a barrier's round trip, in milliseconds. */
  #roundTripMs = 0
  #hurried = false
  /** A client waits for the outcome of something that no barrier was sent for. */
  #isAwaited = false
  /** From one barrier to the next: shorter than the interval only while somebody waits for replicas. */
  #pauseMs: number

  constructor(options: ConfirmationOptions) {
    this.#options = options
    this.#requests = new BarrierRequests(options.topic)
    this.#pauseMs = options.intervalMs
    this.#pace = new BarrierPace(options.intervalMs)
  }

  /** Writes that no answer covers: `max.in.flight` counts them. */
  get uncoveredWrites(): number {
    return this.#written.length
  }

  /** A barrier is out: what is written now has to wait for the next one. */
  get isBarrierOut(): boolean {
    return this.#sentAtMs !== null
  }

  /** Something has no outcome yet. */
  get hasPending(): boolean {
    return this.#written.length > 0 || this.#waiting > 0
  }

  /** Barriers go over this connection from now on. */
  attach(connection: BrokerConnection): void {
    this.#connection = connection
  }

  /** The connection is gone. Gives back what has no outcome: nobody will ever know. */
  detach(): RecordBatch[] {
    this.#connection = null
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#sentAtMs = null
    const unknown = [...this.#partitions.values()].flatMap(({ waiting }) => waiting.map(({ batch }) => batch))
    unknown.push(...this.#written.flat())
    this.#partitions.clear()
    this.#written = []
    this.#waiting = 0
    this.#isAwaited = false
    this.#pauseMs = this.#options.intervalMs
    return unknown
  }

  /** Batches were written with acks=0. */
  written(batches: RecordBatch[]): void {
    this.#written.push(batches)
    this.#isAwaited ||= batches.some(isAwaited)
    if (this.#pace.written(performance.now())) this.sendBarrier()
    else this.#schedule()
  }

  /** The leader acknowledged a batch (acks=1). */
  appended(batch: RecordBatch, baseOffset: bigint): void {
    this.#append(batch, baseOffset, baseOffset + BigInt(batch.recordCount))
    this.#isAwaited ||= batch.isAwaited
    this.#schedule()
  }

  /**
   * While a barrier is overdue, writing pauses: what is not covered, and so what a broker that dies can take along, stays
   * at what two intervals carry.
   */
  isLate(nowMs: number): boolean {
    return (
      this.#sentAtMs !== null && nowMs - this.#sentAtMs > this.#options.intervalMs + 2 * this.#roundTripMs
    )
  }

  /** Is called every second: nobody waits longer for replicas than `delivery.timeout.ms`. */
  tend(nowMs: number): void {
    const { deliveryTimeoutMs } = this.#options
    for (const state of this.#partitions.values()) {
      const { waiting } = state
      let expired = 0
      while (expired < waiting.length && nowMs - waiting[expired]!.batch.createdAtMs > deliveryTimeoutMs)
        expired++
      this.#suspect(state, expired)
    }
  }

  /** From now on a barrier follows each write at once: the stream is shutting down. */
  hurry(): void {
    this.#hurried = true
    this.#schedule()
  }

  /** Sends a barrier now, unless one is out: nothing more may be written before its answer. */
  sendBarrier(): void {
    const connection = this.#connection
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (connection === null || this.#sentAtMs !== null || !this.hasPending) return
    const sentAtMs = performance.now()
    this.#sentAtMs = sentAtMs
    this.#pace.sent(sentAtMs)
    const isFirstOfAwaited = this.#isAwaited
    this.#isAwaited = false
    const onError = (error: Error): void => connection.destroy(error)
    const covered = this.#written.length
    const partitions = new Set<number>()
    for (const batches of this.#written) for (const { partition } of batches) partitions.add(partition)
    if (covered > 0) {
      const onLogEnds = (payload: Buffer): void => this.#cover(covered, decodeListOffsets(payload))
      connection.call(this.#requests.about([...partitions]).logEnd, onLogEnds, onError)
    }
    for (const [partition, { waiting }] of this.#partitions) if (waiting.length > 0) partitions.add(partition)
    const onAnswer = (payload: Buffer): void => {
      this.#sentAtMs = null
      const tookMs = performance.now() - sentAtMs
      this.#roundTripMs = this.#roundTripMs === 0 ? tookMs : this.#roundTripMs * 0.8 + tookMs * 0.2
      for (const replicated of decodeListOffsets(payload)) this.#judge(replicated)
      this.#pauseMs = this.#pauseAfter(isFirstOfAwaited)
      this.#schedule()
      this.#options.onProgress()
    }
    connection.call(this.#requests.about([...partitions]).highWatermark, onAnswer, onError)
  }

  /**
   * Takes note of a high watermark: confirms what it has reached. An answer that shows another leader in between, or another
   * log, leaves what waits in doubt.
   */
  observe({ partition, offset: highWatermark, leaderEpoch }: PartitionOffset): void {
    const state = this.#state(partition)
    const isSameLog = continues(state, highWatermark, leaderEpoch)
    state.highWatermark = highWatermark
    state.leaderEpoch = leaderEpoch
    const { waiting } = state
    if (!isSameLog) return this.#suspect(state, waiting.length)
    let replicated = 0
    while (replicated < waiting.length && waiting[replicated]!.endOffset <= highWatermark) replicated++
    for (const { batch, baseOffset } of this.#take(state, replicated))
      this.#options.account.settle(batch, 'confirmed', null, baseOffset)
  }

  /** The oldest `count` writes are in the leader's log, which ended at `logEnds` behind them. */
  #cover(count: number, logEnds: readonly PartitionOffset[]): void {
    const ends = new Map<number, bigint>()
    for (const { partition, errorCode, offset } of logEnds)
      if (errorCode === kafkaErrors.none) ends.set(partition, offset)
    for (const batches of this.#written.splice(0, count)) {
      for (const batch of batches) {
        const endOffset = ends.get(batch.partition)
        if (endOffset === undefined) this.#options.account.settle(batch, 'suspected_lost')
        else this.#append(batch, null, endOffset)
      }
    }
  }

  #judge(replicated: PartitionOffset): void {
    const { partition, errorCode } = replicated
    if (errorCode === kafkaErrors.none) return this.observe(replicated)
    // It leads, but has not heard from the replicas yet how far they are (KIP-207).
    if (errorCode === kafkaErrors.leaderNotAvailable) return
    // The leader moved, or may not be asked any more: whether a successor has them, this broker can't say.
    const state = this.#state(partition)
    this.#suspect(state, state.waiting.length)
    this.#options.onStale(partition)
  }

  #append(batch: RecordBatch, baseOffset: bigint | null, endOffset: bigint): void {
    this.#state(batch.partition).waiting.push({ batch, baseOffset, endOffset })
    this.#waiting++
  }

  #suspect(state: PartitionState, count: number): void {
    for (const { batch } of this.#take(state, count)) this.#options.account.settle(batch, 'suspected_lost')
  }

  #take({ waiting }: PartitionState, count: number): AppendedBatch[] {
    this.#waiting -= count
    return waiting.splice(0, count)
  }

  #state(partition: number): PartitionState {
    let state = this.#partitions.get(partition)
    if (state === undefined) {
      state = { waiting: [], highWatermark: 0n, leaderEpoch: -1 }
      this.#partitions.set(partition, state)
    }
    return state
  }

  #schedule(): void {
    if (this.#sentAtMs !== null || !this.hasPending) return
    if (this.#isAwaited || (this.#hurried && this.#written.length > 0)) {
      this.sendBarrier()
    } else if (this.#timer === null) {
      const dueInMs = this.#pace.dueInMs(performance.now(), this.#pauseMs)
      this.#timer = setTimeout(() => this.sendBarrier(), dueInMs)
    }
  }

  /**
   * Replicas usually fetch within a moment, so who waits for them is looked after at once, then ever less often: if they
   * lag for long, barriers go at their usual pace.
   */
  #pauseAfter(isFirstOfAwaited: boolean): number {
    const { intervalMs } = this.#options
    if (this.#waiting === 0) return intervalMs
    const awaitsReplicas = [...this.#partitions.values()].some(({ waiting }) =>
      waiting.some(({ batch }) => batch.isAwaited),
    )
    if (!awaitsReplicas) return intervalMs
    return isFirstOfAwaited ? 1 : Math.min(2 * this.#pauseMs, intervalMs)
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
  /** A barrier was answered: what it held up can go on. */
  readonly onProgress: () => void
  /** The broker does not lead the partition any more. */
  readonly onStale: (partition: number) => void
}

/** One partition, as the last answer of its leader showed it. */
interface PartitionState {
  /** What is in the leader's log and not known to be replicated, in the order of the log. */
  readonly waiting: AppendedBatch[]
  highWatermark: bigint
  /** -1 before the first answer, and of a broker that does not tell. */
  leaderEpoch: number
}

interface AppendedBatch {
  readonly batch: RecordBatch
  /** Where the broker told it. */
  readonly baseOffset: bigint | null
  /** The high watermark at which all in-sync replicas have the batch. */
  readonly endOffset: bigint
}

function isAwaited(batch: RecordBatch): boolean {
  return batch.isAwaited
}

/**
 * Whether nothing was cut off the leader's log since the last answer. A leader keeps its log; but if another led in between
 * (that takes two changes of the epoch), it cut off what that one did not have. And a high watermark that goes back, or an
 * older epoch, is a topic that was deleted and made anew.
 */
function continues(before: PartitionState, highWatermark: bigint, leaderEpoch: number): boolean {
  if (highWatermark < before.highWatermark) return false
  if (before.leaderEpoch < 0 || leaderEpoch < 0) return true
  return leaderEpoch === before.leaderEpoch || leaderEpoch === before.leaderEpoch + 1
}
