import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { Account } from '../../../src/kafka/producer/account.ts'
import { BufferMemory } from '../../../src/kafka/producer/buffer-memory.ts'
import { LogEndOffsets } from '../../../src/kafka/producer/log-end-offsets.ts'
import { dropReasons, outcomes, type DropReason, type Outcome } from '../../../src/kafka/producer/outcome.ts'
import { ProducerBatch } from '../../../src/kafka/producer/producer-batch.ts'
import { withRatios } from '../../../src/kafka/producer/producer-stats.ts'
import { type MergeableFamily, mergeFamilies } from '../../../src/metrics/family.ts'
import {
  mergeSnapshots,
  Metrics,
  type MetricsSnapshot,
  retireSnapshot,
  writeSnapshot,
} from '../../../src/metrics/metrics.ts'
import { collectProcessMetrics } from '../../../src/metrics/process-metrics.ts'
import { parseExposition, sumOf, valueOf } from '../../support/parse-exposition.ts'
import { droppedRecords, producerStats } from '../../support/producer-stats.ts'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'

const partitions = [0, 1]

/** The counting parts of a gateway with one stream, of which a step is told what happens. */
class CountingGateway {
  readonly metrics = new Metrics('1.2.3')
  readonly #memory: BufferMemory
  readonly #account: Account
  readonly #offsets = new LogEndOffsets()
  readonly #telemetry = this.metrics.producerTelemetry('s', 't')
  readonly #timer = this.metrics.httpTimer('POST', '/v1/streams/:stream')
  readonly #batches = new Map<number, ProducerBatch>()

  constructor(memoryBytes: number) {
    this.#memory = new BufferMemory(memoryBytes)
    this.#account = new Account(this.#memory)
    this.metrics.observe(() => [this.stats()])
  }

  stats() {
    const { account, memory } = { account: this.#account, memory: this.#memory }
    return withRatios({
      ...producerStats({ stream: 's', topic: 't' }),
      accepted: account.accepted,
      buffered: account.buffered,
      inFlight: account.inFlight,
      confirmed: account.confirmed,
      sent: account.sent,
      suspectedLost: account.suspectedLost,
      acked: account.acked,
      dropped: { ...account.dropped },
      recordSendTotal: account.recordSendTotal,
      recordErrorTotal: account.recordErrorTotal,
      localErrorTotal: account.localErrorTotal,
      recent: { ...account.recent, batches: account.confirmed, batchBytes: account.confirmed * 7 },
      bufferTotalBytes: memory.totalBytes,
      bufferAvailableBytes: memory.availableBytes,
      logEndOffsets: [...this.#offsets],
    })
  }

  /** A look at the logs, as they are for everybody. */
  look(logEnds: readonly number[]): void {
    for (const partition of partitions)
      this.#offsets.observe(partition, BigInt(logEnds[partition]!), this.#offsets.writtenTo(partition))
  }

  apply(step: Step): void {
    switch (step.kind) {
      case 'edge':
        this.metrics.edge.accepted('http', step.count)
        this.metrics.edge.rejected('beacon', 'invalid_event', step.count + 1)
        this.#timer.observe(202, step.count * 1_000)
        return
      case 'drop':
        this.#account.acceptAndDrop(step.count)
        return
      case 'batch': {
        const batch = new ProducerBatch(step.partition, 0, Buffer.alloc(4_096), () => {})
        for (let i = 0; i < step.count; i++) {
          this.#memory.reserve(100)
          batch.append(RecordBytes.of(Buffer.from('value'), null, 1_700_000_000_000), 4_096)
          batch.chargedBytes += 100
          this.#account.accept()
        }
        batch.close()
        this.#batches.set(step.id, batch)
        return
      }
      case 'write': {
        const batch = this.#batches.get(step.id)
        if (batch === undefined || batch.state !== 'closed') return
        this.#account.written(batch)
        this.#offsets.written(batch.partition, batch.recordCount)
        this.#telemetry.batchWritten(batch.recordCount * 100, batch.recordCount, batch.recordCount * 1_000)
        this.#telemetry.requestCompleted(batch.recordCount * 1_000)
        return
      }
      case 'settle': {
        const batch = this.#batches.get(step.id)
        if (batch === undefined || batch.state === 'settled') return
        this.#account.settle(batch, step.outcome, step.outcome === 'dropped' ? step.reason : null)
        return
      }
      case 'look':
      // All processes look at the same logs, at one moment: see below.
    }
  }
}

type Step =
  | { kind: 'edge'; count: number }
  | { kind: 'drop'; count: number }
  | { kind: 'batch'; id: number; partition: number; count: number }
  | { kind: 'write'; id: number }
  | { kind: 'settle'; id: number; outcome: Outcome; reason: DropReason }
  | { kind: 'look'; arrived: number }

const id = fc.nat(9)
const count = fc.integer({ min: 1, max: 9 })
const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('edge' as const), count }),
  fc.record({ kind: fc.constant('drop' as const), count }),
  fc.record({ kind: fc.constant('write' as const), id }),
  fc.record({ kind: fc.constant('look' as const), arrived: fc.nat(9) }),
  fc.record({
    kind: fc.constant('settle' as const),
    id,
    outcome: fc.constantFrom(...outcomes),
    reason: fc.constantFrom(...dropReasons),
  }),
)

