import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Link, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SamplingDecision,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { isLong } from '../support/forms.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { chuteArguments, serveGateway } from '../support/served-gateway.ts'

const broker = inject('kafkaBroker')
const event = '{"n":1}'
const client = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }
const traceparent = `00-${client.traceId}-${client.spanId}-01`

describe("with an SDK that keeps spans in memory, registered as an operator's file does it", () => {
  const exporter = new InMemorySpanExporter()
  const topics = {
    realtime: `trace-${randomUUID()}`,
    critical: `trace-${randomUUID()}`,
    click: `trace-${randomUUID()}`,
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'chute-trace-'))
  const headers = { traceparent: 'header:traceparent', tracestate: 'header:tracestate' } as const
  let isSampled = true
  let gateway: TestGateway

  beforeAll(async () => {
    const provider = new BasicTracerProvider({
      spanProcessors: [new SimpleSpanProcessor(exporter)],
      sampler: {
        shouldSample: () => ({
          decision: isSampled ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.NOT_RECORD,
        }),
      },
    })
    trace.setGlobalTracerProvider(provider)
    for (const topic of Object.values(topics)) await createTopic(broker, topic, { partitions: 1 })
    const streams: StreamConfig[] = [
      { ...streamConfig(topics.realtime, 'at-most-once', { lingerMs: 100 }), name: 'realtime', headers },
      {
        ...streamConfig(topics.critical, 'at-least-once', { lingerMs: 100 }),
        name: 'critical',
        headers,
        spool: { fsync: false, maxBytes: 1 << 24 },
      },
      {
        ...streamConfig(topics.realtime, 'at-most-once'),
        name: 'chosen',
        topics: { by: '/type', map: { click: topics.click }, else: topics.realtime },
      },
    ]
    gateway = await startGatewayWith({ ...testConfig({ brokers: [broker], streams }), dataDir })
  })
  beforeEach(() => {
    isSampled = true
    exporter.reset()
  })
  afterAll(async () => {
    await gateway?.stop()
    rmSync(dataDir, { recursive: true, force: true })
    trace.disable()
  })

  async function post(
    path: string,
    { body = event, headers: own = {} }: { body?: string; headers?: Record<string, string> } = {},
  ): Promise<number> {
    const reply = await fetch(`${gateway.url}${path}`, { method: 'POST', body, headers: own })
    await reply.arrayBuffer()
    return reply.status
  }

  /** The spans with such a name, once there are `count` of them. */
  async function spans(name: string, count = 1): Promise<ReadableSpan[]> {
    const found = (): ReadableSpan[] => exporter.getFinishedSpans().filter((each) => each.name === name)
    while (found().length < count) await pause(10)
    return found()
  }

  test.each([['realtime'], ['critical']] as const)(
    'the trace of a request goes on from its client to the record and the outcome: %s',
    async (stream) => {
      const topic = topics[stream]
      const before = (await readTopic(broker, topic)).length
      const sent = { traceparent, tracestate: 'vendor=1' }
      expect(await post(`/v1/streams/${stream}`, { headers: sent })).toBe(202)
      const [request] = await spans('POST /v1/streams/:stream')
      const [append] = await spans(`append ${topic}`)
      const [outcome] = await spans(`outcome ${topic}`)
      const [batch] = await spans(`send ${topic}`)

      expect(request!.parentSpanContext).toMatchObject({ ...client, isRemote: true })
      expect([request!.kind, append!.kind, batch!.kind]).toEqual([
        SpanKind.SERVER,
        SpanKind.PRODUCER,
        SpanKind.CLIENT,
      ])
      expect(request!.attributes).toMatchObject({
        'http.request.method': 'POST',
        'http.route': '/v1/streams/:stream',
        'http.response.status_code': 202,
        'url.path': `/v1/streams/${stream}`,
        'url.scheme': 'http',
        'client.address': '127.0.0.0/24',
      })
      for (const [child, parent] of [
        [append!, request!],
        [outcome!, append!],
        [batch!, append!],
      ] as const) {
        expect(child.spanContext().traceId).toBe(client.traceId)
        expect([child.name, child.parentSpanContext?.spanId]).toEqual([
          child.name,
          parent.spanContext().spanId,
        ])
      }
      const kafka = { 'messaging.system': 'kafka', 'messaging.destination.name': topic }
      expect(append!.attributes).toMatchObject({
        ...kafka,
        'messaging.operation.type': 'create',
        'messaging.batch.message_count': 1,
      })
      const told = stream === 'critical' ? { 'messaging.kafka.offset': before } : {}
      const outcomeOf = { 'chute.outcome': stream === 'critical' ? 'acked' : 'confirmed', ...told }
      expect(batch!.attributes).toMatchObject({
        ...kafka,
        ...outcomeOf,
        'messaging.operation.type': 'send',
        'messaging.destination.partition.id': '0',
        'messaging.batch.message_count': 1,
        'chute.batch.attempts': 1,
      })
      expect(batch!.events.map(({ name }) => name)).toEqual(['written'])
      expect(linked(batch!.links)).toEqual([append!.spanContext().spanId])
      expect(outcome!.attributes).toMatchObject({ ...kafka, ...outcomeOf })
      expect(linked(outcome!.links)).toEqual([batch!.spanContext().spanId])
      expect(outcome!.status.code).toBe(SpanStatusCode.UNSET)

      const record = (await readTopic(broker, topic)).at(-1)!
      expect(String(record.headers['traceparent'])).toBe(
        `00-${client.traceId}-${append!.spanContext().spanId}-01`,
      )
      expect(String(record.headers['tracestate'])).toBe('vendor=1')
    },
  )

  test.runIf(isLong).each([['realtime'], ['critical']] as const)(
    'a batch is linked to the appends of all requests in it, and each of these has its own outcome: %s',
    async (stream) => {
      const topic = topics[stream]
      const bodies = ['{"n":1}\n{"n":2}', '{"n":3}', '{"n":4}\nbroken']
      await Promise.all(bodies.map(async (body) => await post(`/v1/streams/${stream}`, { body })))
      const appends = await spans(`append ${topic}`, 3)
      const outcomes = await spans(`outcome ${topic}`, 3)
      const batches = await spans(`send ${topic}`)
      expect(new Set(appends.map((each) => each.spanContext().traceId)).size).toBe(3)
      const ids = new Set(appends.map((each) => each.spanContext().spanId))
      expect(new Set(batches.flatMap(({ links }) => linked(links)))).toEqual(ids)
      const numbers = (some: readonly ReadableSpan[], name: string): number[] =>
        some.map(({ attributes }) => Number(attributes[name])).toSorted((one, other) => one - other)
      expect(numbers(appends, 'messaging.batch.message_count')).toEqual([1, 1, 2])
      expect(numbers(outcomes, 'messaging.batch.message_count')).toEqual([1, 1, 2])
      expect(numbers(appends, 'chute.events.rejected')).toEqual([0, 0, 1])
      expect(new Set(outcomes.map((each) => each.parentSpanContext?.spanId))).toEqual(ids)
    },
  )

  test('the topics that events choose have their own batches', async () => {
    await post('/v1/streams/chosen', { body: '{"type":"click"}\n{"type":"other"}' })
    await spans('append chosen')
    const names = [await spans(`send ${topics.click}`), await spans(`send ${topics.realtime}`)].flat()
    expect(names.map(({ attributes }) => attributes['messaging.batch.message_count'])).toEqual([1, 1])
  })

  test('beacons, pixels and a client that waits for the outcomes have the same spans', async () => {
    await post('/v1/beacon/realtime')
    await fetch(`${gateway.url}/v1/beacon/realtime.gif?name=a&value=1&key=secret`)
    await post('/v1/streams/realtime', { headers: { prefer: 'wait=20' } })
    const [pixel] = await spans('GET /v1/beacon/:stream.gif')
    const [beacon] = await spans('POST /v1/beacon/:stream')
    const [waiting] = await spans('POST /v1/streams/:stream')
    const statuses = [beacon!, pixel!, waiting!].map((each) => each.attributes['http.response.status_code'])
    expect(statuses).toEqual([202, 200, 200])
    await spans(`outcome ${topics.realtime}`, 3)
    expect(JSON.stringify(exporter.getFinishedSpans().map(({ attributes }) => attributes))).not.toContain(
      'secret',
    )
  })

  test('a request that is refused says its code, and only a fault of the gateway is an error', async () => {
    expect(await post('/v1/streams/realtime', { body: 'broken' })).toBe(400)
    expect(await post('/v1/streams/unknown')).toBe(404)
    const refused = await spans('POST /v1/streams/:stream', 2)
    const said = refused.map(({ attributes, status }) => [
      attributes['http.response.status_code'],
      attributes['error.type'],
      status.code,
    ])
    expect(said).toEqual([
      [400, 'malformed_json', SpanStatusCode.UNSET],
      [404, 'unknown_stream', SpanStatusCode.UNSET],
    ])
    const [append] = await spans(`append ${topics.realtime}`)
    expect([append!.status.code, append!.attributes['error.type']]).toEqual([
      SpanStatusCode.ERROR,
      'malformed_json',
    ])
  })

  test('a request that the sampler leaves out has no spans, and its record says that it is not sampled', async () => {
    isSampled = false
    expect(await post('/v1/streams/realtime', { headers: { traceparent, prefer: 'wait=20' } })).toBe(200)
    expect(exporter.getFinishedSpans()).toEqual([])
    const record = (await readTopic(broker, topics.realtime)).at(-1)!
    expect(String(record.headers['traceparent'])).toMatch(
      new RegExp(`^00-${client.traceId}-[\\da-f]{16}-00$`),
    )
  })
})

