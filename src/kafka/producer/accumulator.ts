import type { BufferPool } from '../../buffer-pool.ts'
import type { BufferMemory } from './buffer-memory.ts'
import { codecFor, type Codec } from '../protocol/compression.ts'
import { murmur2, partitionForHash } from '../protocol/murmur2.ts'
import type { RecordHeaders } from './record-headers.ts'
import { LingerClock } from './linger-clock.ts'
import { ProducerBatch } from './producer-batch.ts'
import { smallBufferBytes } from '../protocol/record-batch.ts'
import type { RecordBytes } from '../protocol/record-bytes.ts'
import { readRecords } from '../protocol/record-format.ts'
import type { ProducerConfig } from '../../config/config.ts'

/**
 * Collects records into one open batch a partition (as Kafka's `RecordAccumulator`). It never sends a batch and never gives one its outcome.
 * Batches of records with keys leave their partition's queue in the order in which they were opened.
 *
 * A batch closes when it is:
 * - full: `RecordBatch.append` (protocol/record-batch.ts) refuses the next record, by {@link batchSizeLimitBytes}. `TopicFollower.follow`
 *   (topic-follower.ts) sets that limit from `batch.size`, `max.request.size` and the topic's `max.message.bytes`;
 * - due, when a sender looks ({@link peek}): it has lingered for `linger.ms`, or for `awaitedLingerMs` (stream-producer.ts) while a client
 *   waits for its outcome, unless the link does not hurry such batches now (`hurriesAwaited` in at-most-once/link.ts);
 * - taken out: the stream shuts down ({@link flush}), the batch expires, or the topic has another number of partitions.
 *
 * CONTRIBUTING.md ("When a batch closes") has what else follows from a change.
 *
 * Records without a key belong to no partition while they wait. They have a queue of their own. A partition that can be written to takes
 * its next batch from its own queue or from this one, whichever batch is older. So a partition that cannot be written to holds up no
 * record without a key, and a slow partition gets fewer of them. Kafka chooses a partition at append (KIP-794), and the partition may turn
 * out to be slow afterwards.
 */
export class Accumulator {
  readonly #config: ProducerConfig
  readonly #memory: BufferMemory
  readonly #buffers: BufferPool
  readonly #notify: () => void
  readonly #awaitedLingerMs: number
  readonly #codec: Codec | null
  readonly #headers: RecordHeaders | null
  /** See {@link RecordHeaders.hasNumbers}. */
  readonly #hasNumbers: boolean
  #queues: PartitionQueue[] = []
  /** Records without a key. */
  readonly #unkeyed = new PartitionQueue(noPartition)
  readonly #clock: LingerClock
  #flushing = false
  /** No batch may be larger than the topic's `max.message.bytes`. */
  batchSizeLimitBytes: number

  /**
   * @param options.onReady is called when a batch has become due, and sometimes when none has.
   * @param options.awaitedLingerMs how long a batch lingers while a client waits for its outcome. `linger.ms` holds if it is less.
   * @param options.headers gives the records headers; null: the records have no headers.
   * @param options.clock says when batches have lingered. Left out: the clock is the accumulator's own.
   */
  constructor(options: {
    config: ProducerConfig
    memory: BufferMemory
    buffers: BufferPool
    onReady: () => void
    awaitedLingerMs?: number
    headers?: RecordHeaders | null
    clock?: LingerClock
  }) {
    this.#config = options.config
    this.#memory = options.memory
    this.#buffers = options.buffers
    this.#notify = options.onReady
    this.#awaitedLingerMs = Math.min(options.awaitedLingerMs ?? Infinity, options.config.lingerMs)
    this.#codec = codecFor(options.config.compressionType)
    this.#headers = options.headers ?? null
    this.#clock = options.clock ?? new LingerClock(options.config.lingerMs)
    this.#hasNumbers = this.#headers?.hasNumbers ?? false
    this.batchSizeLimitBytes = options.config.batchSizeBytes
    this.#queues.push(new PartitionQueue(0))
  }

  /** A batch may be due. A sender that took all due batches sets this to false, and need not look again before `onReady` is called. */
  mayBeDue = true

