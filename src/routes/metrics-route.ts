import type { FastifyPluginCallback } from 'fastify'

/** What the route needs of the metrics. */
export interface MetricsRouteOptions {
  readonly metrics: {
    /** One scrape, in the format that the `Accept` header asks for. */
    text(accept: string | undefined): Promise<{ contentType: string; body: string }>
  }
}

/** `GET /metrics`: Prometheus text 0.0.4, or OpenMetrics 1.0.0 to those who ask for it. */
export const metricsRoute: FastifyPluginCallback<MetricsRouteOptions> = (app, { metrics }, done) => {
  app.get('/metrics', async (request, reply) => {
    const { contentType, body } = await metrics.text(request.headers.accept)
    return reply
      .headers({ 'content-type': contentType, 'cache-control': 'no-store', vary: 'Accept' })
      .send(body)
  })
  done()
}
