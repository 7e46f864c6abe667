import type { FastifyInstance } from 'fastify'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { Transport } from './edge-telemetry.ts'
import type { Readiness } from './health.ts'
import { registerPage } from './page.ts'

/** Events by how they came in. */
type ByTransport = Readonly<Record<Transport, number>>

/** What the page shows. Plain objects: what JSON does not see is not shown. */
export interface LiveLook {
  readonly streams: readonly ProducerStats[]
  readonly edge: { readonly accepted: ByTransport; readonly rejected: ByTransport }
  /** As `GET /readyz` answers. */
  readonly readiness: Readiness
  readonly uptimeSeconds: number
}

/**
 * `GET /`: a page that shows what the gateway is doing, and `GET /live.json`, which it polls.
 */
export function registerLivePage(
  app: FastifyInstance,
  options: { readonly version: string; readonly look: () => Promise<LiveLook> },
): void {
  registerPage(app, { url: '/', name: 'live', connect: "'self'" })
  app.get('/live.json', async (_request, reply) => {
    const { readiness, edge, streams, uptimeSeconds } = await options.look()
    return reply.header('cache-control', 'no-store').send({
      nowMs: Date.now(),
      uptimeSeconds,
      version: options.version,
      ...readiness,
      edge,
      streams,
    })
  })
}
