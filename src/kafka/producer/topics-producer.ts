import type { StreamConfig } from '../../config/config.ts'
import type { BufferMemory } from './buffer-memory.ts'
import { commonMode, type ConfirmationMode } from './outcome.ts'
import type { RecordBytes } from '../protocol/record-bytes.ts'
import type { ManagedProducer, Obstacle, PendingBatch, ProducerAdmission } from './producer.ts'
import type { StreamProducer } from './stream-producer.ts'

/**
 * The producer of a stream whose events choose their topic (`topics`). Each topic has a producer of its own, with its own batches
 * and account. They share the stream's `buffer.memory`, so a request gets room for all of its events or for none,
 * whatever their topics are.
 */
export class TopicsProducer implements ManagedProducer {
  readonly stream: StreamConfig
  /** The list that `RecordBytes.topic` is a place in. */
  readonly topics: readonly StreamProducer[]
  readonly durability = null
  readonly #memory: BufferMemory

  /** @param topics with `memory` for their memory, one at least. */
  constructor(stream: StreamConfig, topics: readonly StreamProducer[], memory: BufferMemory) {
    this.stream = stream
    this.topics = topics
    this.#memory = memory
  }

  /** @inheritdoc Of the topic that takes the largest. */
  get maxRecordBytes(): number {
    return Math.max(...this.topics.map(({ maxRecordBytes }) => maxRecordBytes))
  }

  /** @inheritdoc */
  get needsKey(): boolean {
    return this.topics.every(({ needsKey }) => needsKey)
  }

  /** @inheritdoc */
  get headerBytes(): number {
    return this.topics[0]!.headerBytes
  }

  /** @inheritdoc `open` where each topic is. A request needs only those of its events. */
  get admission(): ProducerAdmission {
    return this.topics.find(({ admission }) => admission !== 'open')?.admission ?? 'open'
  }

  /** @inheritdoc */
  get obstacle(): Obstacle | null {
    return this.topics.find(({ obstacle }) => obstacle !== null)?.obstacle ?? null
  }

  /** @inheritdoc */
  get isConnected(): boolean {
    return this.topics.every(({ isConnected }) => isConnected)
  }

  /** @inheritdoc One topic whose brokers are away can fill the buffer for all. */
  get isFullAndStuck(): boolean {
    return this.topics.some(({ isFullAndStuck }) => isFullAndStuck)
  }

  /** @inheritdoc */
  get confirmation(): ConfirmationMode {
    return this.topics.map(({ confirmation }) => confirmation).reduce(commonMode)
  }

  /** @inheritdoc */
  get lacking(): readonly string[] {
    return [...new Set(this.topics.flatMap(({ lacking }) => lacking))]
  }

  /** @inheritdoc */
  reserve(sizeBytes: number): boolean {
    return this.#memory.reserve(sizeBytes)
  }

  /** @inheritdoc */
  unreserve(sizeBytes: number): void {
    this.#memory.unreserve(sizeBytes)
  }

  /** @inheritdoc */
  async reserveOrWait(sizeBytes: number): Promise<boolean> {
    return await this.#memory.reserveOrWait(sizeBytes, this.stream.producer.maxBlockMs)
  }

  /** @inheritdoc */
  append(record: RecordBytes): PendingBatch {
    return this.topics[record.topic]!.append(record)
  }

  /** @inheritdoc */
  drop(count: number, topic = 0): void {
    this.topics[topic]!.drop(count)
  }

  /** @inheritdoc */
  retryAfterSeconds(): number {
    return this.#memory.retryAfterSeconds
  }

  /** @inheritdoc */
  async close(deadlineMs: number): Promise<boolean> {
    const drained = await Promise.all(this.topics.map(async (topic) => await topic.close(deadlineMs)))
    return drained.every(Boolean)
  }

  /** @inheritdoc */
  abort(): void {
    for (const topic of this.topics) topic.abort()
  }
}
