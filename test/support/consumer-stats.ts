import type { ConsumerStats } from '../../src/kafka/consumer/consumer.ts'

/** An account of a consumer that has polled nothing yet, with what the test says otherwise. */
export function consumerStats(changes: Partial<ConsumerStats> = {}): ConsumerStats {
  return {
    topic: 't',
    group: 'g',
    delivery: 'at-most-once',
    consumed: 0,
    processed: 0,
    lost: 0,
    returned: 0,
    pending: 0,
    repeated: 0,
    committed: 0,
    commits: 0,
    commitErrors: 0,
    commitLatencyAvgMs: 0,
    rebalances: 0,
    joined: false,
    partitions: [],
    ...changes,
  }
}
