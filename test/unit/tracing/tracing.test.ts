import { ROOT_CONTEXT, SpanStatusCode, trace } from '@opentelemetry/api'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { afterEach, expect, test } from 'vitest'
import { BatchSpans, RecordsOfRequest } from '../../../src/tracing/batch-spans.ts'
import { Sdk } from '../../../src/tracing/sdk.ts'
import { findTracing, RequestTrace } from '../../../src/tracing/tracing.ts'
import { silentLogger } from '../../../src/logger.ts'
import { ProducerBatch } from '../../../src/kafka/producer/producer-batch.ts'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'
import { FakeBatch, FakeProducer, FakeTopicsProducer } from '../../support/fake-producer.ts'

const exporter = new InMemorySpanExporter()
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
const tracer = provider.getTracer('test')

afterEach(() => {
  exporter.reset()
  trace.disable()
})

function finished(name: string) {
  return exporter.getFinishedSpans().filter((span) => span.name.startsWith(name))
}

/** The context of a request that has a span. */
function requestContext() {
  const span = tracer.startSpan('append')
  span.end()
  return trace.setSpan(ROOT_CONTEXT, span)
}

/** A batch of as many records. */
function batchOf(records: number): ProducerBatch {
  const batch = new ProducerBatch(0, performance.now(), Buffer.alloc(1 << 16), () => {})
  for (let n = 0; n < records; n++) batch.append(RecordBytes.of(Buffer.from('1'), null, n), 1 << 16)
  return batch
}

test('there is no tracing before an SDK is registered, and there is after', async () => {
  expect(findTracing('1.0.0', silentLogger)).toBeNull()
  trace.setGlobalTracerProvider(provider)
  const tracing = findTracing('1.0.0', silentLogger)!
  const headers = {}
  const of = { route: '/r', path: '/r', scheme: 'http', httpVersion: '1.1', client: null, parent: null }
  tracing.begin({ ...of, method: 'POST', headers })!.end(202)
  await tracing.flush()
  const [span] = finished('POST /r')
  const { traceId, spanId } = span!.spanContext()
  expect(headers).toEqual({ traceparent: `00-${traceId}-${spanId}-01` })
  expect(span!.instrumentationScope).toMatchObject({ name: 'chute', version: '1.0.0' })
})

