import { describe, expect, test } from 'vitest'
import { errorTable } from '../../../src/errors.ts'
import { dropReasons } from '../../../src/kafka/producer/outcome.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'
import { parseExposition, sumOf, valueOf } from '../../support/parse-exposition.ts'
import { droppedRecords, producerStats } from '../../support/producer-stats.ts'

async function scrape(metrics: Metrics) {
  return parseExposition([...(await metrics.text(undefined)).lines].join(''), 'prometheus')
}

const stream = { stream: 'metrics-realtime', topic: 'realtime-topic' }

describe('Metrics', () => {
  test('every metric of the contract is there at zero in the first scrape', async () => {
    const metrics = new Metrics('1.2.3')
    metrics.observe(() => [producerStats()])
    metrics.producerTelemetry(stream.stream, stream.topic)
    metrics.httpTimer('POST', '/v1/streams/:stream')
    const families = await scrape(metrics)

    const reasons = dropReasons.filter((reason) => reason !== 'spool_damaged')
    for (const reason of [...reasons, 'suspected_lost'])
      expect(valueOf(families, 'kafka_producer_record_error_total', { ...stream, reason })).toBe(0)
    for (const outcome of ['confirmed', 'suspected_lost'])
      expect(valueOf(families, 'chute_records_total', { ...stream, outcome, reason: '' })).toBe(0)
    for (const reason of reasons)
      expect(valueOf(families, 'chute_records_total', { ...stream, outcome: 'dropped', reason })).toBe(0)
    for (const state of ['buffered', 'in_flight'])
      expect(valueOf(families, 'chute_records_pending', { ...stream, state })).toBe(0)
    for (const transport of ['http', 'beacon', 'pixel'])
      for (const result of ['accepted', 'rejected'])
        expect(valueOf(families, 'chute_events_total', { result, transport })).toBe(0)
    for (const code of Object.keys(errorTable))
      expect(valueOf(families, 'chute_events_rejected_total', { code })).toBe(0)
    for (const name of ['record_queue_time_seconds', 'request_latency_seconds', 'batch_size_bytes'])
      expect(valueOf(families, `kafka_producer_${name}_count`, stream)).toBe(0)
    for (const status of ['2xx', '3xx', '4xx', '5xx'])
      expect(
        valueOf(families, 'chute_http_request_duration_seconds_count', {
          route: '/v1/streams/:stream',
          method: 'POST',
          status,
        }),
      ).toBe(0)
    for (const name of ['record_send_total', 'record_error_rate', 'batch_size_avg'])
      expect(valueOf(families, `kafka_producer_${name}`, stream)).toBe(0)
    expect(valueOf(families, 'kafka_producer_buffer_available_bytes', stream)).toBe(67_108_864)
    expect(valueOf(families, 'kafka_producer_buffer_total_bytes', stream)).toBe(67_108_864)
    expect(valueOf(families, 'chute_stream_available', stream)).toBe(1)
    expect(valueOf(families, 'chute_build_info', { version: '1.2.3' })).toBe(1)
  })

  test.each([
    [{ confirmation: 'log_end' }, ['confirmed', 'suspected_lost', 'dropped']],
    [{ confirmation: 'off' }, ['sent', 'suspected_lost', 'dropped']],
    // A retired stream has another mode than the one in which it counted.
    [{ confirmation: 'log_end', sent: 2 }, ['confirmed', 'sent', 'suspected_lost', 'dropped']],
    [
      { delivery: 'at-least-once', confirmation: 'acks_all' },
      ['acked', 'suspected_lost', 'dead_lettered', 'dropped'],
    ],
  ] as const)('a stream with %o has the series %j and no other outcome', async (changes, outcomes) => {
    const metrics = new Metrics('1.2.3')
    metrics.observe(() => [producerStats(changes)])
    const families = await scrape(metrics)
    const labelsOf = (name: string, label: string) => [
      ...new Set(families.get(name)!.samples.map(({ labels }) => labels[label])),
    ]
    expect(labelsOf('chute_records_total', 'outcome')).toEqual(outcomes)
    expect(labelsOf('kafka_producer_record_error_total', 'reason').includes('dead_lettered')).toBe(
      (outcomes as readonly string[]).includes('dead_lettered'),
    )
    expect(labelsOf('chute_records_total', 'reason')).not.toContain('spool_damaged')
    expect(labelsOf('chute_records_pending', 'state')).toEqual(['buffered', 'in_flight'])
    expect(sumOf(families, 'chute_confirmation')).toBe(1)
  })

  test('what a stream counts is what a scrape says', async () => {
    const metrics = new Metrics('1.2.3')
    const dropped = droppedRecords({ expired: 5, buffer_full: 6 })
    metrics.observe(() => [
      producerStats({
        accepted: 28,
        buffered: 1,
        inFlight: 2,
        confirmed: 3,
        sent: 0,
        suspectedLost: 4,
        acked: 7,
        dropped,
        recordSendTotal: 16,
        recordErrorTotal: 15,
        recordErrorRate: 0.25,
        batchSizeAvg: 900,
        bufferAvailableBytes: 12,
        bufferTotalBytes: 100,
        connected: false,
        circuitOpen: true,
        available: false,
        lossRatio: { producer: 0.1, barrier: 0.2, broker: 0.3 },
        logEndOffsets: [{ partition: 3, baseOffset: 984, logEndOffset: 1000, written: 16 }],
      }),
    ])
    const families = await scrape(metrics)
    expect(valueOf(families, 'kafka_producer_record_send_total')).toBe(16)
    expect(valueOf(families, 'kafka_producer_record_error_total', { reason: 'suspected_lost' })).toBe(4)
    expect(sumOf(families, 'kafka_producer_record_error_total')).toBe(15)
    expect(valueOf(families, 'kafka_producer_record_error_rate')).toBe(0.25)
    expect(valueOf(families, 'kafka_producer_batch_size_avg')).toBe(900)
    expect(valueOf(families, 'kafka_producer_buffer_available_bytes')).toBe(12)
    expect(valueOf(families, 'chute_records_total', { outcome: 'dropped', reason: 'buffer_full' })).toBe(6)
    expect(valueOf(families, 'chute_records_accepted_total')).toBe(
      sumOf(families, 'chute_records_pending') + sumOf(families, 'chute_records_total'),
    )
    expect(valueOf(families, 'chute_loss_ratio', { source: 'producer' })).toBe(0.1)
    expect(valueOf(families, 'chute_loss_ratio', { source: 'barrier' })).toBe(0.2)
    expect(valueOf(families, 'chute_loss_ratio', { source: 'broker' })).toBe(0.3)
    expect(valueOf(families, 'chute_kafka_connected')).toBe(0)
    expect(valueOf(families, 'chute_circuit_open')).toBe(1)
    expect(valueOf(families, 'chute_stream_available')).toBe(0)
    expect(valueOf(families, 'chute_confirmation', { mode: 'log_end' })).toBe(1)
    expect(sumOf(families, 'chute_confirmation')).toBe(1)
    expect(valueOf(families, 'chute_partition_log_end_offset', { partition: '3' })).toBe(1000)
    expect(valueOf(families, 'chute_partition_records_written_total', { partition: '3' })).toBe(16)
  })

  test('a loss that nobody looked for yet is not a number, so that nobody reads it as none', async () => {
    const metrics = new Metrics('1.2.3')
    metrics.observe(() => [producerStats()])
    expect(valueOf(await scrape(metrics), 'chute_loss_ratio', { source: 'broker' })).toBeNaN()
  })

  test('batches and requests are told in bytes and milliseconds and shown in bytes and seconds', async () => {
    const metrics = new Metrics('1.2.3')
    const telemetry = metrics.producerTelemetry(stream.stream, stream.topic)
    telemetry.batchWritten(32_768, 130, 5)
    telemetry.requestCompleted(2)
    const families = await scrape(metrics)
    expect(valueOf(families, 'kafka_producer_batch_size_bytes_sum', stream)).toBe(32_768)
    expect(valueOf(families, 'kafka_producer_batch_size_bytes_bucket', { le: '16384' })).toBe(0)
    expect(valueOf(families, 'kafka_producer_batch_size_bytes_bucket', { le: '32768' })).toBe(1)
    expect(valueOf(families, 'kafka_producer_record_queue_time_seconds_sum', stream)).toBe(0.005)
    expect(valueOf(families, 'kafka_producer_request_latency_seconds_sum', stream)).toBe(0.002)
  })

  test('the account closes in a scrape during which every turn of the event loop changes it', async () => {
    let accepted = 0
    let confirmed = 0
    const metrics = new Metrics('1.2.3')
    metrics.observe(() =>
      ['a', 'b', 'c'].map((name) =>
        producerStats({ stream: name, accepted, confirmed, inFlight: accepted - confirmed }),
      ),
    )
    const abort = new AbortController()
    const traffic = (async () => {
      while (!abort.signal.aborted) {
        accepted += 10
        metrics.edge.accepted('http', 10)
        await Promise.resolve()
        confirmed += 3
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()

    for (let round = 0; round < 20; round++) {
      const families = await scrape(metrics)
      const before = accepted
      for (const name of ['a', 'b', 'c']) {
        const pending = sumOf(families, 'chute_records_pending', { stream: name })
        const settled = sumOf(families, 'chute_records_total', { stream: name })
        expect(valueOf(families, 'chute_records_accepted_total', { stream: name })).toBe(pending + settled)
      }
      expect(valueOf(families, 'chute_events_total', { result: 'accepted', transport: 'http' })).toBe(
        valueOf(families, 'chute_records_accepted_total', { stream: 'a' }),
      )
      expect(before).toBeGreaterThan(0)
    }
    abort.abort()
    await traffic
  })

  test('the codes of rejections add up to the rejected events', async () => {
    const metrics = new Metrics('1.2.3')
    metrics.edge.rejected('http', 'invalid_event', 3)
    metrics.edge.rejected('beacon', 'buffer_full', 2)
    metrics.edge.rejected('pixel', 'invalid_event', 1)
    const families = await scrape(metrics)
    expect(valueOf(families, 'chute_events_total', { result: 'rejected', transport: 'beacon' })).toBe(2)
    expect(valueOf(families, 'chute_events_rejected_total', { code: 'invalid_event' })).toBe(4)
    expect(sumOf(families, 'chute_events_rejected_total')).toBe(
      sumOf(families, 'chute_events_total', { result: 'rejected' }),
    )
  })

  test('two gateways of one process do not see one another', async () => {
    const one = new Metrics('1.2.3')
    const other = new Metrics('1.2.3')
    one.edge.accepted('http', 1)
    expect(sumOf(await scrape(other), 'chute_events_total')).toBe(0)
  })

  test('a route that is asked for twice has one timer', async () => {
    const metrics = new Metrics('1.2.3')
    metrics.httpTimer('GET', '/').observe(204, 3)
    metrics.httpTimer('GET', '/').observe(503, 3)
    const families = await scrape(metrics)
    const name = 'chute_http_request_duration_seconds_count'
    expect(valueOf(families, name, { route: '/', status: '2xx' })).toBe(1)
    expect(valueOf(families, name, { route: '/', status: '5xx' })).toBe(1)
  })

  test('process, event loop and garbage collection are measured', async () => {
    const families = await scrape(new Metrics('1.2.3'))
    expect(valueOf(families, 'process_resident_memory_bytes')).toBeGreaterThan(0)
    expect(families.has('nodejs_eventloop_lag_p99_seconds')).toBe(true)
    expect(families.get('nodejs_gc_duration_seconds')?.type).toBe('histogram')
  })
})
