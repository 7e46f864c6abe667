import { context, propagation, type ContextManager, ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { BasicTracerProvider, SamplingDecision, type SpanProcessor } from '@opentelemetry/sdk-trace-base'
import { afterEach, expect, test, vi } from 'vitest'
import { findTracing } from '../../src/tracing/tracing.ts'
import { buildEdge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { LogKeeper } from '../support/producer-fixture.ts'

const request = 'POST /v1/streams/:stream'
const topic = 'metrics-realtime'

/** Calls of the SDK, in the order in which a request makes them. */
const calls = [
  'the context manager',
  'the propagator',
  `the sampler, at ${request}`,
  `onStart of ${request}`,
  `the sampler, at append ${topic}`,
  `onStart of append ${topic}`,
  `onEnd of append ${topic}`,
  `onEnd of ${request}`,
  `onStart of outcome ${topic}`,
  `onEnd of outcome ${topic}`,
]

/** Registers an SDK. @param called is told of each call, and may throw. */
function register(called: (call: string) => void): void {
  const processor: SpanProcessor = {
    onStart: ({ name }) => called(`onStart of ${name}`),
    onEnd: ({ name }) => called(`onEnd of ${name}`),
    forceFlush: async () => {},
    shutdown: async () => {},
  }
  const sampler = {
    shouldSample(_parent: unknown, _traceId: string, name: string) {
      called(`the sampler, at ${name}`)
      return { decision: SamplingDecision.RECORD_AND_SAMPLED }
    },
  }
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [processor], sampler }))
  const manager: ContextManager = {
    active() {
      called('the context manager')
      return ROOT_CONTEXT
    },
    with: (_context, call, self, ...parameters) => call.apply(self!, parameters),
    bind: (_context, target) => target,
    enable: () => manager,
    disable: () => manager,
  }
  context.setGlobalContextManager(manager)
  propagation.setGlobalPropagator({
    inject() {},
    extract(active) {
      called('the propagator')
      return active
    },
    fields: () => [],
  })
}

afterEach(() => {
  trace.disable()
  context.disable()
  propagation.disable()
})

test.each(calls)('an SDK that throws costs its spans, and no request: %s', async (broken) => {
  const called: string[] = []
  register((call) => {
    called.push(call)
    if (call === broken) throw new Error(`no ${call}`)
  })
  const logs = new LogKeeper()
  const tracing = findTracing('1', logs)!
  const producer = new FakeProducer()
  const { app, telemetry, faults } = buildEdge({}, [producer], { tracing })
  const send = async (payload = '{"name":"a","value":1}') =>
    await app.inject({
      method: 'POST',
      url: `/v1/streams/${topic}`,
      headers: { 'content-type': 'application/json' },
      payload,
    })

  expect((await send()).statusCode).toBe(202)
  producer.batch.settle()
  await tracing.flush()
  await vi.waitUntil(() => logs.lines.length > 0)
  expect(logs.lines).toMatchObject([{ level: 'error', fields: { err: { message: `no ${broken}` } } }])
  const callsBefore = called.length
  expect(called.at(-1)).toBe(broken)

  expect((await send()).statusCode).toBe(202)
  expect((await send('broken')).statusCode).toBe(400)
  producer.batch.settle()
  await tracing.flush()
  expect(called).toHaveLength(callsBefore)
  expect(logs.lines).toHaveLength(1)
  expect(producer.records).toHaveLength(2)
  expect(producer.openBytes).toBe(0)
  expect(telemetry).toMatchObject({ accepted: 2, rejected: 0 })
  expect(faults).toEqual([])
  await app.close()
})

test('a request that is refused gets its problem, though the SDK throws', async () => {
  register((call) => {
    if (call.startsWith('onEnd')) throw new Error('no')
  })
  const tracing = findTracing('1', new LogKeeper())!
  const { app, faults } = buildEdge({}, [new FakeProducer()], { tracing })
  const refused = await app.inject({ method: 'POST', url: `/v1/streams/${topic}`, payload: 'broken' })
  expect(refused.statusCode).toBe(400)
  expect(faults).toEqual([])
  await app.close()
})

test.each([
  [
    'throws',
    () => {
      throw new Error('no')
    },
  ],
  ['rejects', async () => await Promise.reject(new Error('no'))],
] as const)(
  'the end of a gateway goes on when the SDK cannot send its last spans: forceFlush %s',
  async (_how, forceFlush) => {
    const provider = new BasicTracerProvider()
    trace.setGlobalTracerProvider(Object.assign(provider, { forceFlush }))
    await findTracing('1', new LogKeeper())!.flush()
  },
)

test('a gateway starts without spans where the SDK gives no tracer', () => {
  const logs = new LogKeeper()
  const getTracer = (): never => {
    throw new Error('no tracer')
  }
  trace.setGlobalTracerProvider({ getTracer })
  expect(findTracing('1', logs)).toBeNull()
  expect(logs.lines).toMatchObject([{ level: 'error', fields: { err: { message: 'no tracer' } } }])
})
