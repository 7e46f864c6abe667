import { resends } from '../config/config.ts'
import {
  confirmationModes,
  countOf,
  dropReasons,
  dropReasonTraits,
  isAnswered,
  isLearned,
  keptOutcomes,
  outcomeTraits,
  type DropReason,
  type KeptOutcome,
} from '../kafka/producer/outcome.ts'
import type { ProducerStats, ProducerTelemetry, SpoolStats } from '../kafka/producer/producer.ts'
import type { CollectedFamily, Family, Labels, Sample } from './family.ts'
import { Histogram, type HistogramReading } from './histogram.ts'

/** The accounts of all streams as metrics, with the labels `stream` and `topic`. */
export function collectProducerMetrics(streams: readonly ProducerStats[]): CollectedFamily[] {
  return collectFamilies([...producerFamilies, ...spoolFamilies], streams)
}

/** Samples are made while they are read. The accounts are of one instant, and do not change meanwhile. */
function collectFamilies(
  families: readonly StreamFamily[],
  streams: readonly ProducerStats[],
): CollectedFamily[] {
  return families.map(({ name, help, type, read }) => ({
    name,
    help,
    type,
    samples: samplesOf(read, streams),
  }))
}

function* samplesOf(read: StreamFamily['read'], streams: readonly ProducerStats[]): Generator<Sample> {
  for (const stats of streams) {
    const { stream, topic } = stats
    for (const [labels, value] of read(stats))
      yield { suffix: '', labels: { stream, topic, ...labels }, value }
  }
}

/** One sample: its labels beside `stream` and `topic`, and its value. */
type Reading = readonly [labels: Labels, value: number]

/** A metric of a stream, and the function that reads it from the stream's account. */
interface StreamFamily extends Family {
  /**
   * A stream always has the same label sets, whatever the numbers are, so that each series exists from the first scrape on.
   * There are two exceptions: a partition has series once it is known, and an error of Kafka once it was seen. A stream has no
   * series for what cannot occur with its delivery.
   */
  readonly read: (stats: ProducerStats) => readonly Reading[]
}

/**
 * Every metric that is read from {@link ProducerStats}, but for those of the spool. First come Kafka's own metrics
 * (`org.apache.kafka.clients.producer.internals.SenderMetricsRegistry`), with their names in Prometheus form. Then comes the
 * account. These metrics alone show whether the account adds up: in every scrape `chute_records_accepted_total` +
 * `chute_records_recovered_total` = the sum of `chute_records_pending` + the sum of `chute_records_total`.
 */