test('the parent of a request is what its headers name, without a propagator too', () => {
  trace.setGlobalTracerProvider(provider)
  const of = { route: '/r', path: '/r', scheme: 'http', httpVersion: '1.1', client: null, headers: {} }
  const parent = { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`, tracestate: 'a=1' }
  const begun = findTracing('1', silentLogger)!.begin({ ...of, method: 'POST', parent })!
  expect(begun.ids.traceId).toBe('a'.repeat(32))
  expect(of.headers).toMatchObject({ tracestate: 'a=1' })
})

test('a batch of very many requests is linked to 128 of them, and says of how many it has records', async () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger))
  const batch = batchOf(0)
  const producer = new FakeProducer()
  for (let nth = 0; nth < 200; nth++) {
    batch.append(RecordBytes.of(Buffer.from('1'), null, nth), 1 << 16)
    new RecordsOfRequest(spans, requestContext(), producer).appended(batch, 0)
  }
  const settlement = { outcome: 'confirmed', reason: null, partition: 0, baseOffset: null } as const
  batch.notifySettled({ ...settlement, firstPlace: 0, recordCount: 200 })
  await new Promise((resolve) => setImmediate(resolve))
  spans.flush()
  const [span] = finished('send')
  expect(span!.links).toHaveLength(128)
  expect(span!.attributes).toMatchObject({
    'chute.batch.traced_requests': 200,
    'messaging.batch.message_count': 200,
  })
  expect(finished('outcome')).toHaveLength(200)
})

test('the parts of a batch that was split have spans of their own, and each record is counted once', async () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger))
  const request = requestContext()
  const records = new RecordsOfRequest(spans, request, new FakeProducer())
  // A place is that of the newest record when its request appends it.
  const growing = batchOf(0)
  for (let n = 0; n < 3; n++) {
    growing.append(RecordBytes.of(Buffer.from('1'), null, n), 1 << 16)
    records.appended(growing, 0)
  }
  const parts = [batchOf(2), batchOf(1)]
  growing.handOverTo(parts)
  const settlement = { reason: null, partition: 0, baseOffset: 5n } as const
  parts[0]!.notifySettled({ ...settlement, outcome: 'acked', firstPlace: 0, recordCount: 2 })
  parts[1]!.notifySettled({
    ...settlement,
    outcome: 'dropped',
    reason: 'message_too_large',
    firstPlace: 2,
    recordCount: 1,
  })
  await new Promise((resolve) => setImmediate(resolve))
  spans.flush()
  const told = finished('outcome').map(({ attributes, status }) => [
    attributes['chute.outcome'],
    attributes['messaging.batch.message_count'],
    attributes['messaging.kafka.offset'],
    attributes['error.type'],
    status.code,
  ])
  expect(told).toEqual([
    ['acked', 2, 5, undefined, 0],
    ['dropped', 1, 5, 'message_too_large', 2],
  ])
  expect(finished('send')).toHaveLength(2)
})

const settled = { outcome: 'confirmed', reason: null, partition: 0, baseOffset: null } as const
const turn = async () => await new Promise((resolve) => setImmediate(resolve))
const ofRequest = {
  method: 'POST',
  route: '/r',
  path: '/r',
  scheme: 'http',
  httpVersion: '1.1',
  client: null,
}

/** The spans of a request on a gateway that follows what `spans` follows. */
function traceOf(spans: BatchSpans): RequestTrace {
  return new RequestTrace(new Sdk(tracer, silentLogger), spans, { ...ofRequest, headers: {}, parent: null })
}

test('what waits for its outcome is followed up to a bound, and an outcome makes room for the next', async () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger), 100)
  const batches = Array.from({ length: 1_000 }, (_, nth) => {
    const batch = new FakeBatch(nth)
    batch.recordCount = 1
    const records = new RecordsOfRequest(spans, requestContext(), new FakeProducer())
    records.appended(batch, 0)
    expect(records.unfollowed).toBe(nth < 100 ? 0 : 1)
    return batch
  })
  expect(spans.followed).toBe(100)
  expect(batches.reduce((sum, batch) => sum + batch.listeners, 0)).toBe(100)
  for (const batch of batches) batch.settle()
  expect(spans.followed).toBe(0)
  await turn()
  expect(finished('outcome')).toHaveLength(100)
  new RecordsOfRequest(spans, requestContext(), new FakeProducer()).appended(batches[0]!, 0)
  expect(spans.followed).toBe(1)
})

test('a batch that is split gives its place back with its last record', async () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger))
  const records = new RecordsOfRequest(spans, requestContext(), new FakeProducer())
  const batch = new FakeBatch(0)
  for (let n = 0; n < 3; n++) {
    batch.recordCount++
    records.appended(batch, 0)
  }
  const told: ((parts: { firstPlace: number; recordCount: number }) => void)[] = []
  batch.onSettled = (listener) => told.push((part) => listener({ ...settled, ...part }))
  const split = new RecordsOfRequest(spans, requestContext(), new FakeProducer())
  for (batch.recordCount = 1; batch.recordCount <= 3; batch.recordCount++) split.appended(batch, 0)
  expect(spans.followed).toBe(2)
  told[0]!({ firstPlace: 0, recordCount: 2 })
  expect(spans.followed).toBe(2)
  told[0]!({ firstPlace: 2, recordCount: 1 })
  expect(spans.followed).toBe(1)
  await turn()
  expect(finished('outcome')).toHaveLength(1)
})

test('a request whose records are refused is followed no more, and one whose records are accepted is', async () => {
  for (const isAccepted of [false, true]) {
    const spans = new BatchSpans(new Sdk(tracer, silentLogger))
    const request = traceOf(spans)
    const producer = new FakeProducer()
    const pending = new FakeBatch(0)
    pending.recordCount = 1
    request.beginAppend(producer)
    request.follow({ append: () => pending }, producer).append(RecordBytes.of(Buffer.from('1'), null, 0))
    expect(spans.followed).toBe(1)
    if (isAccepted) request.accepted({ good: 1, rejected: 0, duplicates: [] })
    request.refused('spool_unavailable')
    expect(spans.followed).toBe(isAccepted ? 1 : 0)
    pending.settle()
    expect(spans.followed).toBe(0)
    await turn()
    expect(finished('outcome')).toHaveLength(isAccepted ? 1 : 0)
  }
})

test('a request says how many of its events are not followed', () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger), 1)
  const producer = new FakeProducer()
  for (const batch of [new FakeBatch(0), new FakeBatch(1)]) {
    const request = traceOf(spans)
    request.beginAppend(producer)
    const appender = request.follow({ append: () => batch }, producer)
    for (let n = 0; n < 3; n++) appender.append(RecordBytes.of(Buffer.from('1'), null, 0))
    request.end(202)
  }
  const unfollowed = finished('POST').map(({ attributes }) => attributes['chute.events.unfollowed'])
  expect(unfollowed).toEqual([undefined, 3])
})

test('records that end in no batch have one span a request, topic and outcome', async () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger))
  const of = { ...settled, partition: -1, appendedAtMs: performance.now(), count: 1 }
  const requests = [requestContext(), requestContext()]
  for (let n = 0; n < 1_000; n++) {
    for (const request of requests) {
      spans.settled({ ...of, request, topic: 'a', outcome: 'pending' }, null)
      spans.settled({ ...of, request, topic: 'b', outcome: 'pending' }, null)
    }
    spans.settled(
      { ...of, request: requests[0]!, topic: 'a', outcome: 'dropped', reason: 'spool_damaged' },
      null,
    )
  }
  await turn()
  const told = finished('outcome').map(({ name, attributes }) => [
    name,
    attributes['chute.outcome'],
    attributes['messaging.batch.message_count'],
  ])
  const a = ['outcome a', 'pending', 1_000]
  const b = ['outcome b', 'pending', 1_000]
  expect(told).toEqual([a, b, ['outcome a', 'dropped', 1_000], a, b])
})

test('events that are dropped since the buffer is full say the topic that each has chosen', async () => {
  const spans = new BatchSpans(new Sdk(tracer, silentLogger))
  const request = traceOf(spans)
  const producer = new FakeTopicsProducer({
    topic: 'others',
    topics: { by: '/type', map: { click: 'clicks' }, else: 'others' },
  })
  const names = producer.topics.map(({ stream }) => stream.topic)
  const [click, other] = [names.indexOf('clicks'), names.indexOf('others')]
  const chosen = [click, other, click]
  request.dropped(producer, { good: 3, ranges: { topic: (nth) => chosen[nth]! } })
  await turn()
  const told = finished('outcome').map(({ name, attributes }) => [
    name,
    attributes['messaging.batch.message_count'],
  ])
  expect(told).toEqual([
    ['outcome clicks', 2],
    ['outcome others', 1],
  ])
})

test('a client that is gone before its reply is no error of the gateway', () => {
  traceOf(new BatchSpans(new Sdk(tracer, silentLogger))).end(null)
  const [span] = finished('POST')
  expect(span!.attributes['error.type']).toBe('client_gone')
  expect(span!.status.code).toBe(SpanStatusCode.UNSET)
})