  readonly #onReady = (): void => {
    this.mayBeDue = true
    this.#notify()
  }

  /** Number of partitions to which records are appended: 1 before the first {@link repartition}. */
  get partitionCount(): number {
    return this.#queues.length
  }

  /**
   * The topic has another number of partitions. The records with keys that wait are appended again, each to the partition that its key has
   * now. The records of a key keep their order. Batches without keys that no partition has taken stay as they are.
   * @param first batches that were on their way to a partition that is gone. They go before all batches that wait, with keys or without.
   * @returns the batches whose records are in other batches now. The caller must not use them any more, and they get no outcome.
   */
  repartition(count: number, first: readonly ProducerBatch[] = []): ProducerBatch[] {
    const waiting = this.#queues.flatMap((queue) => queue.takeAll())
    const unkeyed = this.#unkeyed.takeAll()
    // The records of these batches get other numbers, so a reader of the topic must not miss the numbers that they had.
    for (const batch of [...first, ...waiting]) if (batch.state !== 'open') this.#headers?.takeBack(batch)
    this.#queues = Array.from({ length: count }, (_, partition) => new PartitionQueue(partition))
    const batches = [...first, ...waiting]
    for (const batch of batches) this.#appendAgain(batch)
    // Later records get batches of their own: callers of `append` count places from the first record of a batch.
    for (const queue of [...this.#queues, this.#unkeyed]) if (queue.open !== null) this.#close(queue)
    for (const batch of unkeyed) {
      if (batch.state === 'open') this.#unkeyed.open = batch
      else this.#unkeyed.push(batch)
    }
    if (batches.length > 0) this.#onReady()
    return batches
  }

  #appendAgain(batch: ProducerBatch): void {
    if (batch.state === 'open') batch.close()
    const records = batch.plainRecords()
    let place = 0
    for (const { record, headers } of readRecords(records, batch)) {
      const target = this.#append(this.#queueFor(record), record, this.#headers?.ofMoved(headers) ?? headers)
      target.createdAtMs = Math.min(target.createdAtMs, batch.createdAtMs)
      const weighs = target.uncompressedBytes - target.chargedBytes
      if (weighs > 0) {
        this.#memory.take(weighs)
        target.chargedBytes += weighs
      }
      batch.goesOnIn(target, place++)
    }
    this.#memory.unreserve(batch.chargedBytes)
  }

  /**
   * Copies one record into the open batch of its partition.
   * @param chargedBytes the room that was reserved for the record. The batch holds this room from now on.
   */
  append(record: RecordBytes, chargedBytes: number): ProducerBatch {
    const headers = this.#headers === null ? null : this.#headers.encoded
    const batch = this.#append(this.#queueFor(record), record, headers)
    batch.chargedBytes += chargedBytes
    return batch
  }

  #queueFor({ key, keyStart, keyEnd }: RecordBytes): PartitionQueue {
    if (key === null) return this.#unkeyed
    return this.#queues[partitionForHash(murmur2(key, keyStart, keyEnd), this.#queues.length)]!
  }

  #append(queue: PartitionQueue, record: RecordBytes, headers: Buffer | null): ProducerBatch {
    const limit = this.batchSizeLimitBytes
    const recordBytes = record.valueBytes + record.keyBytes + record.headerBytes + (headers?.length ?? 0)
    let batch = queue.open ?? this.#open(queue, recordBytes)
    while (!batch.append(record, limit, headers)) {
      this.#close(queue)
      this.#onReady()
      batch = this.#open(queue, recordBytes)
    }
    return batch
  }

  #open(queue: PartitionQueue, firstRecordBytes: number): ProducerBatch {
    // A batch of a few records that is a little larger than the last one need not grow.
    const usualBytes = Math.max(queue.usualBatchBytes, Math.min(smallBufferBytes, this.batchSizeLimitBytes))
    const buffer = this.#buffers.take(Math.max(usualBytes, firstRecordBytes + 96))
    const batch = new ProducerBatch(
      queue.partition,
      performance.now(),
      buffer,
      this.#buffers.give,
      this.#awaited,
    )
    queue.open = batch
    batch.period = this.#clock.period
    if (this.#config.lingerMs === 0) this.#onReady()
    else this.#clock.opened(this.#onReady)
    return batch
  }

  readonly #awaited = (): void => {
    if (this.#awaitedLingerMs === 0) this.#onReady()
    else if (this.#awaitedLingerMs < this.#config.lingerMs) setTimeout(this.#onReady, this.#awaitedLingerMs)
  }

  /** The queues of all partitions. Each round of a sender begins at another partition, so that no partition is always last. */
  get queues(): readonly PartitionQueue[] {
    return this.#queues
  }

  /** Records without a key wait for a partition. */
  get hasUnkeyed(): boolean {
    return !this.#unkeyed.isEmpty || this.#unkeyed.open !== null
  }

  /**
   * The batch that can be sent to a partition now: the older one of the partition's next batch and of the next batch without keys. Closes
   * the batch if it is open and due. {@link take} takes it out of its queue. If records get numbers, a due batch without keys moves to the
   * partition's queue here, since its place among the numbered batches has to be certain.
   * @param hurriesAwaited false: a batch whose outcome a client waits for lingers as long as other batches.
   * @param takesUnkeyed false: batches without keys are left out.
   * @returns null if no batch is due, or if a codec still works on the batch.
   */
  peek(
    queue: PartitionQueue,
    nowMs: number,
    hurriesAwaited = true,
    takesUnkeyed = true,
  ): ProducerBatch | null {
    const own = this.#due(queue, nowMs, hurriesAwaited)
    const unkeyed = takesUnkeyed ? this.#due(this.#unkeyed, nowMs, hurriesAwaited) : null
    if (unkeyed !== null && (own === null || unkeyed.createdAtMs < own.createdAtMs)) {
      if (unkeyed.state === 'open') this.#close(this.#unkeyed)
      if (!this.#hasNumbers) return unkeyed.compressing ? null : unkeyed
      // Its numbers have to follow the numbers of the batches that are closed already, so the batch goes behind them.
      this.take(queue, unkeyed)
      queue.push(unkeyed)
      this.#finish(unkeyed)
    } else if (own?.state === 'open') {
      this.#close(queue)
    }
    const { head } = queue
    return head === null || head.compressing ? null : head
  }

  /** Takes the batch that {@link peek} gave for the partition out of its queue. */
  take(queue: PartitionQueue, batch: ProducerBatch): void {
    if (batch.partition !== noPartition) {
      queue.take()
      return
    }
    this.#unkeyed.take()
    batch.partition = queue.partition
  }

  /** The next batch of a queue if the batch is due, whether it is closed or open. */
  #due(queue: PartitionQueue, nowMs: number, hurriesAwaited: boolean): ProducerBatch | null {
    const { head, open } = queue
    if (head !== null || open === null) return head
    if (this.#flushing || open.period < this.#clock.period || this.#config.lingerMs === 0) return open
    const isHurried = hurriesAwaited && open.isAwaited
    return isHurried && nowMs - open.createdAtMs >= this.#awaitedLingerMs - 0.5 ? open : null
  }

  /** Takes out the batches, the open ones too, that were opened more than `timeoutMs` ago (`delivery.timeout.ms`). */
  takeExpired(nowMs: number, timeoutMs: number): ProducerBatch[] {
    const expired: ProducerBatch[] = []
    for (const queue of [...this.#queues, this.#unkeyed]) {
      while (queue.head !== null && nowMs - queue.head.createdAtMs > timeoutMs) expired.push(queue.take()!)
      const { open } = queue
      if (open === null || nowMs - open.createdAtMs <= timeoutMs) continue
      queue.open = null
      expired.push(open)
    }
    return this.#withNumbers(expired)
  }

  /** Takes out all batches of records without a key, the open one too. */
  takeUnkeyed(): ProducerBatch[] {
    return this.#withNumbers(this.#unkeyed.takeAll())
  }

  /** From now on every batch is due at once: the stream is shutting down. */
  flush(): void {
    this.#flushing = true
    this.#onReady()
  }

  /** Takes out all batches, the open ones too: what is left at the end of a shutdown. */
  takeAll(): ProducerBatch[] {
    this.#clock.leave(this.#onReady)
    return this.#withNumbers([...this.#queues, this.#unkeyed].flatMap((queue) => queue.takeAll()))
  }

  /** Numbers the batches that have no numbers yet. Batches that are never sent need numbers, so that a reader can tell that they are missing. */
  #withNumbers(batches: ProducerBatch[]): ProducerBatch[] {
    if (!this.#hasNumbers) return batches
    for (const batch of batches) {
      if (batch.partition !== noPartition && batch.state !== 'open') continue
      batch.partition = Math.max(0, batch.partition)
      this.#headers!.number(batch)
    }
    return batches
  }

  #close(queue: PartitionQueue): void {
    const batch = queue.open!
    queue.open = null
    batch.close()
    queue.usualBatchBytes = Math.min(batch.uncompressedBytes, this.batchSizeLimitBytes)
    queue.push(batch)
    this.#recharge(batch)
    if (!this.#hasNumbers || queue !== this.#unkeyed) this.#finish(batch)
  }

  /** Numbers a closed batch and compresses it. A batch gets numbers only when its place in its partition is certain. */
  #finish(batch: ProducerBatch): void {
    this.#headers?.number(batch)
    if (this.#codec !== null) void this.#compress(batch, this.#codec)
  }

  async #compress(batch: ProducerBatch, codec: Codec): Promise<void> {
    batch.compressing = true
    try {
      const compressed = await codec.compress(batch.records)
      batch.compressing = false
      if (batch.state !== 'closed') return
      // A batch that the codec makes larger goes uncompressed: the broker might refuse the larger one, and no room is reserved for it.
      if (compressed.length >= batch.records.length) return
      batch.setCompressed(codec.attribute, compressed)
      this.#recharge(batch)
    } catch {
      // The batch goes uncompressed: a codec that fails is no reason to lose records.
    } finally {
      batch.compressing = false
      this.#onReady()
    }
  }

  /** Gives back the room that was reserved above the real size of the batch. */
  #recharge(batch: ProducerBatch): void {
    const surplus = batch.chargedBytes - batch.sizeBytes
    if (surplus <= 0) return
    batch.chargedBytes -= surplus
    this.#memory.unreserve(surplus)
  }
}