const producerFamilies: readonly StreamFamily[] = [
  {
    name: 'kafka_producer_record_send_total',
    help: 'Attempts: records written to a connection, or dropped before they could be (record-send-total).',
    type: 'counter',
    read: (stats) => [[{}, stats.recordSendTotal]],
  },
  {
    name: 'kafka_producer_record_error_total',
    help: 'Records that ended as an error the producer saw, by reason (record-error-total).',
    type: 'counter',
    read: (stats) => [
      ...dropsOf(stats).map(([reason, count]): Reading => [{ reason }, count]),
      ...keptOutcomes
        .filter((outcome) => outcomeTraits[outcome].isError && canOccur(stats, outcome))
        .map((outcome): Reading => [{ reason: outcome }, countOf(stats, outcome)]),
    ],
  },
  {
    name: 'kafka_producer_record_error_rate',
    help: 'Errors as a part of attempts over the last 30 s, 0 to 1. Kafka has errors a second under this name.',
    type: 'gauge',
    read: (stats) => [[{}, stats.recordErrorRate]],
  },
  {
    name: 'kafka_producer_buffer_available_bytes',
    help: 'Buffer memory that is neither used nor reserved (buffer-available-bytes).',
    type: 'gauge',
    read: (stats) => [[{}, stats.bufferAvailableBytes]],
  },
  {
    name: 'kafka_producer_buffer_total_bytes',
    help: 'Buffer memory in all, buffer.memory (buffer-total-bytes).',
    type: 'gauge',
    read: (stats) => [[{}, stats.bufferTotalBytes]],
  },
  {
    name: 'kafka_producer_batch_size_avg',
    help: 'Mean bytes of the batches of the last 30 s as written, 0 if there was none (batch-size-avg).',
    type: 'gauge',
    read: (stats) => [[{}, stats.batchSizeAvg]],
  },
  {
    name: 'chute_records_accepted_total',
    help: 'Records that were answered with 202. With chute_records_recovered_total: the sum of chute_records_pending and chute_records_total.',
    type: 'counter',
    read: (stats) => [[{}, stats.accepted]],
  },
  {
    name: 'chute_records_recovered_total',
    help: 'Records that an earlier process had answered with 202, found on disk at start.',
    type: 'counter',
    read: (stats) => [[{}, stats.recovered]],
  },
  {
    name: 'chute_records_possibly_repeated_total',
    help: 'Records of at-least-once streams that were sent again though Kafka may have them and did not recognize them any more: the most that can be in the topic twice.',
    type: 'counter',
    read: (stats) => [[{}, stats.possiblyRepeated]],
  },
  {
    name: 'chute_records_total',
    help: 'Accepted records by what became of them; each has one outcome. The reason is empty unless dropped.',
    type: 'counter',
    read: (stats) => [
      ...keptOutcomes
        .filter((outcome) => canOccur(stats, outcome))
        .map((outcome): Reading => [{ outcome, reason: '' }, countOf(stats, outcome)]),
      ...dropsOf(stats).map(([reason, count]): Reading => [{ outcome: 'dropped', reason }, count]),
    ],
  },
  {
    name: 'chute_records_refused_total',
    help: 'Records that a broker refused for good, by the name that Kafka gives the error, whatever became of them. A series is there once its error was seen.',
    type: 'counter',
    read: ({ refused }) =>
      Object.entries(refused).map(([kafkaError, count]): Reading => [{ kafka_error: kafkaError }, count]),
  },
  {
    name: 'chute_records_pending',
    help: 'Accepted records without an outcome: only on disk, in the buffer, or written and not confirmed.',
    type: 'gauge',
    read: (stats) => [
      ...(stats.spool !== null || stats.spooled > 0 ? [[{ state: 'spooled' }, stats.spooled] as const] : []),
      [{ state: 'buffered' }, stats.buffered],
      [{ state: 'in_flight' }, stats.inFlight],
    ],
  },
  {
    name: 'chute_loss_ratio',
    help: 'Part of the records that was lost, 0 to 1, as seen by the producer (its local errors), by the barrier (not confirmed) and by the broker (log end offsets; NaN until known).',
    type: 'gauge',
    read: ({ lossRatio }) => [
      [{ source: 'producer' }, lossRatio.producer],
      [{ source: 'barrier' }, lossRatio.barrier],
      // NaN until the log end offsets were read: a zero would claim that nothing was lost.
      [{ source: 'broker' }, lossRatio.broker ?? Number.NaN],
    ],
  },
  {
    name: 'chute_partition_log_end_offset',
    help: 'Log end offset of a partition as it was last seen. Several gateways, and others, move it.',
    type: 'gauge',
    read: ({ logEndOffsets }) =>
      logEndOffsets.map(({ partition, logEndOffset }): Reading => [
        { partition: String(partition) },
        logEndOffset,
      ]),
  },
  {
    name: 'chute_partition_records_written_total',
    help: 'Records written to a partition before its log end offset was last seen. Added up over a fleet and compared with that offset, it gives the loss that brokers know of.',
    type: 'counter',
    read: ({ logEndOffsets }) =>
      logEndOffsets.map(({ partition, written }): Reading => [{ partition: String(partition) }, written]),
  },
  {
    name: 'chute_kafka_connected',
    help: '1 if a connection to a broker of the stream is open, else 0.',
    type: 'gauge',
    read: (stats) => [[{}, Number(stats.connected)]],
  },
  {
    name: 'chute_stream_available',
    help: '1 if the stream takes events, 0 while its requests are refused with 503: /readyz or the spool says why. A full buffer and a shutdown do not count.',
    type: 'gauge',
    read: (stats) => [[{}, Number(stats.available)]],
  },
  {
    name: 'chute_confirmation',
    help: 'How the stream learns what became of its writes: 1 for the mode in use, 0 for the others. acks_1 without acks: 1 in the configuration: a broker does not tell where its log ends.',
    type: 'gauge',
    read: (stats) =>
      confirmationModes
        .filter((mode) => !resends[stats.delivery] || isAnswered(mode))
        .map((mode): Reading => [{ mode }, Number(mode === stats.confirmation)]),
  },
  {
    name: 'chute_circuit_open',
    help: '1 while the circuit breaker keeps the stream from connecting, else 0.',
    type: 'gauge',
    read: (stats) => [[{}, Number(stats.circuitOpen)]],
  },
]

/**
 * Whether records of a stream can have an outcome. `acked` and `dead_lettered` belong to at-least-once streams. `confirmed`
 * belongs to at-most-once streams, and `sent` to those of them without confirmation. An outcome that did occur counts as
 * possible, so that the account adds up in any case.
 */
