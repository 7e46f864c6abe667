import type { FastifyInstance } from 'fastify'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { Transport } from './edge-telemetry.ts'
import type { Readiness } from './health.ts'
import { registerPage } from './page.ts'

/** Events by how they came in. */
type ByTransport = Readonly<Record<Transport, number>>

/** What the page shows, read anew at each poll. */
export interface LivePageOptions {
  readonly version: string
  /** Plain objects: what JSON does not see is not shown. */
  readonly streams: () => readonly ProducerStats[]
  readonly edge: () => { readonly accepted: ByTransport; readonly rejected: ByTransport }
  /** As `GET /readyz` answers. */
  readonly readiness: () => Readiness
}

/**
 * `GET /`: a page that shows what the gateway is doing, and `GET /live.json`, which it polls.
 */
export function registerLivePage(app: FastifyInstance, options: LivePageOptions): void {
  registerPage(app, { url: '/', name: 'live', connect: "'self'" })
  app.get('/live.json', (_request, reply) => {
    return reply.header('cache-control', 'no-store').send({
      nowMs: Date.now(),
      uptimeSeconds: Math.round(process.uptime()),
      version: options.version,
      ...options.readiness(),
      edge: options.edge(),
      streams: options.streams(),
    })
  })
}
