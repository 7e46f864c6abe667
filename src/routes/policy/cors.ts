import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { GatewayError } from '../../errors.ts'
import { replyRaw } from '../http/raw-reply.ts'

/** Headers of ours that a page may read. */
const exposedHeaders =
  'chute-delivery, chute-error, idempotency-replayed, preference-applied, retry-after, ratelimit, ratelimit-policy'

/** What a preflight that names no header is told. */
const usualHeaders = 'content-type, prefer, content-encoding, idempotency-key'

/** Longest list of headers that is echoed, in characters: what tracing libraries add is far below. */
const maxEchoedHeaders = 1_024

/**
 * Which pages may send events, and may read the replies (Fetch standard, "HTTP CORS protocol").
 *
 * A request of another origin is refused with 403 before its body is read, not only left without headers: a browser
 * sends a simple request (text/plain by `sendBeacon`) whatever the headers of the reply are, so leaving them out would
 * hide the reply and keep the event. The gateway's own origin is always allowed, and so is whoever sends no Origin.
 *
 * The origin is echoed and never `*`, since `sendBeacon` sends credentials. @fastify/cors does not serve here: it refuses
 * no request, and sets its headers on Fastify's reply, which the ingest routes pass by.
 */
export class Cors {
  readonly #exact: ReadonlySet<string>
  readonly #wildcards: readonly { readonly before: string; readonly after: string }[]
  readonly #any: boolean

  /** @param origins as `CORS_ORIGINS` has them; `https://*.example.com` stands for all its subdomains, `*` alone for any origin. */
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

  /** Refuses requests of other origins on the routes of a scope, and lets pages of allowed ones read the replies. */
  guard(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      done(this.letRead(request, reply) ? undefined : this.#refusal(request.raw.headers.origin!))
    })
  }

  /**
   * Lets the page that sent a request read the reply, if it is of an allowed origin.
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
 * Answers preflights for a path; {@link Cors.guard} has judged the origin before. Whatever headers a page asks for are
 * allowed: tracing libraries add theirs to every request, and the gateway does not look at them.
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
      // Two hours, which is the most that Chromium keeps.
      'access-control-max-age',
      '7200',
    ]
    replyRaw(reply, 204, headers, '')
  })
}

/** Behind a proxy that ends TLS the scheme is not known, so that hosts are compared, without the default port of the origin's. */
function isSameOrigin(request: FastifyRequest, origin: string): boolean {
  const normal = withoutDefaultPort(origin)
  const at = normal.indexOf('://')
  if (at === -1) return false
  const [scheme, host] = [normal.slice(0, at), normal.slice(at + 3)]
  return host === request.host || host === withoutDefaultPort(`${scheme}://${request.host}`).slice(at + 3)
}

/** An origin in lower case, without the port that its scheme has anyway (RFC 6454, section 6.2). */
function withoutDefaultPort(origin: string): string {
  const lower = origin.toLowerCase()
  if (lower.startsWith('https://') && lower.endsWith(':443')) return lower.slice(0, -4)
  return lower.startsWith('http://') && lower.endsWith(':80') ? lower.slice(0, -3) : lower
}

/** Whatever a client sent, cut and escaped. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
