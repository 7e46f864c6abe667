import { randomUUID } from 'node:crypto'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { streamConfig } from '../support/producer-fixture.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, endOffsets, readTopic } from '../support/independent-reader.ts'
import { dumpTopics } from '../support/kafka-tools.ts'
import { parseExposition, sumOf, valueOf, type ParsedFamily } from '../support/parse-exposition.ts'

const broker = inject('kafkaBroker')
const eventsPerStream = { realtime: 8_000, critical: 2_000 }
const topics = { realtime: `main-${randomUUID()}`, critical: `main-${randomUUID()}` }

/** One event as it was sent: its very bytes, and its key. */
interface SentEvent {
  readonly json: string
  readonly key: string | null
}

/** Bodies in all the shapes that the route takes, by the number of events that fit in one. */
interface Shape {
  readonly events: number
  readonly headers: Record<string, string>
  readonly body: (events: readonly string[]) => string | Buffer
}

const array = (events: readonly string[]): string => `[ ${events.join(' ,\n')} ]`
const lines = (events: readonly string[]): string => events.join('\n')
const one = (events: readonly string[]): string => events[0]!
const json = { 'content-type': 'application/json' }
const ndjson = { 'content-type': 'application/x-ndjson' }
const shapes: readonly Shape[] = [
  { events: 1, headers: json, body: one },
  { events: 1, headers: { 'content-type': 'text/plain;charset=UTF-8' }, body: one },
  { events: 1, headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: one },
  { events: 40, headers: json, body: array },
  { events: 100, headers: ndjson, body: lines },
  { events: 40, headers: { ...json, 'content-encoding': 'gzip' }, body: (e) => gzipSync(array(e)) },
  {
    events: 100,
    headers: { ...ndjson, 'content-encoding': 'br' },
    body: (e) => brotliCompressSync(lines(e)),
  },
  { events: 20, headers: { ...ndjson, 'content-encoding': 'deflate' }, body: (e) => deflateSync(lines(e)) },
]

/** What JSON.parse and JSON.stringify would not give back as it was. */
const oddities: readonly string[] = [
  '"big":12345678901234567890123',
  String.raw`"escaped":"\u00e9\/\ud83d\ude80"`,
  '"raw":"é🚀 ß"',
  '"number":1.50e+2',
  '"twice":1,"twice":2',
  '"2":"b","1":"a"',
]

