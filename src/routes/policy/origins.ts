import type { FastifyRequest } from 'fastify'

/** Origins of pages, as `CORS_ORIGINS` has them; `https://*.example.com` stands for all its subdomains, `*` alone for any origin. */
export class Origins {
  readonly #isAny: boolean
  readonly #exact: ReadonlySet<string>
  readonly #wildcards: readonly { readonly before: string; readonly after: string }[]

  constructor(origins: readonly string[]) {
    this.#isAny = origins.includes('*')
    this.#exact = new Set(origins)
    this.#wildcards = origins
      .filter((origin) => origin.includes('://*.'))
      .map((origin) => {
        const star = origin.indexOf('*')
        return { before: origin.slice(0, star), after: origin.slice(star + 1) }
      })
  }

  /** Whether an origin, as a browser sent it, is one of them. */
  has(origin: string): boolean {
    if (this.#isAny || this.#exact.has(origin)) return true
    const normal = withoutDefaultPort(origin)
    if (this.#exact.has(normal)) return true
    return this.#wildcards.some(
      ({ before, after }) =>
        normal.length > before.length + after.length && normal.startsWith(before) && normal.endsWith(after),
    )
  }
}

/** Behind a proxy that ends TLS the scheme is not known, so that hosts are compared, without the default port of the origin's. */
export function isSameOrigin(request: FastifyRequest, origin: string): boolean {
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
