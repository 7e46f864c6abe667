import { randomBytes } from 'node:crypto'
import type { ReadBatch } from './record-batch-reader.ts'

/** A record in the log of a model partition. */
export interface StoredRecord {
  readonly key: string | null
  readonly value: string
  readonly offset: number
  readonly headers: Readonly<Record<string, string>>
}

/** A topic of the model cluster. Its logs outlive it, so that a test can count what was ever stored. */
export class ModelTopic {
  readonly name: string
  /** 16 bytes in hexadecimal digits; no other topic has it. */
  readonly id = randomBytes(16).toString('hex')
  readonly partitions: ModelPartition[] = []
  maxMessageBytes = 1_048_588
  /** As text, since a broker can tell anything. */
  cleanupPolicy = 'delete'
  isForbidden = false
  /** The credentials may see it, and not write to it. */
  isReadOnly = false
  /** Its settings may be read (DESCRIBE_CONFIGS). */
  isDescribable = true
  /** How long the replicas take to have what is written with acks=all. */
  replicasMs = 0

  constructor(name: string) {
    this.name = name
  }
}

/**
 * One partition: the log of its leader, how much of it the replicas have, and what is known of idempotent producers
 * (KIP-98).
 */
export class ModelPartition {
  readonly log: StoredRecord[] = []
  leaderEpoch = 0
  /** Where the log ended when the leader was elected; it tells no high watermark below this (KIP-207). */
  #epochStart = 0
  #highWatermark = 0
  /** Ends of batches that the replicas do not have, and since when they could. */
  #unreplicated: { readonly end: number; readonly sinceMs: number }[] = []
  /** The leader, and the leader that metadata tells. They differ for a while after the leader has moved. */
  leader: number
  publishedLeader: number
  /** The leader refuses before: it is still loading the log. By `performance.now()`. */
  onlineAtMs = 0
  /** Error codes that the next produces get, in order. */
  readonly refusals: number[] = []
  /** Values that a batch is refused for, as a compacted topic refuses records without a key (INVALID_RECORD). */
  refuses: (value: string, key: string | null) => boolean = () => false
  readonly #producers = new Map<bigint, ProducerState>()
  /** The replicas fetch nothing, so the high watermark stays as it is. */
  isFrozen = false

  constructor(leader: number) {
    this.leader = this.publishedLeader = leader
  }

  /**
   * How far all replicas have the log; null while a new leader does not know.
   * @param lagMs what they are behind.
   */
  highWatermark(lagMs: number): number | null {
    while (
      !this.isFrozen &&
      this.#unreplicated.length > 0 &&
      this.#unreplicated[0]!.sinceMs + lagMs <= performance.now()
    )
      this.#highWatermark = this.#unreplicated.shift()!.end
    return this.#highWatermark < this.#epochStart ? null : this.#highWatermark
  }

  /**
   * Another replica takes over, with what it has: all that every replica has, and `share` of the rest. One that is elected
   * again keeps its log.
   */
  elect(leader: number, lagMs: number, share: number): void {
    this.highWatermark(lagMs)
    const isOther = leader !== this.leader
    const behind = this.log.length - this.#highWatermark
    const kept = this.#highWatermark + Math.round(behind * (isOther ? share : 1))
    this.log.length = kept
    this.leader = leader
    this.leaderEpoch++
    this.#epochStart = kept
    this.#unreplicated = kept > this.#highWatermark ? [{ end: kept, sinceMs: performance.now() }] : []
  }

  /** Appends as a leader would, or says why not. @param acks all: it is answered only when the replicas have it. */
  append(batch: ReadBatch, maxMessageBytes: number, acks: number): { errorCode: number; baseOffset: number } {
    const refusal = this.refusals.shift() ?? 0
    if (refusal !== 0 && !errorsAfterAppend.has(refusal)) return { errorCode: refusal, baseOffset: -1 }
    if (!batch.isCrcRight) return { errorCode: 2, baseOffset: -1 }
    if (batch.sizeBytes > maxMessageBytes) return { errorCode: 10, baseOffset: -1 }
    if (batch.records?.some(({ key, value }) => this.refuses(value, key)) === true)
      return { errorCode: 87, baseOffset: -1 }
    const known = this.#checkSequence(batch)
    if (known !== null) return known
    const baseOffset = this.log.length
    for (const { key, value, offsetDelta, headers } of batch.records!)
      this.log.push({ key, value, offset: baseOffset + offsetDelta, headers: Object.fromEntries(headers) })
    this.#unreplicated.push({ end: this.log.length, sinceMs: performance.now() })
    if (acks === -1) this.highWatermark(-Infinity)
    this.#remember(batch, baseOffset)
    return { errorCode: refusal, baseOffset: refusal === 0 ? baseOffset : -1 }
  }

  /** Another writer appends records of this value. */
  appendOf(value: string, count: number): void {
    for (let i = 0; i < count; i++) this.log.push({ key: null, value, offset: this.log.length, headers: {} })
    this.#unreplicated.push({ end: this.log.length, sinceMs: performance.now() })
  }

  /** The log grows by records that are never read and take no memory. */
  skip(count: number): void {
    this.log.length += count
    this.#unreplicated.push({ end: this.log.length, sinceMs: performance.now() })
  }

  /** `ProducerStateManager` and `ProducerAppendInfo.checkSequence`: null if the batch is to be appended. */
  #checkSequence(batch: ReadBatch): { errorCode: number; baseOffset: number } | null {
    const state = this.#producers.get(batch.producerId)
    if (batch.producerId < 0n || state === undefined) return null
    if (batch.producerEpoch < state.epoch) return { errorCode: 47, baseOffset: -1 }
    const isFirstOfEpoch = batch.producerEpoch > state.epoch && batch.baseSequence === 0
    if (isFirstOfEpoch) return null
    const twin = state.recent.find(
      ({ sequence, count }) => sequence === batch.baseSequence && count === batch.recordCount,
    )
    if (twin !== undefined) return { errorCode: 0, baseOffset: twin.baseOffset }
    return batch.baseSequence === state.nextSequence ? null : { errorCode: 45, baseOffset: -1 }
  }

  #remember(batch: ReadBatch, baseOffset: number): void {
    if (batch.producerId < 0n) return
    const { producerId, producerEpoch, baseSequence, recordCount } = batch
    const recent = this.#producers.get(producerId)?.recent ?? []
    recent.push({ sequence: baseSequence, count: recordCount, baseOffset })
    this.#producers.set(producerId, {
      epoch: producerEpoch,
      nextSequence: (baseSequence + recordCount) % 2 ** 31,
      recent: recent.slice(-5),
    })
  }
}

interface ProducerState {
  readonly epoch: number
  readonly nextSequence: number
  readonly recent: { sequence: number; count: number; baseOffset: number }[]
}

/** REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS_AFTER_APPEND: the leader has the batch all the same. */
const errorsAfterAppend = new Set([7, 20])
