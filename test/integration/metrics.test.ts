import Fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { FastifyInstance } from 'fastify'
import { Metrics } from '../../src/metrics/metrics.ts'
import { registerMetrics } from '../../src/routes/metrics-route.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'
import { producerStats } from '../support/producer-stats.ts'

describe('GET /metrics', () => {
  let app: FastifyInstance
  let metrics: Metrics

  beforeEach(() => {
    metrics = new Metrics('1.2.3')
    metrics.observe(() => [producerStats({ accepted: 5, confirmed: 5 })])
    metrics.producerTelemetry('metrics-realtime', 'realtime-topic')
    app = Fastify()
    registerMetrics(app, metrics)
  })

  afterEach(() => app.close())

  test('answers in Prometheus text, which a strict parser accepts', async () => {
    const reply = await app.inject('/metrics')
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(reply.headers['cache-control']).toBe('no-store')
    expect(valueOf(parseExposition(reply.body, 'prometheus'), 'chute_records_accepted_total')).toBe(5)
  })

  test('answers in OpenMetrics where it is asked for, and in Prometheus text again afterwards', async () => {
    const open = await app.inject({ url: '/metrics', headers: { accept: 'application/openmetrics-text' } })
    expect(open.headers['content-type']).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8')
    expect(open.headers.vary).toBe('Accept')
    const families = parseExposition(open.body, 'openmetrics')
    expect(valueOf(families, 'chute_records_accepted_total')).toBe(5)

    const plain = parseExposition((await app.inject('/metrics')).body, 'prometheus')
    expect(plain.has('chute_records_accepted_total')).toBe(true)
    expect(plain.size).toBe(families.size)
  })

  test('scrapes at the same time in different formats do not mix', async () => {
    const formats = Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? 'openmetrics' : 'prometheus'))
    const replies = await Promise.all(
      formats.map((format) =>
        app.inject({
          url: '/metrics',
          headers: { accept: format === 'openmetrics' ? 'application/openmetrics-text' : 'text/plain' },
        }),
      ),
    )
    for (const [index, format] of formats.entries())
      expect(parseExposition(replies[index]?.body ?? '', format).size).toBeGreaterThan(20)
  })
})
