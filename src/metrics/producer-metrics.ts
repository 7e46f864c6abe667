import { confirmationModes } from '../kafka/producer/confirmation-mode.ts'
import { dropReasons } from '../kafka/producer/outcome.ts'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { CollectedFamily } from './exposition.ts'
import { spoolFamilies } from './spool-metrics.ts'
import { collectFamilies, type Reading, type StreamFamily } from './stream-family.ts'

/**
 * Every metric that is read from {@link ProducerStats}. Kafka's own names (`org.apache.kafka.clients.producer.internals
 * .SenderMetricsRegistry`) in Prometheus form, then the account. That account can be checked from here alone:
 * `chute_records_accepted_total` + `chute_records_recovered_total` = the sum of `chute_records_pending` + the sum of
 * `chute_records_total`, at every scrape.
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
      ...dropReasons.map((reason): Reading => [{ reason }, stats.dropped[reason]]),
      [{ reason: 'suspected_lost' }, stats.suspectedLost],
      [{ reason: 'dead_lettered' }, stats.deadLettered],
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
      [{ outcome: 'confirmed', reason: '' }, stats.confirmed],
      [{ outcome: 'sent', reason: '' }, stats.sent],
      [{ outcome: 'acked', reason: '' }, stats.acked],
      [{ outcome: 'suspected_lost', reason: '' }, stats.suspectedLost],
      [{ outcome: 'dead_lettered', reason: '' }, stats.deadLettered],
      ...dropReasons.map((reason): Reading => [{ outcome: 'dropped', reason }, stats.dropped[reason]]),
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
      [{ state: 'spooled' }, stats.spooled],
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
      confirmationModes.map((mode): Reading => [{ mode }, Number(mode === stats.confirmation)]),
  },
  {
    name: 'chute_circuit_open',
    help: '1 while the circuit breaker keeps the stream from connecting, else 0.',
    type: 'gauge',
    read: (stats) => [[{}, Number(stats.circuitOpen)]],
  },
]

/** Reads every stream's account, without waiting for anything: all values are of one instant. */
export function collectProducerMetrics(streams: readonly ProducerStats[]): CollectedFamily[] {
  return collectFamilies([...producerFamilies, ...spoolFamilies], streams)
}
