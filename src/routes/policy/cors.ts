import { validateHeaderValue } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { HttpConfig } from '../../config/config.ts'
import { GatewayError, quoted } from '../../errors.ts'
import { type HeaderSource, holdHeaders, inOnePiece } from '../http/held-headers.ts'
import { replyRaw } from '../http/raw-reply.ts'
import { isSameOrigin, Origins } from './origins.ts'

/** Headers of a reply that a page may read. */
const exposedHeaders =
  'chute-delivery, chute-error, idempotency-replayed, preference-applied, retry-after, ratelimit, ratelimit-policy, www-authenticate'

/** The allowed headers for a preflight that asks for none. */
const usualHeaders = 'content-type, prefer, content-encoding, idempotency-key, authorization, x-chute-key'

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
  #origins: Origins
  /** By allowed origin: what the replies to its pages have. The origins that were seen last, since `*` allows any number of them. */
  readonly #readable = new Map<string, ReadableBy>()
  /** Every origin that may send events, as it was written. */
  allowed: readonly string[]
  /** Where they stand, for people. */
  #lists: string

  /** @param http every origin of it may send events, with a key or without: `CORS_ORIGINS`, and the origins of keys. */
  constructor(http: CorsConfig) {
    this.allowed = allowedOrigins(http)
    this.#lists = listsOf(http)
    this.#origins = new Origins(this.allowed)
  }

  /** Requests that come from now on are judged by other origins. */
  reload(http: CorsConfig): void {
    this.allowed = allowedOrigins(http)
    this.#lists = listsOf(http)
    this.#origins = new Origins(this.allowed)
    this.#readable.clear()
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
    if (origin === undefined) return true
    const readable = this.#readable.get(origin) ?? this.#readableBy(origin)
    if (readable !== null) {
      holdHeaders(reply.raw, readable)
      return true
    }
    if (isSameOrigin(request, origin)) return true
    holdHeaders(reply.raw, variesByOrigin)
    return false
  }

  #readableBy(origin: string): ReadableBy | null {
    if (!this.#origins.has(origin)) return null
    if (this.#readable.size >= mostReadable) this.#readable.clear()
    const readable = new ReadableBy(origin)
    this.#readable.set(origin, readable)
    return readable
  }

  #refusal(origin: string): GatewayError {
    const detail = `pages of ${quoted(origin)} may not send events here; ${this.#lists} those that may`
    return new GatewayError('origin_not_allowed', detail)
  }
}

/** Lets pages of an origin read a reply. */
class ReadableBy implements HeaderSource {
  readonly #lines: string

  constructor(origin: string) {
    validateHeaderValue('access-control-allow-origin', origin)
    this.#lines = inOnePiece(
      `vary: Origin\r\naccess-control-allow-origin: ${origin}\r\n` +
        `access-control-allow-credentials: true\r\naccess-control-expose-headers: ${exposedHeaders}\r\n`,
    )
  }

  /** @inheritdoc */
  lines(): string {
    return this.#lines
  }
}

const mostReadable = 100

const variesByOrigin: HeaderSource = { lines: () => 'vary: Origin\r\n' }

/** What {@link Cors} goes by. */
type CorsConfig = Pick<HttpConfig, 'corsOrigins' | 'keys'>

function allowedOrigins({ corsOrigins, keys }: CorsConfig): string[] {
  return [...new Set([...corsOrigins, ...keys.flatMap(({ origins }) => origins)])]
}

function listsOf({ keys }: CorsConfig): string {
  return keys.length === 0
    ? 'CORS_ORIGINS of the gateway lists'
    : 'CORS_ORIGINS of the gateway and origins of its keys list'
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
