import { limitOf } from '../support/edge.ts'
import type { FastifyInstance } from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { buildGateway, type Gateway } from '../../src/app.ts'
import { GatewayError } from '../../src/errors.ts'
import { Metrics } from '../../src/metrics/metrics.ts'
import type { GroupView } from '../../src/workers/messages.ts'
import { testConfig } from '../support/gateway.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { producerStats } from '../support/producer-stats.ts'

/** Two workers that have accepted 12 records, of which this process has seen none. */
function viewOfTwo(): GroupView {
  const metrics = new Metrics('1.2.3')
  metrics.observe(() => [producerStats({ accepted: 12, confirmed: 12 })])
  metrics.edge.accepted('http', 12)
  return {
    metrics: metrics.account(),
    readiness: { ready: false, checks: [{ name: 'workers', ok: false, detail: 'worker 2 is silent' }] },
    stuckWorkers: [2],
    uptimeSeconds: 99,
  }
}

describe('the admin routes of a worker', () => {
  let gateway: Gateway
  let server: FastifyInstance
  let view: () => Promise<GroupView>
  let counted: string[]

  beforeEach(() => {
    view = async () => viewOfTwo()
    counted = []
    const config = testConfig({
      brokers: ['127.0.0.1:1'],
      streams: [streamConfig('t', 'at-most-once')],
      http: { rateLimit: limitOf({ requests: 5, windowMs: 1_000 }) },
    })
    const logger = { debug() {}, info() {}, warn() {}, error() {} }
    gateway = buildGateway(config, logger, {
      worker: 1,
      view: async () => await view(),
      limits: {
        charge({ subjects }, done) {
          counted.push(...subjects.map(({ id }) => id))
          done({ refusedBy: 0, usages: [{ requests: 5, events: 0, bytes: 0, openMs: 600 }] })
        },
      },
      events: { watch: () => () => {} },
      ticketSecret: 'secret',
      port: { turn: Promise.resolve(true), leave: async () => {} },
    })
    server = gateway.server
  })

  afterEach(async () => {
    gateway.abort()
    await server.close()
  })

  test('show the sum over all workers', async () => {
    const { body } = await server.inject('/metrics')
    expect(valueOf(parseExposition(body, 'prometheus'), 'chute_records_accepted_total')).toBe(12)
    expect((await server.inject('/live.json')).json()).toMatchObject({
      uptimeSeconds: 99,
      ready: false,
      edge: { accepted: { http: 12 } },
      streams: [{ accepted: 12 }],
    })
    const ready = await server.inject('/readyz')
    expect(ready.statusCode).toBe(503)
    expect(ready.json()).toEqual(viewOfTwo().readiness)
  })

  test('tell who is stuck', async () => {
    const reply = await server.inject('/livez')
    expect(reply.statusCode).toBe(503)
    expect(reply.json()).toEqual({ status: 'stuck', workers: [2] })
    view = async () => ({ ...viewOfTwo(), stuckWorkers: [] })
    expect((await server.inject('/livez')).json()).toEqual({ status: 'ok' })
  })

  test('refuse to pass off the numbers of one worker as the sum', async () => {
    view = async () => {
      throw new GatewayError('shutting_down', 'the primary process is gone, and this worker drains')
    }
    for (const url of ['/metrics', '/live.json', '/readyz', '/livez']) {
      const reply = await server.inject(url)
      expect(reply.statusCode).toBe(503)
      expect(reply.json()).toMatchObject({ code: 'shutting_down' })
    }
  })

  test('have requests of an address counted where those to other workers are', async () => {
    const reply = await server.inject({ method: 'POST', url: '/v1/streams/t', remoteAddress: '192.0.2.7' })
    expect(reply.statusCode).toBe(429)
    expect(counted).toEqual(['address:192.0.2.7'])
  })

  test('report this process alone to the primary', () => {
    expect(gateway.report()).toMatchObject({ process: null, account: { streams: [{ accepted: 0 }] } })
    expect(gateway.report([]).process).toEqual([])
  })
})