describe('10,000 mixed events over HTTP, with Kafka well', () => {
  let gateway: TestGateway
  let requests = 0
  const sent = { realtime: [] as SentEvent[], critical: [] as SentEvent[] }
  let metrics: Map<string, ParsedFamily>

  beforeAll(async () => {
    for (const topic of Object.values(topics)) await createTopic(broker, topic)
    const streams = [
      { ...streamConfig(topics.realtime, 'at-most-once'), name: 'realtime', schema: 'telemetry' as const },
      { ...streamConfig(topics.critical, 'at-least-once'), name: 'critical', schema: 'telemetry' as const },
    ]
    gateway = await startGatewayWith(testConfig({ brokers: [broker], streams }))
    await Promise.all(
      (['realtime', 'critical'] as const).flatMap((stream) =>
        [0, 1, 2, 3].map(async (client) => await runClient(stream, client)),
      ),
    )
    await untilSettled()
  })

  afterAll(async () => await gateway?.stop())

  /** One request at a time, so that its keys have an order; half of its events have one of five keys. */
  async function runClient(stream: 'realtime' | 'critical', client: number): Promise<void> {
    const count = eventsPerStream[stream] / 4
    for (let next = 0, turn = client; next < count; turn++) {
      const { events, headers, body } = shapes[turn % shapes.length]!
      const batch = Array.from({ length: Math.min(events, count - next) }, (_, i) =>
        sampleEvent(client, next + i),
      )
      next += batch.length
      const reply = await fetch(`${gateway.url}/v1/streams/${stream}`, {
        method: 'POST',
        headers,
        body: body(batch.map((event) => event.json)),
      })
      requests++
      expect([reply.status, await reply.json()]).toEqual([
        202,
        { accepted: batch.length, rejected: 0, errors: [] },
      ])
      sent[stream].push(...batch)
    }
  }

  /** Scrapes until every record has its outcome and the last look at the log end offsets was made. */
  async function untilSettled(): Promise<void> {
    const looked = async (): Promise<void> => {
      metrics = parseExposition(await (await fetch(`${gateway.url}/metrics`)).text(), 'prometheus')
      expect(sumOf(metrics, 'chute_records_pending')).toBe(0)
      const written = sumOf(metrics, 'chute_partition_records_written_total', { stream: 'realtime' })
      expect(written).toBe(eventsPerStream.realtime)
    }
    await vi.waitFor(looked, { timeout: 30_000 })
  }

  describe.each(['realtime', 'critical'] as const)('of the %s stream', (stream) => {
    const topic = topics[stream]
    const count = eventsPerStream[stream]
    const value = (name: string, labels: Record<string, string> = {}): number =>
      valueOf(metrics, name, { stream, topic, ...labels })
    const sum = (name: string): number => sumOf(metrics, name, { stream, topic })

    test('land as accepted: byte for byte, once each, and in order of each key', async () => {
      const landed = await readTopic(broker, topic)
      expect(landed).toHaveLength(count)
      const asSent = sent[stream].map(({ key, json: bytes }) => `${key} ${bytes}`).toSorted()
      const asLanded = landed.map(({ key, value: bytes }) => `${key} ${bytes.toString()}`).toSorted()
      expect(asLanded).toEqual(asSent)

      const inOrder = byKey(landed.map(({ key, value: bytes }) => ({ key, json: bytes.toString() })))
      const keys = byKey(sent[stream])
      expect(inOrder.size).toBe(4 * 5)
      expect(inOrder).toEqual(keys)
      const partitionsOf = new Set(landed.map(({ key, partition }) => `${key} ${partition}`))
      expect([...partitionsOf].filter((pair) => !pair.startsWith('null '))).toHaveLength(keys.size)
    })

    test('are in the account, each with one outcome, and nothing is pending', () => {
      const outcome = stream === 'realtime' ? 'confirmed' : 'acked'
      expect(value('chute_records_accepted_total')).toBe(count)
      expect(value('chute_records_total', { outcome })).toBe(count)
      expect(sum('chute_records_total')).toBe(count)
      expect(sum('chute_records_pending')).toBe(0)
      expect(value('chute_loss_ratio', { source: 'producer' })).toBe(0)
      expect(value('chute_loss_ratio', { source: 'barrier' })).toBe(0)
    })

    test('are what the metrics under the names of Kafka say', async () => {
      const batches = await dumpTopics(inject('kafkaClasspath'), inject('kafkaDataDir'), topic)
      const bytes = batches.reduce((total, { sizeBytes }) => total + sizeBytes, 0)
      expect(batches.filter(({ isValid, magic }) => !isValid || magic !== 2)).toEqual([])
      expect(batches.reduce((total, { recordCount }) => total + recordCount, 0)).toBe(count)

      expect(value('kafka_producer_record_send_total')).toBe(count)
      expect(sum('kafka_producer_record_error_total')).toBe(0)
      expect(value('kafka_producer_record_error_rate')).toBe(0)
      expect(value('kafka_producer_buffer_total_bytes')).toBe(67_108_864)
      expect(value('kafka_producer_buffer_available_bytes')).toBe(67_108_864)
      expect(value('kafka_producer_batch_size_bytes_count')).toBe(batches.length)
      expect(value('kafka_producer_batch_size_bytes_sum')).toBe(bytes)
      expect(value('kafka_producer_batch_size_avg')).toBeGreaterThan(0)
      expect(value('kafka_producer_record_queue_time_seconds_count')).toBe(batches.length)
      const written = value('kafka_producer_request_latency_seconds_count')
      expect(written).toBeGreaterThan(0)
      expect(written).toBeLessThanOrEqual(batches.length)
      expect(value('kafka_producer_request_latency_seconds_sum')).toBeGreaterThan(0)
      expect(value('chute_kafka_connected')).toBe(1)
      expect(value('chute_circuit_open')).toBe(0)
    })
  })

  test('are counted at the edge, every request with its duration', () => {
    expect(valueOf(metrics, 'chute_events_total', { result: 'accepted', transport: 'http' })).toBe(10_000)
    expect(sumOf(metrics, 'chute_events_total')).toBe(10_000)
    expect(sumOf(metrics, 'chute_events_rejected_total')).toBe(0)
    const route = { method: 'POST', route: '/v1/streams/:stream', status: '2xx' }
    expect(valueOf(metrics, 'chute_http_request_duration_seconds_count', route)).toBe(requests)
  })

  test('end where the log end offsets of the metrics say, with no loss to see', async () => {
    const labels = { stream: 'realtime' }
    for (const [partition, end] of await endOffsets(broker, topics.realtime)) {
      const of = { ...labels, partition: String(partition) }
      expect(valueOf(metrics, 'chute_partition_log_end_offset', of)).toBe(end)
    }
    expect(valueOf(metrics, 'chute_loss_ratio', { ...labels, source: 'broker' })).toBe(0)
  })
})

function sampleEvent(client: number, index: number): SentEvent {
  const key = index % 2 === 0 ? null : `device-${client}-${index % 5} é`
  const source = key === null ? '' : `"source":${JSON.stringify(key)},`
  const oddity = oddities[index % oddities.length]!
  return { json: `{"name":"n", "value":${index},${source}"id":"${client}-${index}",${oddity}}`, key }
}

/** The events of each key, in their order; those without a key have none. */
function byKey(events: readonly SentEvent[]): Map<string, string[]> {
  const ordered = new Map<string, string[]>()
  for (const { key, json: bytes } of events) {
    if (key === null) continue
    const list = ordered.get(key)
    if (list === undefined) ordered.set(key, [bytes])
    else list.push(bytes)
  }
  return ordered
}
