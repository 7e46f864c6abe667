import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { FastifyInstance } from 'fastify'
import { EdgeCounters } from '../../src/metrics/edge-metrics.ts'
import { registerLivePage } from '../../src/routes/admin/live-page.ts'
import { producerStats } from '../support/producer-stats.ts'

describe('the live page', () => {
  let app: FastifyInstance

  beforeEach(() => {
    const edge = new EdgeCounters()
    edge.accepted('beacon', 7)
    edge.refused('malformed_json', 'beacon', 'metrics-realtime')
    app = Fastify()
    registerLivePage(app, {
      version: '1.2.3',
      hasEvents: true,
      look: async () => () => ({
        metrics: {
          streams: [producerStats({ accepted: 7, inFlight: 7 }), producerStats({ stream: 'other' })],
          edge: edge.totals(),
        },
        readiness: { ready: false, checks: [{ name: 'kafka', ok: false, detail: 'Not reached yet.' }] },
        uptimeSeconds: 3,
      }),
    })
  })

  afterEach(() => app.close())

  test('is one file: it names no other file and no other host', async () => {
    const { body } = await app.inject('/')
    expect(body).not.toMatch(/<link[^>]+stylesheet|<script[^>]+src=|@import|url\(/)
    // XML namespaces are names, not addresses.
    expect(body.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:\/\//)
  })

  test('its policy allows exactly the script and the style that are in it', async () => {
    const { body, headers } = await app.inject('/')
    const policy = String(headers['content-security-policy'])
    expect(policy).toContain("default-src 'none'")
    expect(policy).not.toContain('unsafe-inline')
    for (const [kind, pattern] of [
      ['script', /<script type="module">([\s\S]*?)<\/script>/],
      ['style', /<style>([\s\S]*?)<\/style>/],
    ] as const) {
      const text = pattern.exec(body)?.[1] ?? ''
      expect(text.length).toBeGreaterThan(1000)
      const hash = createHash('sha256').update(text).digest('base64')
      expect(policy).toContain(`${kind}-src 'sha256-${hash}'`)
    }
  })

  test('polls a JSON that has readiness, the edge and every account', async () => {
    const reply = await app.inject('/live.json')
    expect(reply.headers['cache-control']).toBe('no-store')
    expect(reply.json()).toMatchObject({
      version: '1.2.3',
      hasEvents: true,
      ready: false,
      checks: [{ name: 'kafka', ok: false }],
      edge: {
        accepted: { http: 0, beacon: 7, pixel: 0 },
        refused: [{ code: 'malformed_json', transport: 'beacon', stream: 'metrics-realtime', requests: 1 }],
      },
      streams: [
        { stream: 'metrics-realtime', accepted: 7, inFlight: 7, lossRatio: { broker: null } },
        { stream: 'other', accepted: 0 },
      ],
    })
  })
})
