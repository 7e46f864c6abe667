import type { FastifyInstance } from 'fastify'
import { replyWritten } from '../ingest/written-reply.ts'

/** What the route needs of the metrics: one scrape, in the format that an `Accept` header asks for. */
export interface Scrape {
  /** Numbers are read when the first line is, all of them in that turn. */
  text(accept: string | undefined): Promise<{ contentType: string; lines: Iterable<string> }>
}

/** `GET /metrics`: Prometheus text 0.0.4, or OpenMetrics 1.0.0 to those who ask for it. */
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
