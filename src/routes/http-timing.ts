import type { FastifyInstance } from 'fastify'
import type { EdgeTelemetry } from './edge-telemetry.ts'

/**
 * Times every request, by route. To be called on the root instance before any route is added.
 *
 * A route gets its timer when it is declared, so that a request looks nothing up. HEAD is counted as the GET it stands
 * for. Requests that fit no route share one timer under the route `unmatched`, since their paths are an open set.
 */
export function timeRequests(app: FastifyInstance, telemetry: Pick<EdgeTelemetry, 'httpTimer'>): void {
  app.addHook('onRoute', (route) => {
    const methods = [route.method].flat().map((method) => (method === 'HEAD' ? 'GET' : method))
    const timers = new Map(methods.map((method) => [method, telemetry.httpTimer(method, route.url)]))
    const only = timers.size === 1 ? [...timers.values()][0] : undefined
    const others = route.onResponse === undefined ? [] : [route.onResponse].flat()
    route.onResponse = [
      (request, reply, done) => {
        const timer = only ?? timers.get(request.method)
        timer?.observe(reply.statusCode, reply.elapsedTime)
        done()
      },
      ...others,
    ]
  })

  const unmatched = telemetry.httpTimer('any', 'unmatched')
  app.addHook('onResponse', (request, reply, done) => {
    if (request.is404) unmatched.observe(reply.statusCode, reply.elapsedTime)
    done()
  })
}
