/**
 * When a consumer commits: before it processes, after it has processed, or by a timer (`kafka/consumer/auto-commit.ts`), whatever was
 * processed. `byTheClock`: the value of Kafka's `enable.auto.commit`.
 */
const consumerDeliveries = {
  'at-most-once': { byTheClock: false },
  'at-least-once': { byTheClock: false },
  'auto-commit': { byTheClock: true },
} as const satisfies Record<string, { readonly byTheClock: boolean }>

/** See {@link consumerDeliveries}. */
export type ConsumerDelivery = keyof typeof consumerDeliveries

/** Whether the offsets of a delivery are committed by a timer. */
export function commitsByTheClock(delivery: ConsumerDelivery): boolean {
  return consumerDeliveries[delivery].byTheClock
}

/** Where a group without committed offsets begins. `fromBeginning`: with the records that are there. */
export const autoOffsetResets = {
  latest: { fromBeginning: false },
  earliest: { fromBeginning: true },
} as const satisfies Record<string, { readonly fromBeginning: boolean }>

/** See {@link autoOffsetResets}. */
export type AutoOffsetReset = keyof typeof autoOffsetResets

/** Whether records of open and of aborted transactions are read. */
export const isolationLevels = {
  read_uncommitted: { readUncommitted: true },
  read_committed: { readUncommitted: false },
} as const satisfies Record<string, { readonly readUncommitted: boolean }>

/** See {@link isolationLevels}. */
export type IsolationLevel = keyof typeof isolationLevels

/** The settings of `chute consume`, in Kafka's terms (`org.apache.kafka.clients.consumer.ConsumerConfig`). */
export interface ConsumerConfig {
  readonly topic: string
  /** `group.id` */
  readonly groupId: string
  /** `enable.auto.commit` follows from it. */
  readonly delivery: ConsumerDelivery
  /** `auto.commit.interval.ms`: pause between two commits by the clock. */
  readonly autoCommitIntervalMs: number
  /** `auto.offset.reset`: where a group without committed offsets begins. */
  readonly autoOffsetReset: AutoOffsetReset
  /** `max.poll.records`: the most records of one poll, and so of one commit. A crash can lose or repeat so many. */
  readonly maxPollRecords: number
  /** `max.poll.interval.ms`: longest time that processing one poll may take before the group goes on without this member. */
  readonly maxPollIntervalMs: number
  /** `session.timeout.ms`: a member that is not heard of for this long is taken for dead. */
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
  readonly fetchMinBytes: number
  readonly fetchMaxBytes: number
  readonly fetchMaxWaitMs: number
  readonly maxPartitionFetchBytes: number
  readonly isolationLevel: IsolationLevel
}

/** `consumer:` of the file, for `chute consume`. Topic, group and delivery stand on its command line. */
export interface ConsumerSection extends Omit<
  ConsumerConfig,
  'topic' | 'groupId' | 'delivery' | 'autoCommitIntervalMs'
> {
  /** null: the file does not set it, and it follows from `--delivery`. */
  readonly enableAutoCommit: boolean | null
  /** null: the file does not set it. Only `--delivery auto-commit` takes it. */
  readonly autoCommitIntervalMs: number | null
}
