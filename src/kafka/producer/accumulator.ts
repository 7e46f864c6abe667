import type { BufferPool } from '../../buffer-pool.ts'
import type { BufferMemory } from './buffer-memory.ts'
import { codecFor, type Codec } from './compression.ts'
import { partitionForKey } from './murmur2.ts'
import type { AuditCount } from './producer.ts'
import { RecordBatch } from './record-batch.ts'
import type { ProducerConfig } from '../../config/config.ts'

/**
 * Collects records into one open batch a partition and says which batches are due: full, lingered, or wanted by a flush
 * (as Kafka's `RecordAccumulator`). It never sends and never settles; batches of a partition leave it in the order in
 * which they were opened.
 */
export class Accumulator {
  readonly #config: ProducerConfig
  readonly #memory: BufferMemory
  readonly #buffers: BufferPool
  readonly #onReady: () => void
  readonly #awaitedLingerMs: number
  readonly #codec: Codec | null
  readonly #stamp: RecordStamp | null
  #queues: PartitionQueue[] = []
  /** Partition that records without a key go to until its batch is full (KIP-480). */
  #stickyPartition = 0
  #lingerTimer: NodeJS.Timeout | null = null
  #flushing = false
  /** No batch may be larger than the topic's `max.message.bytes`. */
  batchSizeLimitBytes: number

  /**
   * @param options.onReady is called when a batch has become due; it may be called when none has.
   * @param options.awaitedLingerMs how long a batch lingers that a client waits for; `linger.ms` if that is less.
   * @param options.stamp gives the records headers; null: they have no headers.
   */
  constructor(options: {
    config: ProducerConfig
    memory: BufferMemory
    buffers: BufferPool
    onReady: () => void
    awaitedLingerMs?: number
    stamp?: RecordStamp | null
  }) {
    this.#config = options.config
    this.#memory = options.memory
    this.#buffers = options.buffers
    this.#onReady = options.onReady
    this.#awaitedLingerMs = Math.min(options.awaitedLingerMs ?? Infinity, options.config.lingerMs)
    this.#codec = codecFor(options.config.compressionType)
    this.#stamp = options.stamp ?? null
    this.batchSizeLimitBytes = options.config.batchSizeBytes
    this.partitionCount = 1
  }

  /** Partitions that records are spread over. Setting it can only add some; see {@link shrink}. */
  get partitionCount(): number {
    return this.#queues.length
  }

