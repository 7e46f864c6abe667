import Fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { FastifyInstance } from 'fastify'
import { Metrics } from '../../src/metrics/metrics.ts'
import { timeRequests } from '../../src/routes/http-timing.ts'
import { metricsRoute } from '../../src/routes/metrics-route.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'
import { producerStats } from '../support/producer-stats.ts'

describe('GET /metrics', () => {
  let app: FastifyInstance
  let metrics: Metrics

  beforeEach(async () => {
    metrics = new Metrics('1.2.3')
    metrics.observe(() => [producerStats({ accepted: 5, confirmed: 5 })])
    metrics.producerTelemetry('metrics-realtime', 'realtime-topic')
    app = Fastify()
    timeRequests(app, metrics)
    await app.register(metricsRoute, { metrics })
    app.get('/things/:thing', (_request, reply) => reply.code(202).send())
    app.route({ method: ['PUT', 'POST'], url: '/both', handler: (_request, reply) => reply.code(400).send() })
  })

  afterEach(() => app.close())

  async function countOf(labels: Record<string, string>): Promise<number> {
    const { body } = await app.inject('/metrics')
    return valueOf(parseExposition(body, 'prometheus'), 'chute_http_request_duration_seconds_count', labels)
  }

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

  test('requests are timed by the pattern of their route and the class of their status', async () => {
    await app.inject('/things/1')
    await app.inject('/things/2')
    expect(await countOf({ method: 'GET', route: '/things/:thing', status: '2xx' })).toBe(2)
  })

  test('a HEAD is counted as the GET it stands for', async () => {
    await app.inject({ method: 'HEAD', url: '/things/1' })
    expect(await countOf({ method: 'GET', route: '/things/:thing', status: '2xx' })).toBe(1)
  })

  test('a route of two methods counts each by itself', async () => {
    await app.inject({ method: 'PUT', url: '/both' })
    expect(await countOf({ method: 'PUT', route: '/both', status: '4xx' })).toBe(1)
    expect(await countOf({ method: 'POST', route: '/both', status: '4xx' })).toBe(0)
  })

  test('paths that fit no route make no series of their own', async () => {
    for (const path of ['/a', '/b', '/c?d']) await app.inject(path)
    expect(await countOf({ route: 'unmatched', status: '4xx' })).toBe(3)
    expect((await app.inject('/metrics')).body).not.toContain('"/a"')
  })
})