test('merging the snapshots of k workers gives what one gateway would say that saw all', () => {
  vi.useFakeTimers()
  try {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.array(count, { minLength: 10, maxLength: 10 }),
        fc.array(stepArbitrary, { maxLength: 60 }),
        (k, sizes, steps) => {
          const workers = Array.from({ length: k }, () => new CountingGateway(10_000))
          const whole = new CountingGateway(10_000 * k)
          const logEnds = [1_000, 2_000]
          for (const gateway of [...workers, whole]) gateway.look(logEnds)
          // A batch is one worker's from its first record to its outcome; other steps go round.
          const batches = sizes.map((size, i): Step => ({
            kind: 'batch',
            id: i,
            partition: i % 2,
            count: size,
          }))
          for (const [turn, step] of [...batches, ...steps].entries()) {
            if (step.kind === 'look') {
              logEnds[0]! += step.arrived
              for (const gateway of [...workers, whole]) gateway.look(logEnds)
              continue
            }
            workers[('id' in step ? step.id : turn) % k]!.apply(step)
            whole.apply(step)
          }
          const merged = mergeSnapshots(workers.map(({ metrics }) => metrics.account()))
          expect(merged).toEqual(whole.metrics.account())
          expect(textOf(merged)).toBe(textOf(whole.metrics.account()))
        },
      ),
    )
  } finally {
    vi.useRealTimers()
  }
})

function textOf(snapshot: MetricsSnapshot): string {
  return [...writeSnapshot(() => snapshot, undefined).lines].join('')
}

describe('a gateway that has ended', () => {
  const stats = producerStats({
    accepted: 20,
    buffered: 3,
    inFlight: 4,
    confirmed: 8,
    suspectedLost: 1,
    dropped: droppedRecords({ expired: 4 }),
    recordSendTotal: 17,
    recordErrorTotal: 5,
    connected: false,
    circuitOpen: true,
    available: false,
  })

  function endedOne() {
    const metrics = new Metrics('1.2.3')
    metrics.observe(() => [stats])
    metrics.edge.accepted('http', 20)
    return retireSnapshot(metrics.account())
  }

  test('keeps its counters, and what it held is suspected lost', () => {
    const families = parseExposition(textOf(endedOne()), 'prometheus')
    expect(valueOf(families, 'chute_records_accepted_total')).toBe(20)
    expect(valueOf(families, 'chute_records_total', { outcome: 'suspected_lost' })).toBe(8)
    expect(sumOf(families, 'chute_records_pending')).toBe(0)
    expect(sumOf(families, 'chute_records_total')).toBe(20)
    expect(valueOf(families, 'kafka_producer_record_send_total')).toBe(20)
    expect(sumOf(families, 'kafka_producer_record_error_total')).toBe(12)
    expect(valueOf(families, 'chute_events_total', { result: 'accepted', transport: 'http' })).toBe(20)
  })

  test('leaves to the next one what it has on disk, and nothing of it is lost or counted twice', () => {
    const spool = {
      records: 9,
      bytes: 900,
      maxBytes: 1_000,
      oldestAgeSeconds: 5,
      drained: 13,
      writeFailures: 1,
      readFailures: 0,
      available: false,
    }
    const durable = { ...stats, accepted: 22, spooled: 2, spool }
    const ended = new Metrics('1.2.3')
    ended.observe(() => [durable])
    const next = new Metrics('1.2.3')
    next.observe(() => [
      producerStats({
        recovered: 9,
        spooled: 9,
        spool: { ...spool, drained: 0, writeFailures: 0, available: true },
      }),
    ])
    const [merged] = mergeSnapshots([retireSnapshot(ended.account()), next.account()]).streams
    expect(merged).toMatchObject({ accepted: 22, recovered: 0, spooled: 9, buffered: 0, inFlight: 0 })
    expect(merged).toMatchObject({ confirmed: 8, suspectedLost: 1, dropped: { expired: 4 } })
    expect(merged!.spool).toEqual({ ...spool, available: true })
  })

  test('has no room and no connection to add to those of the others', () => {
    const other = new Metrics('1.2.3')
    other.observe(() => [producerStats()])
    const [merged] = mergeSnapshots([endedOne(), other.account()]).streams
    expect(merged).toMatchObject({
      bufferTotalBytes: 67_108_864,
      bufferAvailableBytes: 67_108_864,
      connected: true,
      circuitOpen: false,
      available: true,
    })
  })
})

