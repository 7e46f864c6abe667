import { confirmationModes } from '../kafka/producer/confirmation-mode.ts'
import { dropReasons, type DropReason } from '../kafka/producer/outcome.ts'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { CollectedFamily } from './exposition.ts'
import { spoolFamilies } from './spool-metrics.ts'
import { collectFamilies, type Reading, type StreamFamily } from './stream-family.ts'

/**
 * Every metric that is read from {@link ProducerStats}. Kafka's own names (`org.apache.kafka.clients.producer.internals
 * .SenderMetricsRegistry`) in Prometheus form, then the account. That account can be checked from here alone:
 * `chute_records_accepted_total` + `chute_records_recovered_total` = the sum of `chute_records_pending` + the sum of
 * `chute_records_total`, at every scrape. What cannot occur with a stream's delivery has no series there, unless it did.
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
      [{ reason: 'suspected_lost' }, stats.suspectedLost],
      ...(canOccur(stats, 'dead_lettered')
        ? [[{ reason: 'dead_lettered' }, stats.deadLettered] as const]
        : []),
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
    help: 'Records of at-least-once streams that were sent again though Kafka may have them and no longer knew their producer: the most that can be in the topic twice.',
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
      // The series is there from the start, but a zero would claim that nothing was lost before anybody looked.
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
    name: 'chute_confirmation',
    help: 'How the stream learns what became of its writes: 1 for the mode in use, 0 for the others. acks_1 without acks: 1 in the configuration: a broker does not tell where its log ends.',
    type: 'gauge',
    read: (stats) =>
      confirmationModes
        .filter((mode) => stats.delivery === 'at-most-once' || mode.startsWith('acks_'))
        .map((mode): Reading => [{ mode }, Number(mode === stats.confirmation)]),
  },
  {
    name: 'chute_circuit_open',
    help: '1 while the circuit breaker keeps the stream from connecting, else 0.',
    type: 'gauge',
    read: (stats) => [[{}, Number(stats.circuitOpen)]],
  },
]

const keptOutcomes = ['confirmed', 'sent', 'acked', 'suspected_lost', 'dead_lettered'] as const
type KeptOutcome = (typeof keptOutcomes)[number]

function countOf(stats: ProducerStats, outcome: KeptOutcome): number {
  switch (outcome) {
    case 'suspected_lost':
      return stats.suspectedLost
    case 'dead_lettered':
      return stats.deadLettered
    default:
      return stats[outcome]
  }
}

/**
 * Whether records of a stream can end so: acknowledged and dead-lettered at least once only, confirmed or, without
 * confirmation, sent at most once only. What did occur can occur, so that the account adds up whatever happened.
 */
function canOccur(stats: ProducerStats, outcome: KeptOutcome): boolean {
  if (countOf(stats, outcome) > 0) return true
  const isAtMostOnce = stats.delivery === 'at-most-once'
  switch (outcome) {
    case 'confirmed':
      return isAtMostOnce && stats.confirmation !== 'off'
    case 'sent':
      return isAtMostOnce && stats.confirmation === 'off'
    case 'acked':
    case 'dead_lettered':
      return !isAtMostOnce
    case 'suspected_lost':
      return true
  }
}

/** Drops by reason; only what was on disk can be damaged there. */
function dropsOf({ dropped, spool }: ProducerStats): [DropReason, number][] {
  return dropReasons
    .filter((reason) => reason !== 'spool_damaged' || spool !== null || dropped.spool_damaged > 0)
    .map((reason) => [reason, dropped[reason]])
}

/** Every stream's account. */
export function collectProducerMetrics(streams: readonly ProducerStats[]): CollectedFamily[] {
  return collectFamilies([...producerFamilies, ...spoolFamilies], streams)
}