test.runIf(isLong)(
  'deploy/tracing/otel.mjs sends the spans of a gateway, and the last ones at its end',
  async () => {
    interface Span {
      readonly name: string
      readonly traceId: string
    }
    const received: { service: string; spans: Span[] }[] = []
    const collector = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString()) as {
          resourceSpans: {
            resource: { attributes: { key: string; value: { stringValue: string } }[] }
            scopeSpans: { spans: Span[] }[]
          }[]
        }
        for (const { resource, scopeSpans } of resourceSpans) {
          const service = resource.attributes.find(({ key }) => key === 'service.name')!.value.stringValue
          received.push({ service, spans: scopeSpans.flatMap((scope) => scope.spans) })
        }
        response.setHeader('content-type', 'application/json').end('{}')
      })
    }).listen(0, '127.0.0.1')
    await once(collector, 'listening')
    onTestFinished(() => void collector.close())

    const topic = `trace-${randomUUID()}`
    const folder = mkdtempSync(join(tmpdir(), 'chute-trace-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const file = join(folder, 'chute.yaml')
    writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once } }\n`)
    const gateway = await serveGateway(
      {
        KAFKA_BROKERS: broker,
        KAFKA_CREATE_TOPICS: 'true',
        CHUTE_CONFIG: file,
        WORKERS: '2',
        OTEL_SERVICE_NAME: 'the-gateway',
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
      },
      ['--import', './deploy/tracing/otel.mjs', ...chuteArguments],
    )
    onTestFinished(() => gateway.signal('SIGKILL'))
    await gateway.ready()
    const body = '{"name":"room.temp","value":21.5}'
    const reply = await fetch(`${gateway.url}/v1/streams/s`, {
      method: 'POST',
      body,
      headers: { traceparent },
    })
    expect(reply.status).toBe(202)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    expect(new Set(received.map(({ service }) => service))).toEqual(new Set(['the-gateway']))
    const spans = received.flatMap((each) => each.spans)
    expect(spans.map(({ name }) => name).toSorted()).toEqual([
      'POST /v1/streams/:stream',
      `append ${topic}`,
      `outcome ${topic}`,
      `send ${topic}`,
    ])
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([client.traceId]))
  },
)

function linked(links: readonly Link[]): string[] {
  return links.map(({ context }) => context.spanId)
}
