import type { ConsumerDelivery } from '../../config/consumer-config.ts'

/**
 * What the rest of Chute sees of a consumer. Read this file of the folder first. A consumer polls records from one topic, as a member of a
 * group, and hands them to a {@link Process}, before or after their offsets are committed, as the delivery says (`deliveries.ts`). The folder
 * does not know where the records go from there. It knows neither HTTP nor Prometheus.
 */
export interface Consumer {
  readonly stats: ConsumerStats
  /** Resolves with the error that ended the consumer. Never resolves after {@link stop}. */
  readonly failed: Promise<Error>
  /**
   * Polls no more, lets the process finish the polled records, commits as the delivery says, and leaves the group.
   * @param timeoutMs after this time the process's signal is aborted.
   */
  stop(timeoutMs: number): Promise<void>
}

/** A record as it was polled. Its bytes are as they were written. */
export interface ConsumedRecord {
  readonly topic: string
  readonly partition: number
  /** A string, since offsets have 64 bits. */
  readonly offset: string
  readonly timestampMs: number
  readonly key: Buffer | null
  /** null: a tombstone. */
  readonly value: Buffer | null
  /** If a record has a name more than once, the values are in their order. */
  readonly headers: Readonly<Record<string, Buffer | readonly Buffer[]>>
}

/**
 * Processes polled records. They are records of one partition, in order, and at most `max.poll.records`. The next poll waits for the promise.
 * If the process throws, the error is logged. At least once, the process is called again with the records that are not done. With the other
 * deliveries these records are lost.
 */
export type Process = (records: readonly ConsumedRecord[], context: ProcessContext) => Promise<void> | void

/** See {@link Process}. */
export interface ProcessContext {
  /** Is aborted when the consumer is stopping and its time is up. */
  readonly signal: AbortSignal
  /** Says that the first `count` records are done. If the process fails later, only the other records count as not processed. */
  readonly processed: (count: number) => void
}

/** The account and the state of one consumer at one moment. Counters only grow. */
export interface ConsumerStats {
  readonly topic: string
  readonly group: string
  readonly delivery: ConsumerDelivery
  /** Records that were polled. Always: consumed = processed + lost + returned + pending. */
  readonly consumed: number
  readonly processed: number
  /** Records that were committed and not processed. */
  readonly lost: number
  /** Records that were given up, neither committed nor processed. The next member that has the partition polls them again. */
  readonly returned: number
  readonly pending: number
  /** Records that this member handed out for processing a second time. Always 0 at most once. */
  readonly repeated: number
  /** Records whose offsets were committed. */
  readonly committed: number
  readonly commits: number
  readonly commitErrors: number
  /** Mean time of the commits of the last 30 s, in milliseconds. */
  readonly commitLatencyAvgMs: number
  readonly rebalances: number
  /** The member is in its group, its session has not run out, and it knows of no rebalance. */
  readonly joined: boolean
  /** The member's partitions. `lag` is null until a broker was asked. */
  readonly partitions: readonly { partition: number; position: number | null; lag: number | null }[]
}

/** A consumer reports its commits here: one call a commit. */
export interface ConsumerTelemetry {
  committed(latencyMs: number): void
}
