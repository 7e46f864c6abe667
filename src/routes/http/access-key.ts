import type { KeyKind } from '../../config/config.ts'
import type { RateLimit } from '../../config/limits.ts'
import type { KeyCounter } from '../../metrics/edge-telemetry.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The key that a request came with; null where nobody needs one. `policy/keys.ts` sets it. */
    accessKey: AccessKey | null
  }
}

/** A key, as `policy/keys.ts` looked it up, for whoever needs to know whose a request is. */
export interface AccessKey {
  readonly name: string
  readonly kind: KeyKind
  readonly streams: Names
  /** Pages that may use the key. Null: it has no origins of its own. */
  readonly origins: { has(origin: string): boolean } | null
  /** Values of `source` that its events may have; null: any. */
  readonly sources: Names | null
  /** From when on the key is not known any more, in milliseconds since 1970. */
  readonly notAfterMs: number
  /** Of all its requests, and of those that one address sends; null: no limit. */
  readonly limits: RateLimit | null
  readonly addressLimits: RateLimit | null
  readonly counter: KeyCounter
}

/** Names of streams or sources. */
export interface Names {
  has(name: string): boolean
}

/** The parameter of a query that holds a key: beacons and images can set no header. It is no part of the event. */
export const keyParameter = 'key'
