import { randomBytes } from 'node:crypto'
import type { FastifyRequest } from 'fastify'

/**
 * What the log calls a request: its `X-Request-Id`, as a proxy in front has set it, or else an id of this process. With an SDK of OpenTelemetry
 * the ids of its span stand beside it. They are made for a line of the log only.
 */
export function idsOf(request: FastifyRequest): { requestId: string; traceId?: string; spanId?: string } {
  const told = request.raw.headers['x-request-id']
  const requestId = typeof told === 'string' && usual.test(told) ? told : `${instance}-${request.id}`
  // `trace` is not there on the port of the admin routes.
  const ids = request.trace?.ids
  return ids === undefined ? { requestId } : { requestId, traceId: ids.traceId, spanId: ids.spanId }
}

/** Ids that proxies make. Anything else could be meant to mislead whoever reads the log. */
const usual = /^[\w.:/+=@-]{1,128}$/

/** Fastify counts the requests of a process. */
const instance = randomBytes(4).toString('hex')
