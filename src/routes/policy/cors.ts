import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { GatewayError } from '../../errors.ts'
import { replyRaw } from '../http/raw-reply.ts'

/** Headers of a reply that a page may read. */
const exposedHeaders =
  'chute-delivery, chute-error, idempotency-replayed, preference-applied, retry-after, ratelimit, ratelimit-policy'

/** The allowed headers for a preflight that asks for none. */
const usualHeaders = 'content-type, prefer, content-encoding, idempotency-key'

/** Longest list of headers that is echoed, in characters. The lists of tracing libraries are much shorter. */
const maxEchoedHeaders = 1_024

/**
 * Decides which pages may send events and read the replies (Fetch standard, "HTTP CORS protocol").
 *
 * A request of another origin is refused with 403 before its body is read. A reply without the headers of CORS would not be enough: a browser
 * sends a simple request (`sendBeacon` with text/plain) without asking first. Then the event would be taken, and only the reply hidden from
 * the page. The gateway's own origin is always allowed. A request without an Origin is allowed, too.
 *
 * The reply echoes the origin, and never says `*`, since `sendBeacon` sends credentials. @fastify/cors would not do: it refuses no request, and
 * sets its headers on Fastify's reply, while the ingest routes write past that reply.
 */
export class Cors {
  readonly #exact: ReadonlySet<string>
  readonly #wildcards: readonly { readonly before: string; readonly after: string }[]
  readonly #any: boolean

  /** @param origins the list of `CORS_ORIGINS`. `https://*.example.com` stands for all subdomains, and `*` alone for any origin. */
  constructor(origins: readonly string[]) {
    this.#any = origins.includes('*')
    this.#exact = new Set(origins)
    this.#wildcards = origins
      .filter((origin) => origin.includes('://*.'))
      .map((origin) => {
        const star = origin.indexOf('*')
        return { before: origin.slice(0, star), after: origin.slice(star + 1) }
      })
  }

  /** On the routes of a scope: refuses requests of other origins, and lets pages of allowed origins read the replies. */
  guard(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      done(this.letRead(request, reply) ? undefined : this.#refusal(request.raw.headers.origin!))
    })
  }

  /**
   * Lets the page that sent a request read the reply, if the page's origin is allowed.
   * @returns whether the request may be taken.
   */
  letRead(request: FastifyRequest, reply: FastifyReply): boolean {
    const { origin } = request.raw.headers
    if (origin === undefined || isSameOrigin(request, origin)) return true
    reply.raw.setHeader('vary', 'Origin')
    if (!this.#allows(origin)) return false
    reply.raw.setHeader('access-control-allow-origin', origin)
    reply.raw.setHeader('access-control-allow-credentials', 'true')
    reply.raw.setHeader('access-control-expose-headers', exposedHeaders)
    return true
  }

  #allows(origin: string): boolean {
    if (this.#any || this.#exact.has(origin)) return true
    const normal = withoutDefaultPort(origin)
    if (this.#exact.has(normal)) return true
    return this.#wildcards.some(
      ({ before, after }) =>
        normal.length > before.length + after.length && normal.startsWith(before) && normal.endsWith(after),
    )
  }

  #refusal(origin: string): GatewayError {
    const detail = `pages of ${quoted(origin)} may not send events here; CORS_ORIGINS of the gateway lists those that may`
    return new GatewayError('origin_not_allowed', detail)
  }
}

/**
 * Answers preflights for a path, after {@link Cors.guard} has judged the origin. All headers that a page asks for are allowed: tracing
 * libraries add headers to every request, and the gateway does not read them.
 */
export function registerPreflight(app: FastifyInstance, path: string): void {
  app.options(path, (request, reply) => {
    const asked = request.raw.headers['access-control-request-headers']
    const isEchoed =
      asked !== undefined && asked.length <= maxEchoedHeaders && /^[\w!#$%&'*+.^`|~, -]+$/.test(asked)
    const headers = [
      'access-control-allow-methods',
      'POST, GET',
      'access-control-allow-headers',
      isEchoed ? asked : usualHeaders,
      // Two hours. Chromium keeps the answer no longer.
      'access-control-max-age',
      '7200',
    ]
    replyRaw(reply, 204, headers, '')
  })
}

/** Compares the hosts only, without the default port of the origin's scheme: behind a proxy that ends TLS the gateway's scheme is not known. */
function isSameOrigin(request: FastifyRequest, origin: string): boolean {
  const normal = withoutDefaultPort(origin)
  const at = normal.indexOf('://')
  if (at === -1) return false
  const [scheme, host] = [normal.slice(0, at), normal.slice(at + 3)]
  return host === request.host || host === withoutDefaultPort(`${scheme}://${request.host}`).slice(at + 3)
}

/** An origin in lower case, without the default port of its scheme (RFC 6454, section 6.2). */
function withoutDefaultPort(origin: string): string {
  const lower = origin.toLowerCase()
  if (lower.startsWith('https://') && lower.endsWith(':443')) return lower.slice(0, -4)
  return lower.startsWith('http://') && lower.endsWith(':80') ? lower.slice(0, -3) : lower
}

/** A text of a client, cut and escaped. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
