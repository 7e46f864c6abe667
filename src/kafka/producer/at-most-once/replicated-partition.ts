import type { ProducerBatch } from '../producer-batch.ts'

/** One partition, as the last answers of its leader showed it. */
export class ReplicatedPartition {
  /** What is in the leader's log and not known to be replicated, in the order of the log. */
  readonly waiting: AppendedBatch[] = []
  /** What was written before a log end that did not show it, in the order of writing. */
  readonly unproved: ProducerBatch[] = []
  unprovedRecords = 0
  highWatermark = 0n
  /** -1 before the first answer, and of a broker that does not tell. */
  leaderEpoch = -1
  /** Where the leader's log ends at the least, without what is unproved; null: not known. */
  end: bigint | null = null
  /** What the barrier that is out told as the log's end, and whether that is short of what was written. */
  answeredLogEnd: bigint | null = null
  isShort = false
  readonly still: Standstill

  constructor(intervalMs: number) {
    this.still = new Standstill(intervalMs)
  }

  /** Where the log ends at the least if it holds what is unproved. */
  get grownEnd(): bigint {
    return (this.end ?? 0n) + BigInt(this.unprovedRecords)
  }
}

/** A batch that is in the leader's log. */
export interface AppendedBatch {
  readonly batch: ProducerBatch
  /** Where the broker told it. */
  readonly baseOffset: bigint | null
  /** The high watermark at which all in-sync replicas have the batch. */
  readonly endOffset: bigint
}

/**
 * Whether nothing was cut off the leader's log since the last answer. A leader keeps its log; but if another led in between
 * (that takes two changes of the epoch), it cut off what that one did not have. And a high watermark that goes back, or an
 * older epoch, is a topic that was deleted and made anew.
 */
export function continues(before: ReplicatedPartition, highWatermark: bigint, leaderEpoch: number): boolean {
  if (highWatermark < before.highWatermark) return false
  if (before.leaderEpoch < 0 || leaderEpoch < 0) return true
  return leaderEpoch === before.leaderEpoch || leaderEpoch === before.leaderEpoch + 1
}

/**
 * Whether the high watermark of one partition stands still while writes wait for it. Then writing more would only be more
 * to lose: consumers see nothing beyond it, and what its leader alone has goes with the leader.
 *
 * A standstill begins when the high watermark was seen in the same place for an interval and twice the time that it usually
 * takes to move. So replicas that are always a little behind hold nothing up. It ends with the first move.
 */
export class Standstill {
  readonly #intervalMs: number
  /** Since when something waits, or the high watermark last moved; null: nothing waits. */
  #sinceMs: number | null = null
  /** Smoothed time that the high watermark stands still while something waits for it, in milliseconds. */
  #usualMs = 0
  #isOn = false

  /** @param intervalMs `confirm.interval.ms`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
  }

  /** Nothing more is to be written. */
  get isOn(): boolean {
    return this.#isOn
  }

  /** Something waits for the high watermark from now on. */
  waits(nowMs: number): void {
    this.#sinceMs ??= nowMs
  }

  /** The high watermark moved. @param isReached nothing waits any more. */
  moved(nowMs: number, isReached: boolean): void {
    if (this.#sinceMs !== null) {
      // A long standstill is no habit: each counts as no more than what begins one.
      const stoodMs = Math.min(nowMs - this.#sinceMs, this.#limitMs(0))
      this.#usualMs = this.#usualMs * 0.8 + stoodMs * 0.2
    }
    this.#sinceMs = isReached ? null : nowMs
    this.#isOn = false
  }

  /**
   * The high watermark was looked at and had not moved.
   * @param roundTripMs how long a look takes.
   * @returns whether a standstill begins.
   */
  stays(nowMs: number, roundTripMs: number): boolean {
    if (this.#isOn || this.#sinceMs === null || nowMs - this.#sinceMs <= this.#limitMs(roundTripMs))
      return false
    this.#isOn = true
    return true
  }

  /** How long it has lasted, in milliseconds; 0 while there is none. */
  lastsMs(nowMs: number): number {
    return this.#isOn && this.#sinceMs !== null ? nowMs - this.#sinceMs : 0
  }

  /** Nothing waits any more: it got another outcome. */
  end(): void {
    this.#sinceMs = null
    this.#isOn = false
  }

  #limitMs(roundTripMs: number): number {
    return this.#intervalMs + 2 * Math.max(this.#usualMs, roundTripMs)
  }
}

/**
 * Whether a broker tells a debugging replica where its log ends (`ListOffsetsRequest.DEBUGGING_REPLICA_ID`), as Kafka does.
 * There are brokers that ignore who asks and answer the high watermark. By their answer everything would count as
 * replicated at once.
 *
 * An answer beyond a high watermark that was told after it proves that the broker tells the log end. An answer that is short
 * of what the log must hold shows that it does not: three of them, and no proof in between, decide. Until one or the other,
 * nobody knows.
 */
export class LogEndProof {
  #tellsLogEnd: boolean | null = null
  #shortAnswers = 0

  /** Null: not known. */
  get tellsLogEnd(): boolean | null {
    return this.#tellsLogEnd
  }

  /** Another broker answers from now on: nothing that is known holds for that broker. */
  forget(): void {
    this.#tellsLogEnd = null
    this.#shortAnswers = 0
  }

  /** An answer was beyond the high watermark that was told after it. */
  beyond(): void {
    this.#tellsLogEnd ??= true
    this.#shortAnswers = 0
  }

  /** An answer was short of what was written, or was an error. @returns whether that decides. */
  short(): boolean {
    if (this.#tellsLogEnd === false || ++this.#shortAnswers < shortAnswersThatDecide) return false
    this.#tellsLogEnd = false
    return true
  }
}

/** One can be a topic that was made anew between two answers. */
const shortAnswersThatDecide = 3
