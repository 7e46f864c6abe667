import type { FastifyInstance } from 'fastify'

/** What the route needs of the metrics: one scrape, in the format that an `Accept` header asks for. */
export interface Scrape {
  text(accept: string | undefined): Promise<{ contentType: string; body: string }>
}

/** `GET /metrics`: Prometheus text 0.0.4, or OpenMetrics 1.0.0 to those who ask for it. */
export function registerMetrics(app: FastifyInstance, metrics: Scrape): void {
  app.get('/metrics', async (request, reply) => {
    const { contentType, body } = await metrics.text(request.headers.accept)
    return reply
      .headers({ 'content-type': contentType, 'cache-control': 'no-store', vary: 'Accept' })
      .send(body)
  })
}
