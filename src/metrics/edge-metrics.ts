import { type ErrorCode, errorTable } from '../errors.ts'
import type { MergeableFamily } from './family.ts'
import {
  connectionBounds,
  type ConnectionBound,
  edgeTransports,
  type EdgeTelemetry,
  type EdgeTransport,
  type HttpTimer,
  type KeyCounter,
} from './edge-telemetry.ts'
import { Histogram, type HistogramReading, type HistogramSeries } from './histogram.ts'

type EdgeReports = EdgeTelemetry['edge']

/**
 * The metrics of the HTTP edge: counters of requests, events and keys, and behind them what clients hold open and what limits refused. How to
 * add one: CONTRIBUTING.md ("A metric").
 *
 * {@link EdgeTotals} is the account of the edge at one instant. For each transport: events received = accepted + rejected.
 */
export interface EdgeTotals {
  readonly accepted: Readonly<Record<EdgeTransport, number>>
  readonly rejected: Readonly<Record<EdgeTransport, number>>
  /** Accepted events that had been accepted before, and were not written again. */
  readonly duplicates: Readonly<Record<EdgeTransport, number>>
  /** The rejected events, by the code that the client was told. */
  readonly rejectedByCode: Readonly<Record<ErrorCode, number>>
  /** Requests of which nothing was accepted. Each pair of code and transport has an entry without a stream from the start. */
  readonly refused: readonly RefusedRequests[]
  /** What came with each key, by its name. */
  readonly keys: Readonly<Record<string, KeyTotals>>
}

/** What came with one key. */
export interface KeyTotals {
  readonly acceptedRequests: number
  readonly acceptedEvents: number
  readonly refusedRequests: number
}

/** See {@link EdgeTotals.refused}. */
export interface RefusedRequests {
  readonly code: ErrorCode
  readonly transport: EdgeTransport
  /** Empty where the request named no stream, or a stream that is not configured. */
  readonly stream: string
  readonly requests: number
}

/**
 * Counts what the routes report: plain additions, and no look-up of labels. A rejection is added to both of its counters in
 * one step, so the sum over the codes is the number of rejected events in every scrape.
 */
export class EdgeCounters implements EdgeReports {
  readonly #accepted = zeros(edgeTransports)
  readonly #rejected = zeros(edgeTransports)
  readonly #duplicates = zeros(edgeTransports)
  readonly #rejectedByCode = zeros(errorCodes)
  readonly #refused = new Map<string, { -readonly [K in keyof RefusedRequests]: RefusedRequests[K] }>()
  readonly #keys = new Map<string, { -readonly [K in keyof KeyTotals]: KeyTotals[K] }>()

  constructor() {
    for (const transport of edgeTransports)
      for (const code of errorCodes) this.#refusedOf(code, transport, '')
  }

  /** @inheritdoc */
  accepted(transport: EdgeTransport, events: number): void {
    this.#accepted[transport] += events
  }

  /** @inheritdoc */
  duplicates(transport: EdgeTransport, events: number): void {
    this.#duplicates[transport] += events
  }

  /** @inheritdoc */
  rejected(transport: EdgeTransport, code: ErrorCode, events: number): void {
    this.#rejected[transport] += events
    this.#rejectedByCode[code] += events
  }

  /** @inheritdoc */
  refused(code: ErrorCode, transport: EdgeTransport, stream: string): void {
    this.#refusedOf(code, transport, stream).requests++
  }

