import Fastify, { type FastifyInstance } from 'fastify'
import type { Readiness } from '../../readiness.ts'
import { registerHealth } from './health.ts'
import type { Scrape } from '../../metrics/exposition.ts'
import { registerMetrics } from './metrics-route.ts'

/** Serves `/metrics`, `/livez` and `/readyz` of a process that takes no requests otherwise. */
export async function serveAdminRoutes(
  scrape: Scrape,
  options: { host: string; port: number; readiness: () => Readiness },
): Promise<FastifyInstance> {
  const app = Fastify({ logger: false, forceCloseConnections: true })
  registerMetrics(app, scrape)
  registerHealth(app, { readiness: options.readiness })
  await app.listen({ host: options.host, port: options.port })
  return app
}