function canOccur(stats: ProducerStats, outcome: KeptOutcome): boolean {
  if (countOf(stats, outcome) > 0) return true
  const isAtMostOnce = !resends[stats.delivery]
  switch (outcome) {
    case 'confirmed':
      return isAtMostOnce && isLearned(stats.confirmation)
    case 'sent':
      return isAtMostOnce && !isLearned(stats.confirmation)
    case 'acked':
    case 'dead_lettered':
      return !isAtMostOnce
    case 'suspected_lost':
      return true
  }
}

/** Drops by reason. A reason that needs a spool is left out for a stream without one. */
function dropsOf({ dropped, spool }: ProducerStats): [DropReason, number][] {
  return dropReasons
    .filter((reason) => !dropReasonTraits[reason].needsSpool || spool !== null || dropped[reason] > 0)
    .map((reason) => [reason, dropped[reason]])
}

/** Metrics of the spools of durable streams. A stream without a spool has no series here. */
const spoolFamilies: readonly StreamFamily[] = [
  {
    name: 'chute_spool_records',
    help: 'Records on disk that Kafka has not acknowledged, those in the buffer and in flight among them.',
    type: 'gauge',
    read: ofSpool(({ records }) => records),
  },
  {
    name: 'chute_spool_bytes',
    help: 'Bytes of the spool on disk. A file of it goes when all of its records are acknowledged.',
    type: 'gauge',
    read: ofSpool(({ bytes }) => bytes),
  },
  {
    name: 'chute_spool_max_bytes',
    help: 'What the spool may take of the disk, spool.max.bytes; then events are refused.',
    type: 'gauge',
    read: ofSpool(({ maxBytes }) => maxBytes),
  },
  {
    name: 'chute_spool_oldest_age_seconds',
    help: 'Age of the oldest record on disk that Kafka has not acknowledged; 0 if there is none.',
    type: 'gauge',
    read: ofSpool(({ oldestAgeSeconds }) => oldestAgeSeconds),
  },
  {
    name: 'chute_spool_drained_total',
    help: 'Records that were on disk and got an outcome: its rate is the rate of drain.',
    type: 'counter',
    read: ofSpool(({ drained }) => drained),
  },
  {
    name: 'chute_spool_failures_total',
    help: 'Operations that the disk refused: writes, after which events are refused for a moment, and reads.',
    type: 'counter',
    read: ({ spool }) =>
      spool === null
        ? []
        : [
            [{ operation: 'write' }, spool.writeFailures],
            [{ operation: 'read' }, spool.readFailures],
          ],
  },
  {
    name: 'chute_spool_available',
    help: '1 if the disk took the last write, 0 for a moment after it did not.',
    type: 'gauge',
    read: ofSpool(({ available }) => Number(available)),
  },
]

/** Reads a number of the spool, where there is a spool. */
function ofSpool(read: (spool: SpoolStats) => number) {
  return ({ spool }: ProducerStats): readonly Reading[] => (spool === null ? [] : [[{}, read(spool)]])
}

/** Histograms that producers fill batch by batch and request by request, with the labels `stream` and `topic`. */
export class ProducerHistograms {
  readonly #batchSize = new Histogram({
    name: 'kafka_producer_batch_size_bytes',
    help: 'Bytes of a batch as written. Mostly small batches: raise linger.ms.',
    type: 'histogram',
    buckets: [256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576],
  })
  readonly #queueTime = new Histogram({
    name: 'kafka_producer_record_queue_time_seconds',
    help: 'Time from the first append to a batch until the batch was written.',
    type: 'histogram',
    // From linger.ms, 5 ms by default, to delivery.timeout.ms, 120 s by default.
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
  })
  readonly #requestLatency = new Histogram({
    name: 'kafka_producer_request_latency_seconds',
    help: 'Time of a produce request until its response, or, with acks=0, until the kernel had it.',
    type: 'histogram',
    buckets: [
      0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
    ],
  })

  /** Adds a stream with its series at zero. To be called once a stream. */
  addStream(stream: string, topic: string): ProducerTelemetry {
    const batchSize = this.#batchSize.addSeries({ stream, topic })
    const queueTime = this.#queueTime.addSeries({ stream, topic })
    const requestLatency = this.#requestLatency.addSeries({ stream, topic })
    return {
      batchWritten(sizeBytes, _recordCount, queueTimeMs) {
        batchSize.observe(sizeBytes)
        queueTime.observe(queueTimeMs / 1000)
      },
      requestCompleted(latencyMs) {
        requestLatency.observe(latencyMs / 1000)
      },
    }
  }

  read(): HistogramReading[] {
    return [this.#batchSize.read(), this.#queueTime.read(), this.#requestLatency.read()]
  }
}
