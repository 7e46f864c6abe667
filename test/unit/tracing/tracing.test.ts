import { ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { afterEach, expect, test } from 'vitest'
import { BatchSpans, RecordsOfRequest } from '../../../src/tracing/batch-spans.ts'
import { Sdk } from '../../../src/tracing/sdk.ts'
import { findTracing } from '../../../src/tracing/tracing.ts'
import { silentLogger } from '../../../src/logger.ts'
import { ProducerBatch } from '../../../src/kafka/producer/producer-batch.ts'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'
import { FakeProducer } from '../../support/fake-producer.ts'

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
