import { gunzipSync } from 'node:zlib'
import Fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { FastifyInstance } from 'fastify'
import { Metrics } from '../../src/metrics/metrics.ts'
import { registerLivePage } from '../../src/routes/admin/live-page.ts'
import { registerMetrics } from '../../src/routes/admin/operations.ts'
import { parseExposition, sumOf, valueOf } from '../support/parse-exposition.ts'
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
    expect(open.headers.vary).toBe('Accept, Accept-Encoding')
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

test.each([
  ['gzip, deflate, br', 'gzip'],
  ['GZIP;q=0.5, identity', 'gzip'],
  ['*', 'gzip'],
  ['gzip;q=0, *', undefined],
  ['deflate, br', undefined],
  ['identity', undefined],
])('a scrape that accepts %s is encoded as %s', async (accepted, encoding) => {
  const app = Fastify()
  registerMetrics(app, new Metrics('1.2.3'))
  const reply = await app.inject({ url: '/metrics', headers: { 'accept-encoding': accepted } })
  expect(reply.headers['content-encoding']).toBe(encoding)
  expect(Number(reply.headers['content-length'])).toBe(reply.rawPayload.length)
  const text = encoding === 'gzip' ? gunzipSync(reply.rawPayload) : reply.rawPayload
  expect(parseExposition(text.toString(), 'prometheus').has('chute_build_info')).toBe(true)
  await app.close()
})

test('scrapes and live pages of 300 streams, at the same time, are written in slices with turns of the event loop between them', async () => {
  const metrics = new Metrics('1.2.3')
  const names = Array.from({ length: 300 }, (_, nth) => `stream-${nth}`)
  for (const name of names) metrics.producerTelemetry(name, name)
  let accepted = 0
  metrics.observe(() =>
    names.map((stream) => producerStats({ stream, topic: stream, accepted, buffered: accepted })),
  )
  // What other clients get done meanwhile.
  let turn = 0
  let immediate: NodeJS.Immediate
  const count = (): void => {
    turn++
    accepted++
    immediate = setImmediate(count)
  }
  count()

  const written = new Map<number, number>()
  function* counted(lines: Iterable<string>) {
    for (const line of lines) {
      written.set(turn, (written.get(turn) ?? 0) + line.length)
      yield line
    }
  }
  const app = Fastify()
  registerMetrics(app, {
    text: async (accept) => {
      const { contentType, lines } = await metrics.text(accept)
      return { contentType, lines: counted(lines) }
    },
  })
  registerLivePage(app, {
    version: '1.2.3',
    hasEvents: true,
    look: async () => () => ({
      metrics: metrics.account(),
      readiness: { ready: true, checks: [] },
      uptimeSeconds: 1,
    }),
  })
  const begun = turn
  const [one, other, live] = await Promise.all(
    ['/metrics', '/metrics', '/live.json'].map(async (url) => await app.inject(url)),
  )
  clearImmediate(immediate!)

  const lengths = [one!, other!, live!].map(({ body }) => body.length)
  const total = lengths[0]! + lengths[1]!
  expect(lengths[0]).toBeGreaterThan(1_500_000)
  expect([...written.values()].reduce((sum, length) => sum + length, 0)).toBe(total)
  expect(Math.max(...written.values())).toBeLessThan(32_768)
  expect(turn - begun).toBeGreaterThan((total + lengths[2]!) / 32_768)
  // All numbers of a text are of the turn in which it began.
  for (const { body } of [one!, other!]) {
    const families = parseExposition(body, 'prometheus')
    const values = families.get('chute_records_accepted_total')!.samples.map(({ value }) => value)
    expect(new Set(values).size).toBe(1)
    expect(sumOf(families, 'chute_records_pending')).toBe(300 * values[0]!)
  }
  const { streams } = live!.json() as { streams: { accepted: number; buffered: number }[] }
  expect(streams).toHaveLength(300)
  expect(new Set(streams.flatMap((stats) => [stats.accepted, stats.buffered])).size).toBe(1)
  await app.close()
})
