import type { ConsumerDelivery } from '../../config/config.ts'

/**
 * What the rest of Chute sees of a consumer. Read this file of the folder first: records are polled from one topic as a
 * member of a group, and handed to a {@link Process} before or after their offsets are committed, as the delivery says
 * (`deliveries.ts`). The folder knows nothing of where they go from there, and nothing of HTTP or Prometheus.
 */
export interface Consumer {
  readonly stats: ConsumerStats
  /** Resolves with what ended the consumer where nobody asked for it; never after {@link stop}. */
  readonly failed: Promise<Error>
  /**
   * Polls no more, lets the process end what is polled, commits as the delivery says, and leaves the group.
   * @param timeoutMs after which the process's signal is aborted.
   */
  stop(timeoutMs: number): Promise<void>
}

/** A record as it was polled. Bytes are as they were written. */
export interface ConsumedRecord {
  readonly topic: string
  readonly partition: number
  /** A string, since offsets have 64 bits. */
  readonly offset: string
  readonly timestampMs: number
  readonly key: Buffer | null
  /** null: a tombstone. */
  readonly value: Buffer | null
  /** A name can come more than once; then its values are in their order. */
  readonly headers: Readonly<Record<string, Buffer | readonly Buffer[]>>
}

/**
 * Processes polled records: all of one partition, in order, `max.poll.records` of them at most. The next poll waits for
 * the promise. What it throws is logged: at most once, the rest of the records is lost; at least once, it is called again
 * with the rest.
 */
export type Process = (records: readonly ConsumedRecord[], context: ProcessContext) => Promise<void> | void

/** See {@link Process}. */
export interface ProcessContext {
  /** Aborted when the consumer is stopping and its time is up. */
  readonly signal: AbortSignal
  /** The first `count` records are done: if the process fails now, only the others count as not processed. */
  readonly processed: (count: number) => void
}

/** The account and the state of one consumer at one instant. Counters only grow. */
export interface ConsumerStats {
  readonly topic: string
  readonly group: string
  readonly delivery: ConsumerDelivery
  /** Records that were polled. Always: consumed = processed + lost + returned + pending. */
  readonly consumed: number
  readonly processed: number
  /** Committed and not processed. */
  readonly lost: number
  /** Polled, neither committed nor processed: the member that has the partition next polls them again. */
  readonly returned: number
  readonly pending: number
  /** Handed out for processing for a second time by this member. 0 for ever at most once. */
  readonly repeated: number
  /** Records whose offsets were committed. */
  readonly committed: number
  readonly commits: number
  readonly commitErrors: number
  /** Mean time of the commits of the last 30 s, in milliseconds. */
  readonly commitLatencyAvgMs: number
  readonly rebalances: number
  /** The member is in its group, its session has not run out, and no rebalance is going on as far as it knows. */
  readonly joined: boolean
  /** The member's partitions; `lag` is null until a broker was asked. */
  readonly partitions: readonly { partition: number; position: number | null; lag: number | null }[]
}

/** What a consumer tells as it happens: one call a commit. */
export interface ConsumerTelemetry {
  committed(latencyMs: number): void
}
