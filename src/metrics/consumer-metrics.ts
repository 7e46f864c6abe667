import type { ConsumerStats, ConsumerTelemetry } from '../kafka/consumer/consumer.ts'
import { writeText, type ExpositionText, type Scrape } from './exposition.ts'
import type { CollectedFamily, Family, Labels } from './family.ts'
import { Histogram, toFamily } from './histogram.ts'
import { collectProcessMetrics, watchProcess } from './process-metrics.ts'

/** A metric of a consumer, and the function that reads it from the consumer's account. */
interface ConsumerFamily extends Family {
  readonly read: (stats: ConsumerStats) => readonly (readonly [labels: Labels, value: number])[]
}

/**
 * Every metric that is read from {@link ConsumerStats}, with the labels `group` and `topic`. First come Kafka's own metrics
 * (`FetchMetricsRegistry`, `ConsumerCoordinatorMetrics`), with their names in Prometheus form. Then comes the account:
 * `kafka_consumer_records_consumed_total` = the sum of `chute_consumer_records_total` + `chute_consumer_records_pending`.
 */
const consumerFamilies: readonly ConsumerFamily[] = [
  {
    name: 'kafka_consumer_records_consumed_total',
    help: 'Records polled (records-consumed-total).',
    type: 'counter',
    read: (stats) => [[{}, stats.consumed]],
  },
  {
    name: 'kafka_consumer_commit_latency_avg',
    help: 'Mean milliseconds of the commits of the last 30 s, 0 if there was none (commit-latency-avg).',
    type: 'gauge',
    read: (stats) => [[{}, stats.commitLatencyAvgMs]],
  },
  {
    name: 'kafka_consumer_records_lag',
    help: 'Records of a partition of this member that were not polled yet; NaN until a broker was asked (records-lag).',
    type: 'gauge',
    read: ({ partitions }) =>
      partitions.map(({ partition, lag }) => [{ partition: String(partition) }, lag ?? Number.NaN] as const),
  },
  {
    name: 'chute_consumer_records_total',
    help: 'Polled records by what became of them: processed; lost (committed and not processed); returned (neither, left to who polls them next).',
    type: 'counter',
    read: ({ processed, lost, returned }) => [
      [{ outcome: 'processed' }, processed],
      [{ outcome: 'lost' }, lost],
      [{ outcome: 'returned' }, returned],
    ],
  },
  {
    name: 'chute_consumer_records_pending',
    help: 'Polled records without an outcome.',
    type: 'gauge',
    read: (stats) => [[{}, stats.pending]],
  },
  {
    name: 'chute_consumer_records_repeated_total',
    help: 'Records handed out for processing that this member had handed out before. 0 for ever at most once.',
    type: 'counter',
    read: (stats) => [[{}, stats.repeated]],
  },
  {
    name: 'chute_consumer_records_committed_total',
    help: 'Records whose offsets were committed.',
    type: 'counter',
    read: (stats) => [[{}, stats.committed]],
  },
  {
    name: 'chute_consumer_commit_errors_total',
    help: 'Commits that were refused or not answered.',
    type: 'counter',
    read: (stats) => [[{}, stats.commitErrors]],
  },
  {
    name: 'chute_consumer_rebalances_total',
    help: 'How often this member joined its group.',
    type: 'counter',
    read: (stats) => [[{}, stats.rebalances]],
  },
  {
    name: 'chute_consumer_joined',
    help: '1 while the member is in its group, else 0; also 0 once the group has not answered for session.timeout.ms.',
    type: 'gauge',
    read: (stats) => [[{}, Number(stats.joined)]],
  },
]

/** The metrics of one consumer, for `chute consume`. */
export class ConsumerMetrics implements ConsumerTelemetry, Scrape {
  readonly #latency = new Histogram({
    name: 'kafka_consumer_commit_latency_seconds',
    help: 'Time of a commit until its answer.',
    type: 'histogram',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  readonly #series
  #stats: (() => ConsumerStats) | null = null

  constructor(labels: { group: string; topic: string }) {
    this.#series = this.#latency.addSeries(labels)
    watchProcess()
  }

  /** Sets the function that each scrape reads the account from. */
  observe(stats: () => ConsumerStats): void {
    this.#stats = stats
  }

  /** @inheritdoc */
  committed(latencyMs: number): void {
    this.#series.observe(latencyMs / 1000)
  }

  /** @inheritdoc */
  async text(accept: string | undefined): Promise<ExpositionText> {
    const ofProcess = await collectProcessMetrics()
    return writeText([...this.#collect(), ...ofProcess], accept)
  }

  #collect(): CollectedFamily[] {
    const stats = this.#stats?.()
    if (stats === undefined) return []
    const owner = { group: stats.group, topic: stats.topic }
    const families = consumerFamilies.map(({ name, help, type, read }) => ({
      name,
      help,
      type,
      samples: read(stats).map(([labels, value]) => ({ suffix: '', labels: { ...owner, ...labels }, value })),
    }))
    return [...families, toFamily(this.#latency.read())]
  }
}
