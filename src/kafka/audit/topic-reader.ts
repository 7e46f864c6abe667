import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { Admin, Consumer, Kafka } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { consumedRecord, prepareReading } from '../consumer/kafkajs-consumer.ts'
import type { ConsumedRecord } from '../consumer/consumer.ts'
import { decideOutOfRange } from '../consumer/kafkajs-out-of-range.ts'
import { causesOf } from '../network/describe-failure.ts'
import { kafkajsClient } from '../network/kafkajs-client.ts'

/** The offset of a partition's first record, and the offset behind its last record. */
export interface PartitionRange {
  readonly low: number
  readonly high: number
}

/** What a reader tells of. */
export interface ReaderEvents {
  /** The next record of its partition. */
  readonly onRecord: (record: ConsumedRecord) => void
  /** The logs of these partitions went back behind what was read of them. All records that are there come again, from the beginning of the topic. */
  readonly onWentBack: (wentBack: readonly WentBack[], ranges: ReadonlyMap<number, PartitionRange>) => void
}

/** A partition whose log ended before the position up to which it was read. `logEnd` is where it ends now. */
export interface WentBack {
  readonly partition: number
  readonly position: number
  readonly logEnd: number
}

/**
 * Reads a whole topic from its beginning, with kafkajs's consumer, in a group of its own. The group is removed in the end. The reader commits
 * nothing, so it does not affect other readers.
 *
 * A log can go back: a leader was elected that lacks records, or the topic was deleted and made anew. Then the reader begins again with a new consumer, since
 * what it has told of records is no longer true. It notices that while the log is shorter than what was read of it.
 */
export class TopicReader {
  readonly #topic: string
  readonly #client: Kafka
  readonly #admin: Admin
  /** Of all consumers. */
  readonly #groupIds = new Set<string>()
  /** Ends of earlier consumers, and beginnings of later ones. */
  readonly #ended: Promise<void>[] = []
  readonly #positions = new Map<number, number>()
  readonly #waiting = new Set<() => void>()
  #consumer: Consumer | null = null
  #events: ReaderEvents | null = null
  #undecide: () => void = () => {}
  #stopping = false
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
    this.#client = kafkajsClient(kafka)
    this.#admin = this.#client.admin()
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
  async start(events: ReaderEvents): Promise<void> {
    this.#events = events
    await this.#read()
  }

  async #read(): Promise<void> {
    const groupId = `chute-audit-${randomUUID()}`
    const consumer = this.#client.consumer({
      groupId,
      allowAutoTopicCreation: false,
      maxWaitTimeInMs: 200,
      readUncommitted: true,
    })
    this.#consumer = consumer
    const isCurrent = (): boolean => consumer === this.#consumer
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (payload.restart || !isCurrent()) return
      this.#failed(payload.error)
    })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberId } }) => {
      this.#groupIds.add(groupId)
      if (!isCurrent()) return
      this.#undecide()
      this.#undecide = decideOutOfRange(memberId, async (partition, position) => {
        if (isCurrent()) await this.#goOn(consumer, partition, position)
      })
    })
    // This event also comes for a batch of markers, or of records that were compacted away, from which no record is handed out.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      if (isCurrent()) this.#reached(payload.partition, Number(payload.lastOffset) + 1)
    })
    await consumer.connect()
    await consumer.subscribe({ topic: this.#topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async (payload) => {
        const { batch } = payload
        // The topic was made anew, say, and the group has begun at its beginning.
        if (Number(batch.highWatermark) < this.position(batch.partition)) await this.#compare()
        if (!isCurrent()) return
        for (const message of batch.messages) {
          // After a rebalance the group begins at the beginning again, since nothing was committed.
          if (Number(message.offset) < this.position(batch.partition)) continue
          this.#events!.onRecord(consumedRecord(batch.topic, batch.partition, message))
        }
        this.#reached(batch.partition, Number(batch.lastOffset()) + 1)
        await payload.heartbeat()
      },
    })
  }

  /** A partition does not have the consumer's position. */
  async #goOn(consumer: Consumer, partition: number, position: number): Promise<void> {
    const ranges = await this.ranges()
    const range = ranges.get(partition)
    if (range === undefined || consumer !== this.#consumer) return
    if (position >= range.low) this.#beginAgain([{ partition, position, logEnd: range.high }], ranges)
    else consumer.seek({ topic: this.#topic, partition, offset: String(range.low) })
  }

  /** Asks where each partition begins and ends now, and begins again if one ends before what had been read of it. */
  async #compare(): Promise<ReadonlyMap<number, PartitionRange>> {
    const consumer = this.#consumer
    // Reading goes on while the brokers are asked.
    const before = new Map(this.#positions)
    const ranges = await this.ranges()
    const wentBack = thoseThatWentBack(ranges, before)
    if (wentBack.length > 0 && consumer === this.#consumer) this.#beginAgain(wentBack, ranges)
    return ranges
  }

  #beginAgain(wentBack: readonly WentBack[], ranges: ReadonlyMap<number, PartitionRange>): void {
    const before = this.#consumer
    this.#consumer = null
    this.#undecide()
    this.#positions.clear()
    this.#events!.onWentBack(wentBack, ranges)
    if (before !== null) this.#ended.push(before.disconnect().catch(() => {}))
    this.#ended.push(this.#readAgain())
  }

  async #readAgain(): Promise<void> {
    while (!this.#stopping) {
      try {
        await this.#read()
        return
      } catch (error) {
        // Brokers may be away, or the topic gone, for a while.
        const failed: Consumer | null = this.#consumer
        this.#consumer = null
        await failed?.disconnect().catch(() => {})
        if (isForGood(error)) return this.#failed(error as Error)
        await pause(againMs)
      }
    }
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
        now = await this.#compare()
        this.#look()
      } catch {
        // Asked again, for as long as the consumer tries.
      }
    }
    await askAgain()
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
    this.#stopping = true
    this.#undecide()
    await Promise.all(this.#ended)
    await this.#consumer?.disconnect()
    // A group that could not be removed does no harm: the cluster forgets it after a week.
    await this.#admin.deleteGroups([...this.#groupIds]).catch(() => {})
    await this.#admin.disconnect()
  }

  #reached(partition: number, position: number): void {
    if (position > this.position(partition)) this.#positions.set(partition, position)
    this.#look()
  }

  #failed(failure: Error): void {
    this.#failure = failure
    this.#fail(failure)
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

/** Whether another try would fail as well. The errors of kafkajs's retries say so of themselves, so the first cause counts. */
function isForGood(error: unknown): boolean {
  return causesOf(error).at(-1)!.retriable === false
}

/** The partitions whose logs end before the positions up to which they were read. */
export function thoseThatWentBack(
  ranges: ReadonlyMap<number, PartitionRange>,
  positions: ReadonlyMap<number, number>,
): WentBack[] {
  return Array.from(ranges, ([partition, { high }]) => {
    return { partition, position: positions.get(partition) ?? 0, logEnd: high }
  }).filter(({ position, logEnd }) => logEnd < position)
}

const askAgainMs = 5_000
const againMs = 1_000
