import { randomUUID } from 'node:crypto'
import type { Admin, Consumer } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { consumedRecord, prepareReading } from '../consumer/kafkajs-consumer.ts'
import type { ConsumedRecord } from '../consumer/consumer.ts'
import { kafkajsClient } from '../network/kafkajs-client.ts'

/** The offset of a partition's first record, and the offset behind its last record. */
export interface PartitionRange {
  readonly low: number
  readonly high: number
}

/**
 * Reads a whole topic from its beginning, with kafkajs's consumer, in a group of its own. The group is removed in the end. The reader commits
 * nothing, so it does not affect other readers.
 */
export class TopicReader {
  readonly #topic: string
  readonly #groupId = `chute-audit-${randomUUID()}`
  readonly #consumer: Consumer
  readonly #admin: Admin
  readonly #positions = new Map<number, number>()
  readonly #waiting = new Set<() => void>()
  #failure: Error | null = null
  /** Rejects when nothing is read any more, for good. */
  readonly failed: Promise<never>
  #fail = (_failure: Error): void => {}

  constructor(kafka: KafkaConfig, topic: string) {
    this.failed = new Promise((_, reject) => (this.#fail = reject))
    // Who waits for nothing but the end of the topic hears of it there.
    this.failed.catch(() => {})
    prepareReading()
    this.#topic = topic
    const client = kafkajsClient(kafka)
    this.#admin = client.admin()
    this.#consumer = client.consumer({
      groupId: this.#groupId,
      allowAutoTopicCreation: false,
      maxWaitTimeInMs: 200,
      readUncommitted: true,
    })
  }

  /** Connects. @returns where each partition begins and ends now. */
  async connect(): Promise<ReadonlyMap<number, PartitionRange>> {
    await this.#admin.connect()
    return await this.ranges()
  }

  /** Where each partition begins and ends now. */
  async ranges(): Promise<ReadonlyMap<number, PartitionRange>> {
    const offsets = await this.#admin.fetchTopicOffsets(this.#topic)
    return new Map(
      offsets.map(({ partition, low, high }) => [partition, { low: Number(low), high: Number(high) }]),
    )
  }

  /** Begins to read, in the order of each partition. */
  async start(onRecord: (record: ConsumedRecord) => void): Promise<void> {
    const consumer = this.#consumer
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (payload.restart) return
      this.#failure = payload.error
      this.#fail(payload.error)
      this.#look()
    })
    // This event also comes for a batch of markers, or of records that were compacted away, from which no record is handed out.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      this.#reached(payload.partition, Number(payload.lastOffset) + 1)
    })
    await consumer.connect()
    await consumer.subscribe({ topic: this.#topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async (payload) => {
        const { batch } = payload
        for (const message of batch.messages) {
          // After a rebalance the group begins at the beginning again, since nothing was committed.
          if (Number(message.offset) < (this.#positions.get(batch.partition) ?? 0)) continue
          onRecord(consumedRecord(batch.topic, batch.partition, message))
        }
        this.#reached(batch.partition, Number(batch.lastOffset()) + 1)
        await payload.heartbeat()
      },
    })
  }

  /** Waits until all records up to these ends were read, but for those that have left the log meanwhile. */
  async readTo(ranges: ReadonlyMap<number, PartitionRange>): Promise<void> {
    let now = ranges
    const isThere = (): boolean =>
      [...ranges].every(([partition, wanted]) =>
        isRead(wanted, now.get(partition) ?? wanted, this.position(partition)),
      )
    const askAgain = async (): Promise<void> => {
      try {
        now = await this.ranges()
        this.#look()
      } catch {
        // Asked again, for as long as the consumer tries.
      }
    }
    const timer = setInterval(() => void askAgain(), askAgainMs)
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (this.#failure === null && !isThere()) return
        this.#waiting.delete(look)
        if (this.#failure === null) resolve()
        else reject(this.#failure)
      }
      this.#waiting.add(look)
      look()
    }).finally(() => clearInterval(timer))
  }

  /** Offset of the next record of a partition. */
  position(partition: number): number {
    return this.#positions.get(partition) ?? 0
  }

  async stop(): Promise<void> {
    await this.#consumer.disconnect()
    // A group that could not be removed does no harm: the cluster forgets it after a week.
    await this.#admin.deleteGroups([this.#groupId]).catch(() => {})
    await this.#admin.disconnect()
  }

  #reached(partition: number, position: number): void {
    if (position > this.position(partition)) this.#positions.set(partition, position)
    this.#look()
  }

  #look(): void {
    for (const look of this.#waiting) look()
  }
}

/**
 * Whether a partition was read as far as it was wanted. Its records can be deleted before they are read, and after an unclean leader election its log can
 * end earlier. Then no batch ever gets to the end that was wanted.
 * @param now where the partition begins and ends by now.
 */
export function isRead(wanted: PartitionRange, now: PartitionRange, position: number): boolean {
  if (wanted.low === wanted.high || position >= wanted.high || now.low >= wanted.high) return true
  return now.high < wanted.high && position >= now.high
}

const askAgainMs = 5_000
