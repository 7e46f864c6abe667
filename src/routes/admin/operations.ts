import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Scrape } from '../../metrics/exposition.ts'
import type { Readiness } from '../../readiness.ts'
import { replyWritten } from '../http/text-reply.ts'

/** The state of the gateway. It is asked for at each request. */
export interface Health {
  readonly readiness: () => Readiness | Promise<Readiness>
  /** Workers that have been silent for too long. Left out if there is only one process. */
  readonly stuckWorkers?: () => Promise<readonly number[]>
  /** Whether a request may see more than whether the gateway is ready; left out: each may. */
  readonly mayKnow?: (request: FastifyRequest) => boolean
}

/**
 * `GET /livez`: 200 if this process and all workers answer, else 503. `GET /readyz`: 200 or 503, and the result of each check;
 * a request that may not know more learns only whether each check passed. Neither route needs a key, since orchestrators and
 * load balancers have none.
 */
export function registerHealth(
  app: FastifyInstance,
  { readiness, stuckWorkers, mayKnow = () => true }: Health,
): void {
  app.get('/livez', async (_request, reply) => {
    const stuck = (await stuckWorkers?.()) ?? []
    return reply
      .code(stuck.length === 0 ? 200 : 503)
      .header('cache-control', 'no-store')
      .send(stuck.length === 0 ? { status: 'ok' } : { status: 'stuck', workers: stuck })
  })
  app.get('/readyz', async (request, reply) => {
    const { ready, checks } = await readiness()
    return reply
      .code(ready ? 200 : 503)
      .header('cache-control', 'no-store')
      .send({ ready, checks: mayKnow(request) ? checks : checks.map(({ name, ok }) => ({ name, ok })) })
  })
}

/** `GET /metrics`: Prometheus text 0.0.4, or OpenMetrics 1.0.0 for clients that ask for it. */
export function registerMetrics(app: FastifyInstance, metrics: Scrape): void {
  app.get('/metrics', async (request, reply) => {
    const { contentType, lines } = await metrics.text(request.headers.accept)
    reply.headers({
      'content-type': contentType,
      'cache-control': 'no-store',
      vary: 'Accept, Accept-Encoding',
    })
    return await replyWritten(request, reply, lines)
  })
}

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
