import type { FastifyInstance } from 'fastify'
import type { RequestTrace, Tracing } from '../../tracing/tracing.ts'
import { clientPrefix } from '../http/client-address.ts'
import { isTraceparent, isTracestate } from './trace-context.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The spans of a request; null: there are none. {@link traceRequests} sets it. */
    trace: RequestTrace | null
  }
}

/**
 * Gives each request on the routes of a scope a span, from its header to the end of its reply. It comes before all guards of the scope, so a
 * request that they refuse has one, too. A preflight has none. @param tracing null: there are no spans, and no request pays for them.
 */
export function traceRequests(app: FastifyInstance, tracing: Tracing | null): void {
  app.decorateRequest('trace', null)
  if (tracing === null) return
  app.addHook('onRequest', (request, reply, done) => {
    const { raw, routeOptions, ip, protocol } = request
    if (raw.method === 'OPTIONS') return done()
    const { traceparent, tracestate } = raw.headers
    const isParent = typeof traceparent === 'string' && isTraceparent(traceparent)
    const hasState = typeof tracestate === 'string' && isTracestate(tracestate)
    const trace = tracing.begin({
      method: raw.method!,
      route: routeOptions.url!,
      path: (raw.url ?? '').split('?', 1)[0]!,
      scheme: protocol,
      httpVersion: raw.httpVersion,
      headers: raw.headers,
      // A socket that is closed has no address.
      client: (ip as string | undefined) === undefined ? null : clientPrefix(ip),
      parent: isParent ? { traceparent, tracestate: hasState ? tracestate : null } : null,
    })
    if (trace === null) return done()
    request.trace = trace
    const response = reply.raw
    response.once('close', () => trace.end(response.writableFinished ? response.statusCode : null))
    done()
  })
}