  set partitionCount(count: number) {
    while (this.#queues.length < count) this.#queues.push(new PartitionQueue(this.#queues.length))
  }

  /** Forgets the partitions from `count` on and takes away their batches: the topic was made anew, with fewer. */
  shrink(count: number): RecordBatch[] {
    if (this.#stickyPartition >= count) this.#stickyPartition = 0
    return this.#queues.splice(count).flatMap((queue) => queue.takeAll())
  }

  /**
   * Copies one record into the open batch of its partition.
   * @param chargedBytes the room that was reserved for it; the batch holds it from now on.
   */
  append(
    body: Buffer,
    start: number,
    end: number,
    key: Buffer | null,
    keyStart: number,
    keyEnd: number,
    timestampMs: number,
    chargedBytes: number,
  ): RecordBatch {
    const queues = this.#queues
    let queue =
      key === null
        ? queues[this.#stickyPartition]!
        : queues[partitionForKey(key, keyStart, keyEnd, queues.length)]!
    const limit = this.batchSizeLimitBytes
    const stamp = this.#stamp
    let headers = stamp === null ? null : stamp.headersFor(queue.partition)
    const recordBytes = end - start + keyEnd - keyStart + (headers === null ? 0 : headers.length)
    let batch = queue.open ?? this.#open(queue, recordBytes)
    while (!batch.append(body, start, end, key, keyStart, keyEnd, timestampMs, limit, headers)) {
      this.#close(queue)
      this.#onReady()
      // Closing it may have moved the sticky partition on, to one that has an open batch of keyed records.
      if (key === null) queue = queues[this.#stickyPartition]!
      batch = queue.open ?? this.#open(queue, recordBytes)
      if (stamp !== null) headers = stamp.headersFor(queue.partition)
    }
    if (stamp !== null) stamp.advance(queue.partition)
    batch.chargedBytes += chargedBytes
    return batch
  }

  #open(queue: PartitionQueue, firstRecordBytes: number): RecordBatch {
    const buffer = this.#buffers.take(Math.max(queue.usualBatchBytes, firstRecordBytes + 96))
    const batch = new RecordBatch(
      queue.partition,
      performance.now(),
      buffer,
      this.#buffers.give,
      this.#awaited,
    )
    queue.open = batch
    if (this.#config.lingerMs === 0) this.#onReady()
    else this.#lingerTimer ??= setTimeout(this.#lingered, this.#config.lingerMs)
    return batch
  }

  readonly #awaited = (): void => {
    if (this.#awaitedLingerMs === 0) this.#onReady()
    else if (this.#awaitedLingerMs < this.#config.lingerMs) setTimeout(this.#onReady, this.#awaitedLingerMs)
  }

  readonly #lingered = (): void => {
    this.#lingerTimer = null
    this.#onReady()
    this.armLinger()
  }

  /** Sets the linger timer for the oldest open batch that is not due yet. One timer a stream, not one a batch. */
  armLinger(): void {
    if (this.#lingerTimer !== null) return
    const now = performance.now()
    let nextMs = Infinity
    for (const { open } of this.#queues) {
      if (open === null) continue
      const dueInMs = open.createdAtMs + this.#config.lingerMs - now
      if (dueInMs > 0 && dueInMs < nextMs) nextMs = dueInMs
    }
    if (nextMs !== Infinity) this.#lingerTimer = setTimeout(this.#lingered, Math.max(1, nextMs))
  }

  /** Every partition's queue. The sender walks it, from a place that moves on, so that no partition is always last. */
  get queues(): readonly PartitionQueue[] {
    return this.#queues
  }

  /**
   * The batch of a partition that can be sent now, without taking it; null if none is due or a codec still works on it.
   * An open batch that is due is closed by this.
   * @param hurriesAwaited false: one that a client waits for lingers as long as others.
   */
  peek(queue: PartitionQueue, nowMs: number, hurriesAwaited = true): RecordBatch | null {
    if (queue.isEmpty) {
      const { open } = queue
      if (open === null) return null
      const lingerMs = hurriesAwaited && open.isAwaited ? this.#awaitedLingerMs : this.#config.lingerMs
      if (!this.#flushing && nowMs - open.createdAtMs < lingerMs - 0.5) return null
      this.#close(queue)
    }
    const head = queue.head
    return head === null || head.compressing ? null : head
  }

  /** Takes away the batches, the open ones too, that were opened more than `timeoutMs` ago (`delivery.timeout.ms`). */
  takeExpired(nowMs: number, timeoutMs: number): RecordBatch[] {
    const expired: RecordBatch[] = []
    for (const queue of this.#queues) {
      while (queue.head !== null && nowMs - queue.head.createdAtMs > timeoutMs) expired.push(queue.take()!)
      const { open } = queue
      if (open === null || nowMs - open.createdAtMs <= timeoutMs) continue
      queue.open = null
      expired.push(open)
    }
    return expired
  }

  /** From now on every batch is due at once: the gateway is shutting down, or somebody waits. */
  flush(): void {
    this.#flushing = true
    this.#onReady()
  }

  /** Takes away all batches, the open ones too: what is left at the end of a shutdown. */
  takeAll(): RecordBatch[] {
    if (this.#lingerTimer !== null) clearTimeout(this.#lingerTimer)
    this.#lingerTimer = null
    return this.#queues.flatMap((queue) => queue.takeAll())
  }

  #close(queue: PartitionQueue): void {
    const batch = queue.open!
    queue.open = null
    batch.close()
    queue.usualBatchBytes = Math.min(batch.uncompressedBytes, this.batchSizeLimitBytes)
    queue.push(batch)
    this.#recharge(batch)
    if (queue.partition === this.#stickyPartition) this.#switchStickyPartition()
    if (this.#codec !== null) void this.#compress(batch, this.#codec)
  }

  async #compress(batch: RecordBatch, codec: Codec): Promise<void> {
    batch.compressing = true
    try {
      const compressed = await codec.compress(batch.records)
      if (batch.state !== 'closed') return
      // Where a codec makes it larger, it goes as it is: the broker might not take it, and the ledger has no room for it.
      if (compressed.length >= batch.records.length) return
      batch.setCompressed(codec.attribute, compressed)
      this.#recharge(batch)
    } catch {
      // It goes uncompressed: a codec that fails is no reason to lose records.
    } finally {
      batch.compressing = false
      this.#onReady()
    }
  }

  /** Gives back what was reserved above the batch's real size. */
  #recharge(batch: RecordBatch): void {
    const surplus = batch.chargedBytes - batch.sizeBytes
    if (surplus <= 0) return
    batch.chargedBytes -= surplus
    this.#memory.unreserve(surplus)
  }

  #switchStickyPartition(): void {
    const count = this.#queues.length
    if (count > 1)
      this.#stickyPartition = (this.#stickyPartition + 1 + Math.floor(Math.random() * (count - 1))) % count
  }
}

/** Gives each record headers of its own, as `encodeHeaders` writes them. */
export interface RecordStamp {
  /** The most that a record gets more by it. */
  readonly headerBytes: number
  /** The headers of the next record of a partition, valid until the next call. */
  headersFor(partition: number): Buffer
  /** The record with these headers was appended. */
  advance(partition: number): void
  /** How many records of each partition have a number; empty where the stamp gives none. */
  readonly counts: readonly AuditCount[]
}

/** The batches of one partition: those that are closed, oldest first, and the open one behind them. */
export class PartitionQueue {
  readonly partition: number
  open: RecordBatch | null = null
  /** Size of the last batch: the next one starts with a buffer as large, and does not grow step by step. */
  usualBatchBytes = 0
  #closed: RecordBatch[] = []
  #first = 0

  constructor(partition: number) {
    this.partition = partition
  }

  /** No closed batch is waiting. */
  get isEmpty(): boolean {
    return this.#first === this.#closed.length
  }

  /** The oldest closed batch, left where it is. */
  get head(): RecordBatch | null {
    return this.#closed[this.#first] ?? null
  }

  /** Adds a closed batch behind the others. */
  push(batch: RecordBatch): void {
    this.#closed.push(batch)
  }

  /** Takes the oldest closed batch. */
  take(): RecordBatch | null {
    const batch = this.#closed[this.#first]
    if (batch === undefined) return null
    this.#first++
    if (this.#first === this.#closed.length || this.#first === compactAt) {
      this.#closed.splice(0, this.#first)
      this.#first = 0
    }
    return batch
  }

  /** Takes all batches, the open one too. */
  takeAll(): RecordBatch[] {
    const batches = this.#closed.splice(0).slice(this.#first)
    this.#first = 0
    if (this.open !== null) batches.push(this.open)
    this.open = null
    return batches
  }
}

/** A queue is moved together once this many of its batches were taken: an array's `shift` would move it every time. */
const compactAt = 1024
