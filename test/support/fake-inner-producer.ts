import type { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'
import type { StreamConfig } from '../../src/config/config.ts'
import type { BatchJournal } from '../../src/kafka/producer/batch-journal.ts'
import type { DropReason, Outcome } from '../../src/kafka/producer/outcome.ts'
import {
  recordSizeUpperBound,
  type PendingBatch,
  type ProducerStats,
  type Settlement,
} from '../../src/kafka/producer/producer.ts'
import type { InnerProducer } from '../../src/spool/feeder.ts'
import { streamConfig } from './producer-fixture.ts'
import { droppedRecords, producerStats } from './producer-stats.ts'

/** What a record was when it was appended. */
export interface FedRecord {
  readonly key: string | null
  readonly value: string
  readonly timestampMs: number
}

/**
 * A producer behind a spool, without Kafka: batches of a few records in each of its partitions, which the test settles. Its
 * ledger and its account are as strict as the real ones.
 */
export class FakeInnerProducer implements InnerProducer {
  readonly stream: StreamConfig
  readonly durability = null
  readonly headerBytes = 0
  readonly isFullAndStuck = false
  readonly confirmation = 'acks_all'
  readonly lacking: readonly string[] = []
  readonly records: FedRecord[] = []
  readonly batches: FakeInnerBatch[] = []
  readonly #open = new Map<number, FakeInnerBatch>()
  readonly #dropped: Record<DropReason, number> = droppedRecords()
  readonly #batchRecords: number
  #acked = 0
  #suspectedLost = 0
  #usedBytes = 0
  admission: InnerProducer['admission'] = 'open'
  obstacle: InnerProducer['obstacle'] = null
  maxRecordBytes = 1_000_000
  needsKey = false
  isConnected = true
  /** Where a producer notes its batches. */
  journal: BatchJournal | null = null
  /** Batches are acknowledged when they are full, and in the turn after their first record. */
  acksAtOnce = false

  constructor(options: { bufferMemoryBytes?: number; batchRecords?: number } = {}) {
    const bufferMemoryBytes = options.bufferMemoryBytes ?? 1 << 20
    this.stream = streamConfig('critical', 'at-least-once', { bufferMemoryBytes })
    this.#batchRecords = options.batchRecords ?? 5
  }

  get values(): string[] {
    return this.records.map(({ value }) => value)
  }

  get bufferAvailableBytes(): number {
    return this.stream.producer.bufferMemoryBytes - this.#usedBytes
  }

  reserve(sizeBytes: number): boolean {
    if (sizeBytes > this.bufferAvailableBytes) return false
    this.#usedBytes += sizeBytes
    return true
  }

  unreserve(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes
    if (this.#usedBytes < 0) throw new Error('more was given back than was taken')
  }

  async reserveOrWait(sizeBytes: number): Promise<boolean> {
    return await Promise.resolve(this.reserve(sizeBytes))
  }

  append(record: RecordBytes): PendingBatch {
    const { body, start, end, key, keyStart, keyEnd, timestampMs } = record
    const text = key?.toString('utf8', keyStart, keyEnd) ?? null
    this.records.push({ key: text, value: body.toString('utf8', start, end), timestampMs })
    const partition = text === null ? 0 : text.length % 3
    let batch = this.#open.get(partition)
    if (batch === undefined || batch.recordCount === this.#batchRecords) {
      batch = new FakeInnerBatch(partition)
      this.#open.set(partition, batch)
      this.batches.push(batch)
      if (this.acksAtOnce) setImmediate(() => this.settle(batch!))
    }
    batch.recordCount++
    batch.chargedBytes += recordSizeUpperBound(record.keyBytes, record.valueBytes)
    return batch
  }

  /** Gives a batch, or the records of it from a place on, an outcome. */
  settle(batch: FakeInnerBatch, outcome: Outcome = 'acked', reason: DropReason | null = null): void {
    const { recordCount, partition, chargedBytes } = batch
    if (this.#open.get(partition) === batch) this.#open.delete(partition)
    this.batches.splice(this.batches.indexOf(batch), 1)
    this.unreserve(chargedBytes)
    if (outcome === 'acked') this.#acked += recordCount
    else if (outcome === 'suspected_lost') this.#suspectedLost += recordCount
    else this.#dropped[reason!] += recordCount
    batch.settle({ outcome, reason, partition, baseOffset: null, firstPlace: 0, recordCount })
  }

  /** Acknowledges everything that is there. */
  settleAll(): void {
    for (const batch of this.batches.slice()) this.settle(batch)
  }

  keepJournal(journal: BatchJournal): void {
    this.journal = journal
  }

  resume(): null {
    return null
  }

  drop(count: number): void {
    this.#dropped.buffer_full += count
  }

  retryAfterSeconds(): number {
    return 3
  }

  get stats(): ProducerStats {
    const buffered = this.batches.reduce((sum, { recordCount }) => sum + recordCount, 0)
    return producerStats({
      delivery: 'at-least-once',
      accepted: this.records.length + this.#dropped.buffer_full,
      acked: this.#acked,
      suspectedLost: this.#suspectedLost,
      dropped: { ...this.#dropped },
      buffered,
    })
  }

  async close(): Promise<boolean> {
    this.abort()
    return await Promise.resolve(true)
  }

  abort(): void {
    for (const batch of this.batches.slice()) this.settle(batch, 'dropped', 'shutdown')
  }
}

/** A batch that settles when the test says so. */
export class FakeInnerBatch implements PendingBatch {
  readonly partition: number
  recordCount = 0
  isAwaited = false
  chargedBytes = 0
  readonly #listeners: ((settlement: Settlement) => void)[] = []

  constructor(partition: number) {
    this.partition = partition
  }

  onSettled(listener: (settlement: Settlement) => void): void {
    this.#listeners.push(listener)
  }

  hurry(): void {
    this.isAwaited = true
  }

  settle(settlement: Settlement): void {
    for (const listener of this.#listeners.splice(0)) queueMicrotask(() => listener(settlement))
  }
}
