import type { Admin } from 'kafkajs'
import { autoOffsetResets, type ConsumerConfig } from '../../config/consumer-config.ts'

/** The group's committed offsets and the ends of the topic's partitions. Brokers are asked with kafkajs's admin. */
export class GroupOffsets {
  readonly #admin: Admin
  readonly #config: ConsumerConfig
  readonly #ends = new Map<number, { low: number; high: number }>()

  constructor(admin: Admin, config: ConsumerConfig) {
    this.#admin = admin
    this.#config = config
  }

  async connect(): Promise<void> {
    await this.#admin.connect()
  }

  async disconnect(): Promise<void> {
    await this.#admin.disconnect()
  }

  /** The group's committed offset of each partition that has one. */
  async committed(): Promise<ReadonlyMap<number, number>> {
    const { groupId, topic } = this.#config
    const topics = await this.#admin.fetchOffsets({ groupId, topics: [topic] })
    const partitions = topics.flatMap((each) => each.partitions)
    return new Map(
      partitions
        .map(({ partition, offset }) => [partition, Number(offset)] as const)
        .filter(([, offset]) => offset >= 0),
    )
  }

  /** Reads where the partitions begin and end now. */
  async look(): Promise<void> {
    for (const { partition, high, low } of await this.#admin.fetchTopicOffsets(this.#config.topic)) {
      this.#ends.set(partition, { low: Number(low), high: Number(high) })
    }
  }

  /** Reads where a partition begins and ends now. */
  async range(partition: number): Promise<{ readonly low: number; readonly high: number }> {
    await this.look()
    const end = this.#ends.get(partition)
    if (end === undefined) throw new Error(`no broker tells where partition ${partition} ends`)
    return { ...end }
  }

  /** Where the leader of a partition listens. @throws Error if there is no leader, or if no broker tells it. */
  async leader(partition: number): Promise<{ readonly host: string; readonly port: number }> {
    const [{ topics }, { brokers }] = await Promise.all([
      this.#admin.fetchTopicMetadata({ topics: [this.#config.topic] }),
      this.#admin.describeCluster(),
    ])
    const leader = topics[0]?.partitions.find(({ partitionId }) => partitionId === partition)?.leader
    const broker = brokers.find(({ nodeId }) => nodeId === leader)
    if (broker === undefined) throw new Error(`partition ${partition} has no leader`)
    return broker
  }

  /** A fetch told the end of a partition. */
  saw(partition: number, highWatermark: number): void {
    const end = this.#ends.get(partition)
    if (end !== undefined && highWatermark > end.high) end.high = highWatermark
  }

  /** Number of records of a partition from `position` on; null until a broker was asked. Without a position, `auto.offset.reset` decides. */
  lag(partition: number, position: number | null): number | null {
    const end = this.#ends.get(partition)
    if (end === undefined) return null
    const from =
      position ?? (autoOffsetResets[this.#config.autoOffsetReset].fromBeginning ? end.low : end.high)
    return Math.max(0, end.high - from)
  }
}