test('the topics of one stream stay apart, and each is added up over the workers', () => {
  const worker = (accepted: number): MetricsSnapshot => ({
    ...new Metrics('1.2.3').account(),
    streams: ['clicks', 'views'].map((topic, nth) =>
      producerStats({ stream: 'web', topic, accepted: accepted + nth, buffered: accepted + nth }),
    ),
  })
  const { streams } = mergeSnapshots([worker(1), worker(10)])
  expect(streams.map(({ topic, accepted }) => [topic, accepted])).toEqual([
    ['clicks', 11],
    ['views', 13],
  ])
})

test('a connection that one worker has lost is lost, a circuit that one has open is open, and a stream that one refuses is refused', () => {
  const worse = { connected: false, circuitOpen: true, available: false }
  const gateways = [{}, worse].map((changes) => {
    const metrics = new Metrics('1.2.3')
    metrics.observe(() => [producerStats(changes)])
    return metrics.account()
  })
  const merged = mergeSnapshots(gateways)
  expect(merged.streams).toMatchObject([worse])
  const families = parseExposition(textOf(merged), 'prometheus')
  expect(valueOf(families, 'chute_stream_available')).toBe(0)
})

describe('gauges', () => {
  const gauge = (merge: 'sum' | 'max' | 'min', value: number, labels = {}): MergeableFamily => ({
    name: merge,
    help: 'h',
    type: 'gauge',
    merge,
    samples: [{ suffix: '', labels, value }],
  })

  test('merge by the rule that their family has', () => {
    const all = (value: number) => [gauge('sum', value), gauge('max', value), gauge('min', value)]
    const values = mergeFamilies([all(3), all(Number.NaN), all(5)]).map(({ samples }) => samples[0]?.value)
    expect(values).toEqual([Number.NaN, 5, 3])
  })

  test('that only one process has stay as they are', () => {
    const merged = mergeFamilies([[gauge('sum', 1, { type: 'a' })], [gauge('sum', 2, { type: 'b' })]])
    expect(merged).toHaveLength(1)
    expect(merged[0]?.samples.map(({ value }) => value)).toEqual([1, 2])
  })
})

test('of two processes memory and CPU add up, the worse lag stands, and no label set is new', async () => {
  const one = await collectProcessMetrics()
  const merged = mergeFamilies([one, one])
  const valuesOf = (name: string) =>
    [one, merged].map((families) => families.find((family) => family.name === name)!.samples[0]!.value)
  for (const name of ['process_resident_memory_bytes', 'process_cpu_seconds_total', 'process_open_fds']) {
    const [before, after] = valuesOf(name)
    expect(after).toBe(2 * before!)
  }
  const states = ['process_start_time_seconds', 'nodejs_eventloop_lag_max_seconds', 'nodejs_version_info']
  for (const [before, after] of states.map(valuesOf)) expect(after).toBe(before)
  const series = (families: readonly MergeableFamily[]) =>
    families.flatMap(({ name, samples }) =>
      samples.map(({ suffix, labels, le }) => ({ name, suffix, labels, le })),
    )
  expect(series(merged)).toEqual(series(one))
})
