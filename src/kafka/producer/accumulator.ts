import type { BufferPool } from '../../buffer-pool.ts'
import type { BufferMemory } from './buffer-memory.ts'
import { codecFor, type Codec } from '../protocol/compression.ts'
import { murmur2, partitionForHash } from '../protocol/murmur2.ts'
import type { RecordHeaders } from './record-headers.ts'
import { ProducerBatch } from './producer-batch.ts'
import type { RecordBytes } from '../protocol/record-bytes.ts'
import { readRecords } from '../protocol/record-format.ts'
import type { ProducerConfig } from '../../config/config.ts'

/**
 * Collects records into one open batch a partition and says which batches are due: full, lingered, or wanted by a flush
 * (as Kafka's `RecordAccumulator`). It never sends and never settles; batches of a partition's keys leave it in the order in
 * which they were opened.
 *
 * Records without a key belong to no partition while they wait: they have a queue of their own, and a partition that can be
 * written to takes a batch of it when it takes one of its own. So a partition that cannot be written to holds up none of
 * them, and one that is slow gets fewer (what KIP-794 does by choosing a partition at append, where it can turn out wrong).
 */
export class Accumulator {
  readonly #config: ProducerConfig
  readonly #memory: BufferMemory
  readonly #buffers: BufferPool
  readonly #onReady: () => void
  readonly #awaitedLingerMs: number
  readonly #codec: Codec | null
  readonly #headers: RecordHeaders | null
  #queues: PartitionQueue[] = []
  /** Records without a key. */
  readonly #unkeyed = new PartitionQueue(noPartition)
  #lingerTimer: NodeJS.Timeout | null = null
  #flushing = false
  /** No batch may be larger than the topic's `max.message.bytes`. */
  batchSizeLimitBytes: number

  /**
   * @param options.onReady is called when a batch has become due; it may be called when none has.
   * @param options.awaitedLingerMs how long a batch lingers that a client waits for; `linger.ms` if that is less.
   * @param options.headers gives the records headers; null: they have no headers.
   */
  constructor(options: {
    config: ProducerConfig
    memory: BufferMemory
    buffers: BufferPool
    onReady: () => void
    awaitedLingerMs?: number
    headers?: RecordHeaders | null
  }) {
    this.#config = options.config
    this.#memory = options.memory
    this.#buffers = options.buffers
    this.#onReady = options.onReady
    this.#awaitedLingerMs = Math.min(options.awaitedLingerMs ?? Infinity, options.config.lingerMs)
    this.#codec = codecFor(options.config.compressionType)
    this.#headers = options.headers ?? null
    this.batchSizeLimitBytes = options.config.batchSizeBytes
    this.#queues.push(new PartitionQueue(0))
  }

  /** Partitions that records are spread over: 1 before {@link repartition}. */
  get partitionCount(): number {
    return this.#queues.length
  }

