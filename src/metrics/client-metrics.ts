import { type ConnectionBound, connectionBounds } from './edge-telemetry.ts'
import type { MergeableFamily } from './family.ts'

/**
 * The limits of clients at one instant. `app.ts` reads them where they are counted: `routes/http/bounds.ts` has connections and bodies,
 * `routes/policy/rate-limit.ts` what limits refused. The key of a request is known in `routes/policy/keys.ts`, and a connection has none.
 */
export interface LimitStats {
  /** Requests that a limit refused, by whose limit it is and by what it counts. Both sets are closed. */
  readonly limited: Readonly<Record<string, Readonly<Record<string, number>>>>
  /** The Redis of the limits; null: there is none. */
  readonly store: { readonly isUp: boolean; readonly unanswered: number } | null
  readonly connections: number
  readonly bodies: number
  /** Connections that were closed at once, since too many were open. */
  readonly refusedConnections: Readonly<Record<ConnectionBound, number>>
}

/** The limits as metrics. */
export function collectLimitMetrics(stats: LimitStats): MergeableFamily[] {
  const { limited, store, connections, bodies, refusedConnections } = stats
  return [
    {
      name: 'chute_rate_limited_requests_total',
      help: 'Requests that a limit refused, by whose limit it is (a key, an address, an address that uses a key) and what ran out.',
      type: 'counter',
      samples: Object.entries(limited).flatMap(([by, quantities]) =>
        Object.entries(quantities).map(([limit, value]) => ({ suffix: '', labels: { by, limit }, value })),
      ),
    },
    {
      name: 'chute_connections',
      help: 'Connections of clients that are open, at most MAX_CONNECTIONS.',
      type: 'gauge',
      merge: 'sum',
      samples: [{ suffix: '', labels: {}, value: connections }],
    },
    {
      name: 'chute_connections_refused_total',
      help: 'Connections that were closed at once: too many were open in all (MAX_CONNECTIONS), or of their address.',
      type: 'counter',
      samples: connectionBounds.map((bound) => ({
        suffix: '',
        labels: { bound },
        value: refusedConnections[bound],
      })),
    },
    {
      name: 'chute_bodies',
      help: 'Bodies of requests that are being read, at most MAX_BODIES.',
      type: 'gauge',
      merge: 'sum',
      samples: [{ suffix: '', labels: {}, value: bodies }],
    },
    ...(store === null ? [] : collectStoreMetrics(store)),
  ]
}

function collectStoreMetrics({ isUp, unanswered }: NonNullable<LimitStats['store']>): MergeableFamily[] {
  return [
    {
      name: 'chute_rate_limit_store_up',
      help: '1 while the Redis of the limits answers in time; otherwise each gateway counts alone.',
      type: 'gauge',
      merge: 'min',
      samples: [{ suffix: '', labels: {}, value: isUp ? 1 : 0 }],
    },
    {
      name: 'chute_rate_limit_store_unanswered_total',
      help: 'Charges to a limit that the Redis of the limits did not answer in time. The gateway counted them alone.',
      type: 'counter',
      samples: [{ suffix: '', labels: {}, value: unanswered }],
    },
  ]
}