/** The batches of one partition: the closed ones, oldest first, and the open one behind them. */
export class PartitionQueue {
  readonly partition: number
  open: ProducerBatch | null = null
  /** Size of the last batch. The next batch starts with a buffer of this size, so that the buffer need not grow. */
  usualBatchBytes = 0
  #closed: ProducerBatch[] = []
  #first = 0

  constructor(partition: number) {
    this.partition = partition
  }

  /** No closed batch is waiting. */
  get isEmpty(): boolean {
    return this.#first === this.#closed.length
  }

  /** The oldest closed batch. It stays in the queue. */
  get head(): ProducerBatch | null {
    return this.#closed[this.#first] ?? null
  }

  /** Adds a closed batch behind the others. */
  push(batch: ProducerBatch): void {
    this.#closed.push(batch)
  }

  /** Takes out the oldest closed batch. */
  take(): ProducerBatch | null {
    const batch = this.#closed[this.#first]
    if (batch === undefined) return null
    this.#first++
    if (this.#first === this.#closed.length || this.#first === compactAt) {
      this.#closed.splice(0, this.#first)
      this.#first = 0
    }
    return batch
  }

  /** Takes out all batches, the open one too. */
  takeAll(): ProducerBatch[] {
    const batches = this.#closed.splice(0).slice(this.#first)
    this.#first = 0
    if (this.open !== null) batches.push(this.open)
    this.open = null
    return batches
  }
}

/** The partition of a batch of records without a key that no partition has taken. */
const noPartition = -1

/** A queue's array is compacted once this many batches were taken. An array's `shift` would move all batches at each take. */
const compactAt = 1024