  /**
   * The topic has another number of partitions: what waits with a key is appended again, in the order of each key, to the
   * partition that the key has now.
   * @param first batches that go before all that waits: they were on their way to a partition that is gone.
   * @returns the batches whose records are in others now. Nobody may use them any more, and they get no outcome.
   */
  repartition(count: number, first: readonly ProducerBatch[] = []): ProducerBatch[] {
    const waiting = this.#queues.flatMap((queue) => queue.takeAll())
    // What was on its way to a partition that is gone is not there: its numbers are missing nowhere.
    for (const batch of [...first, ...waiting]) if (batch.state !== 'open') this.#headers?.takeBack(batch)
    this.#queues = Array.from({ length: count }, (_, partition) => new PartitionQueue(partition))
    const batches = [...first, ...waiting]
    for (const batch of batches) this.#appendAgain(batch)
    // What comes later gets batches of its own: who appends counts places from the first record of a batch.
    for (const queue of [...this.#queues, this.#unkeyed]) if (queue.open !== null) this.#close(queue)
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
   * @param chargedBytes the room that was reserved for it; the batch holds it from now on.
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
    const recordBytes = record.valueBytes + record.keyBytes + (headers === null ? 0 : headers.length)
    let batch = queue.open ?? this.#open(queue, recordBytes)
    while (!batch.append(record, limit, headers)) {
      this.#close(queue)
      this.#onReady()
      batch = this.#open(queue, recordBytes)
    }
    return batch
  }

  #open(queue: PartitionQueue, firstRecordBytes: number): ProducerBatch {
    const buffer = this.#buffers.take(Math.max(queue.usualBatchBytes, firstRecordBytes + 96))
    const batch = new ProducerBatch(
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
    for (let partition = noPartition; partition < this.#queues.length; partition++) {
      const { open } = this.#queues[partition] ?? this.#unkeyed
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

  /** Records without a key wait. */
  get hasUnkeyed(): boolean {
    return !this.#unkeyed.isEmpty || this.#unkeyed.open !== null
  }

  /**
   * The batch that can be sent to a partition now, without taking it: the older one of the partition's own and of those
   * without keys. Null if none is due or a codec still works on it. An open batch that is due is closed by this.
   * @param hurriesAwaited false: one that a client waits for lingers as long as others.
   * @param takesUnkeyed false: only the partition's own.
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
      if (this.#headers === null) return unkeyed.compressing ? null : unkeyed
      // Its numbers have to follow those of what is closed already, so it goes behind that.
      this.take(queue, unkeyed)
      queue.push(unkeyed)
      this.#finish(unkeyed)
    } else if (own?.state === 'open') {
      this.#close(queue)
    }
    const { head } = queue
    return head === null || head.compressing ? null : head
  }

  /** Takes the batch that {@link peek} gave for the partition. */
  take(queue: PartitionQueue, batch: ProducerBatch): void {
    if (batch.partition !== noPartition) {
      queue.take()
      return
    }
    this.#unkeyed.take()
    batch.partition = queue.partition
  }

  /** The next batch of a queue if it is due, closed or open still. */
  #due(queue: PartitionQueue, nowMs: number, hurriesAwaited: boolean): ProducerBatch | null {
    const { head, open } = queue
    if (head !== null || open === null) return head
    const lingerMs = hurriesAwaited && open.isAwaited ? this.#awaitedLingerMs : this.#config.lingerMs
    return this.#flushing || nowMs - open.createdAtMs >= lingerMs - 0.5 ? open : null
  }

  /** Takes away the batches, the open ones too, that were opened more than `timeoutMs` ago (`delivery.timeout.ms`). */
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

  /** Takes away what has no key, the open batch too. */
  takeUnkeyed(): ProducerBatch[] {
    return this.#withNumbers(this.#unkeyed.takeAll())
  }

  /** From now on every batch is due at once: the gateway is shutting down, or somebody waits. */
  flush(): void {
    this.#flushing = true
    this.#onReady()
  }

  /** Takes away all batches, the open ones too: what is left at the end of a shutdown. */
  takeAll(): ProducerBatch[] {
    if (this.#lingerTimer !== null) clearTimeout(this.#lingerTimer)
    this.#lingerTimer = null
    return this.#withNumbers([...this.#queues, this.#unkeyed].flatMap((queue) => queue.takeAll()))
  }

  /** Batches that are never sent use up numbers all the same, or a reader could not tell that they are missing. */
  #withNumbers(batches: ProducerBatch[]): ProducerBatch[] {
    const headers = this.#headers
    if (headers === null) return batches
    for (const batch of batches) {
      if (batch.partition !== noPartition && batch.state !== 'open') continue
      batch.partition = Math.max(0, batch.partition)
      headers.number(batch)
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
    if (this.#headers === null || queue !== this.#unkeyed) this.#finish(batch)
  }

  /** Numbers and compresses a closed batch. With numbers, not before its place among those of its partition is certain. */
  #finish(batch: ProducerBatch): void {
    this.#headers?.number(batch)
    if (this.#codec !== null) void this.#compress(batch, this.#codec)
  }

  async #compress(batch: ProducerBatch, codec: Codec): Promise<void> {
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
  #recharge(batch: ProducerBatch): void {
    const surplus = batch.chargedBytes - batch.sizeBytes
    if (surplus <= 0) return
    batch.chargedBytes -= surplus
    this.#memory.unreserve(surplus)
  }
}

/** The batches of one partition: those that are closed, oldest first, and the open one behind them. */
export class PartitionQueue {
  readonly partition: number
  open: ProducerBatch | null = null
  /** Size of the last batch: the next one starts with a buffer as large, and does not grow step by step. */
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

  /** The oldest closed batch, left where it is. */
  get head(): ProducerBatch | null {
    return this.#closed[this.#first] ?? null
  }

  /** Adds a closed batch behind the others. */
  push(batch: ProducerBatch): void {
    this.#closed.push(batch)
  }

  /** Takes the oldest closed batch. */
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

  /** Takes all batches, the open one too. */
  takeAll(): ProducerBatch[] {
    const batches = this.#closed.splice(0).slice(this.#first)
    this.#first = 0
    if (this.open !== null) batches.push(this.open)
    this.open = null
    return batches
  }
}

/** Of a batch of records without a key, as long as no partition has taken it. */
const noPartition = -1

/** A queue is moved together once this many of its batches were taken: an array's `shift` would move it every time. */
const compactAt = 1024
