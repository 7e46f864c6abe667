import type { ProducerBatch } from '../producer-batch.ts'

/** The state of one partition, as the last answers of its leader showed it. `confirmation.ts` fills it in. */
export class ReplicatedPartition {
  /** Batches that are in the leader's log and not known to be replicated, in the order of the log. */
  readonly waiting: AppendedBatch[] = []
  /** Batches that were written before the broker told a log end that did not show them, in the order of writing. */
  readonly unproved: ProducerBatch[] = []
  unprovedRecords = 0
  highWatermark = 0n
  /** -1 before the first answer, and if the broker tells no epoch. */
  leaderEpoch = -1
  /** The leader's log goes at least to this offset, without the unproved batches; null: not known. */
  end: bigint | null = null
  /** The log end that the first answer of the present barrier told; null before that answer. */
  answeredLogEnd: bigint | null = null
  /** That log end did not show all records that were written before it. */
  isShort = false
  readonly still: Standstill

  constructor(intervalMs: number) {
    this.still = new Standstill(intervalMs)
  }

  /** The log goes at least to this offset if it has the unproved batches. */
  get grownEnd(): bigint {
    return (this.end ?? 0n) + BigInt(this.unprovedRecords)
  }
}

/** A batch that is in the leader's log. */
export interface AppendedBatch {
  readonly batch: ProducerBatch
  /** Offset of the first record; null if the broker did not tell it. */
  readonly baseOffset: bigint | null
  /** The high watermark at which all in-sync replicas have the batch. */
  readonly endOffset: bigint
}

/**
 * Whether nothing was cut off the leader's log since the last answer. A leader keeps its log. But if another broker led in between (the epoch
 * changed at least twice), this broker then cut off the records that the other one did not have. A high watermark that goes back, or an
 * older epoch, means that the topic was deleted and made anew.
 */
export function continues(before: ReplicatedPartition, highWatermark: bigint, leaderEpoch: number): boolean {
  if (highWatermark < before.highWatermark) return false
  if (before.leaderEpoch < 0 || leaderEpoch < 0) return true
  return leaderEpoch === before.leaderEpoch || leaderEpoch === before.leaderEpoch + 1
}

/**
 * Whether the high watermark of one partition stands still while writes wait for it. During a standstill, more writes would only be more to
 * lose: consumers see no record beyond the high watermark, and records that only the leader has are lost if the leader dies.
 *
 * A standstill begins when the high watermark has stayed in one place for longer than an interval and twice the time that it usually stays.
 * So replicas that are always a little behind hold nothing up. A standstill ends when the high watermark moves.
 */
export class Standstill {
  readonly #intervalMs: number
  /** When the first write began to wait, or when the high watermark last moved, if that was later; null: no write waits. */
  #sinceMs: number | null = null
  /** Smoothed time that the high watermark stands still while something waits for it, in milliseconds. */
  #usualMs = 0
  #isOn = false

  /** @param intervalMs `confirm.interval.ms`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
  }

  /** There is a standstill: nothing more is to be written. */
  get isOn(): boolean {
    return this.#isOn
  }

  /** A write waits for the high watermark from now on. */
  waits(nowMs: number): void {
    this.#sinceMs ??= nowMs
  }

  /** The high watermark moved. @param isReached no write waits any more. */
  moved(nowMs: number, isReached: boolean): void {
    if (this.#sinceMs !== null) {
      // A long standstill must not count as usual. So each stay counts at most as the time that begins a standstill.
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

  /** How long the standstill has lasted, in milliseconds; 0 if there is none. */
  lastsMs(nowMs: number): number {
    return this.#isOn && this.#sinceMs !== null ? nowMs - this.#sinceMs : 0
  }

  /** No write waits any more: the writes got another outcome. */
  end(): void {
    this.#sinceMs = null
    this.#isOn = false
  }

  #limitMs(roundTripMs: number): number {
    return this.#intervalMs + 2 * Math.max(this.#usualMs, roundTripMs)
  }
}

/**
 * Whether a broker tells a debugging replica (`ListOffsetsRequest.DEBUGGING_REPLICA_ID`) where its log ends, as Kafka's brokers do. Some
 * brokers ignore which replica asks, and answer the high watermark. By that answer every write would count as replicated at once.
 *
 * An answer that is beyond a later high watermark proves that the broker tells the log end. An answer that does not show all records that the
 * log must have speaks against it. Three of these answers without a proof in between decide that the broker does not tell the log end.
 * Before either of these it is not known.
 */
export class LogEndProof {
  #tellsLogEnd: boolean | null = null
  #shortAnswers = 0

  /** Null: not known. */
  get tellsLogEnd(): boolean | null {
    return this.#tellsLogEnd
  }

  /** Another broker answers from now on, of which nothing is known. */
  forget(): void {
    this.#tellsLogEnd = null
    this.#shortAnswers = 0
  }

  /** A log end was beyond the high watermark that the broker told after it. */
  beyond(): void {
    this.#tellsLogEnd ??= true
    this.#shortAnswers = 0
  }

  /** A log end did not show all records that were written, or there was an error instead. @returns whether that decides. */
  short(): boolean {
    if (this.#tellsLogEnd === false || ++this.#shortAnswers < shortAnswersThatDecide) return false
    this.#tellsLogEnd = false
    return true
  }
}

/** One such answer can come from a topic that was made anew between two answers. */
const shortAnswersThatDecide = 3