  #refusedOf(code: ErrorCode, transport: EdgeTransport, stream: string) {
    const key = keyOf({ code, transport, stream })
    let counted = this.#refused.get(key)
    if (counted === undefined) this.#refused.set(key, (counted = { code, transport, stream, requests: 0 }))
    return counted
  }

  /** @inheritdoc */
  ofKey(name: string): KeyCounter {
    let totals = this.#keys.get(name)
    if (totals === undefined) this.#keys.set(name, (totals = { ...noKeyTotals }))
    const counted = totals
    return {
      accepted(events) {
        counted.acceptedRequests++
        counted.acceptedEvents += events
      },
      refused() {
        counted.refusedRequests++
      },
    }
  }

  /** A copy of the numbers at this moment. */
  totals(): EdgeTotals {
    return {
      accepted: { ...this.#accepted },
      rejected: { ...this.#rejected },
      duplicates: { ...this.#duplicates },
      rejectedByCode: { ...this.#rejectedByCode },
      refused: Array.from(this.#refused.values(), (counted) => ({ ...counted })),
      keys: Object.fromEntries(Array.from(this.#keys, ([name, totals]) => [name, { ...totals }])),
    }
  }
}

/** The account of the edge as metrics. */
export function collectEdgeMetrics({
  accepted,
  rejected,
  duplicates,
  rejectedByCode,
  refused,
  keys,
  ...others
}: EdgeTotals): MergeableFamily[] {
  // A number that no family shows would be counted for nobody.
  others satisfies Record<string, never>
  return [
    {
      name: 'chute_events_total',
      help: 'Events received, by what the client was told and by how they came. Received is the sum of both results.',
      type: 'counter',
      samples: edgeTransports.flatMap((transport) => [
        { suffix: '', labels: { result: 'accepted', transport }, value: accepted[transport] },
        { suffix: '', labels: { result: 'rejected', transport }, value: rejected[transport] },
      ]),
    },
    {
      name: 'chute_events_duplicate_total',
      help: 'Of the accepted events, those that were accepted before (Idempotency-Key, id): answered as then and not written again. Accepted events without these are accepted records.',
      type: 'counter',
      samples: edgeTransports.map((transport) => ({
        suffix: '',
        labels: { transport },
        value: duplicates[transport],
      })),
    },
    {
      name: 'chute_events_rejected_total',
      help: 'Rejected events by the code that the client was told.',
      type: 'counter',
      samples: Object.entries(rejectedByCode).map(([code, value]) => ({
        suffix: '',
        labels: { code },
        value,
      })),
    },
    {
      name: 'chute_requests_refused_total',
      help: 'Requests of which nothing was accepted, by the code that the client was told. The stream is empty where the path names none that there is; a series of a stream begins with its first refusal.',
      type: 'counter',
      samples: refused.map(({ requests, ...labels }) => ({ suffix: '', labels, value: requests })),
    },
    {
      name: 'chute_key_requests_total',
      help: 'Requests that came with a key that is known, by its name: of accepted ones some events were accepted, of refused ones none.',
      type: 'counter',
      samples: Object.entries(keys).flatMap(([key, { acceptedRequests, refusedRequests }]) => [
        { suffix: '', labels: { key, result: 'accepted' }, value: acceptedRequests },
        { suffix: '', labels: { key, result: 'refused' }, value: refusedRequests },
      ]),
    },
    {
      name: 'chute_key_events_total',
      help: 'Accepted events by the name of the key that they came with.',
      type: 'counter',
      samples: Object.entries(keys).map(([key, { acceptedEvents }]) => ({
        suffix: '',
        labels: { key },
        value: acceptedEvents,
      })),
    },
  ]
}

/** Adds up the accounts of two processes. */
export function mergeEdge(one: EdgeTotals, other: EdgeTotals): EdgeTotals {
  return {
    accepted: addEach(one.accepted, other.accepted),
    rejected: addEach(one.rejected, other.rejected),
    duplicates: addEach(one.duplicates, other.duplicates),
    rejectedByCode: addEach(one.rejectedByCode, other.rejectedByCode),
    refused: mergeRefused(one.refused, other.refused),
    keys: mergeKeys(one.keys, other.keys),
  }
}

function addEach<K extends string>(
  one: Readonly<Record<K, number>>,
  other: Readonly<Record<K, number>>,
): Record<K, number> {
  const sums: Record<K, number> = { ...one }
  for (const key of Object.keys(one) as K[]) sums[key] += other[key]
  return sums
}

function mergeRefused(one: readonly RefusedRequests[], other: readonly RefusedRequests[]): RefusedRequests[] {
  const merged = new Map(one.map((counted) => [keyOf(counted), counted]))
  for (const counted of other) {
    const known = merged.get(keyOf(counted))
    merged.set(keyOf(counted), { ...counted, requests: counted.requests + (known?.requests ?? 0) })
  }
  return [...merged.values()]
}

function mergeKeys(one: EdgeTotals['keys'], other: EdgeTotals['keys']): EdgeTotals['keys'] {
  const names = [...new Set([...Object.keys(one), ...Object.keys(other)])]
  return Object.fromEntries(
    names.map((name) => [
      name,
      addEach({ ...noKeyTotals, ...one[name] }, { ...noKeyTotals, ...other[name] }),
    ]),
  )
}

const noKeyTotals: KeyTotals = { acceptedRequests: 0, acceptedEvents: 0, refusedRequests: 0 }

function keyOf({ code, transport, stream }: Omit<RefusedRequests, 'requests'>): string {
  return `${code} ${transport} ${stream}`
}

function zeros<K extends string>(names: readonly K[]): Record<K, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<K, number>
}

const errorCodes = Object.keys(errorTable) as ErrorCode[]

const statusClasses = ['2xx', '3xx', '4xx', '5xx'] as const

/** `chute_http_request_duration_seconds`: the time from the header of a request until its reply was written. */
export class HttpDurations {
  readonly #histogram = new Histogram({
    name: 'chute_http_request_duration_seconds',
    help: 'Time from the header of a request until its reply was written, by route and class of status.',
    type: 'histogram',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  })
  readonly #timers = new Map<string, HttpTimer>()

  /**
   * The timer of a route. The route keeps it, so that a request looks nothing up.
   * @param route the pattern of the route, such as `/v1/streams/:stream`, and never the path of a request: label sets are closed.
   */
  timer(method: string, route: string): HttpTimer {
    const key = `${method} ${route}`
    const known = this.#timers.get(key)
    if (known !== undefined) return known
    const byClass: HistogramSeries[] = statusClasses.map((status) =>
      this.#histogram.addSeries({ method, route, status }),
    )
    const timer: HttpTimer = {
      observe(statusCode, durationMs) {
        byClass[Math.floor(statusCode / 100) - 2]?.observe(durationMs / 1000)
      },
    }
    this.#timers.set(key, timer)
    return timer
  }

  read(): HistogramReading {
    return this.#histogram.read()
  }
}

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
