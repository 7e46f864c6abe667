import type { FastifyInstance } from 'fastify'
import type { Scrape } from '../../metrics/exposition.ts'
import { replyWritten } from '../ingest/written-reply.ts'

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
