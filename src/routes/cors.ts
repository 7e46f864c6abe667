import type { FastifyInstance, FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'
import { replyRaw } from './raw-reply.ts'

/** Headers of ours that a page may read. */
const exposedHeaders =
  'chute-delivery, idempotency-replayed, preference-applied, retry-after, ratelimit, ratelimit-policy'

const preflightHeaders = [
  'access-control-allow-methods',
  'POST, GET',
  'access-control-allow-headers',
  'content-type, prefer, content-encoding, idempotency-key',
  // Two hours, which is the most that Chromium keeps.
  'access-control-max-age',
  '7200',
]

/**
 * Lets pages of the given origins send events, and nobody else's (Fetch standard, "HTTP CORS protocol").
 *
 * A request of another origin is refused with 403 before its body is read, not only left without headers: a browser
 * sends a simple request (text/plain by `sendBeacon`) whatever the headers of the reply are, so leaving them out would
 * hide the reply and keep the event. The gateway's own origin is always allowed, and so is whoever sends no Origin.
 *
 * The origin is echoed and never `*`, since `sendBeacon` sends credentials.
 * @param origins exact ones; `*` alone allows any.
 */
export function registerCors(app: FastifyInstance, origins: readonly string[]): void {
  const allowed = new Set(origins)
  const any = allowed.has('*')

  app.addHook('onRequest', (request, reply, done) => {
    const { origin } = request.raw.headers
    if (origin === undefined || isSameOrigin(request, origin)) {
      done()
      return
    }
    reply.raw.setHeader('vary', 'Origin')
    if (!any && !allowed.has(origin)) {
      done(new GatewayError('origin_not_allowed', 'pages of this origin may not send events here'))
      return
    }
    reply.raw.setHeader('access-control-allow-origin', origin)
    reply.raw.setHeader('access-control-allow-credentials', 'true')
    reply.raw.setHeader('access-control-expose-headers', exposedHeaders)
    done()
  })
}

/** Answers preflights for a path; the hook of {@link registerCors} has judged the origin before. */
export function registerPreflight(app: FastifyInstance, path: string): void {
  app.options(path, (_request, reply) => {
    replyRaw(reply, 204, preflightHeaders, '')
  })
}

/** Behind a proxy that ends TLS the scheme is not known, so that hosts are compared. */
function isSameOrigin(request: FastifyRequest, origin: string): boolean {
  const at = origin.indexOf('://')
  return at !== -1 && origin.slice(at + 3) === request.host
}
