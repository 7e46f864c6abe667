import type { ErrorCode } from '../errors.ts'

/** See {@link EdgeTransport}. The metrics' label `transport` has these values. */
export const edgeTransports = ['http', 'beacon', 'pixel'] as const

/** How an event came in: by the streams route, by `navigator.sendBeacon`, or in the query of the GIF. A closed set, since it is a metric label. */
export type EdgeTransport = (typeof edgeTransports)[number]

/** See {@link FailedHandshake}. The metrics' label `reason` has these values. */
export const failedHandshakes = [
  'plain_http',
  'not_tls',
  'version',
  'cipher',
  'alpn',
  'client_certificate',
  'client_alert',
  'timeout',
  'closed',
  'other',
] as const

/**
 * Why a TLS handshake failed: the client spoke plain HTTP, or nothing that is TLS; it has no version, no cipher or no protocol
 * (ALPN) in common with the gateway; its certificate is not signed by `TLS_CLIENT_CA`; it refused, most often the gateway's
 * certificate; it took too long; it went away.
 */
export type FailedHandshake = (typeof failedHandshakes)[number]

/** See {@link InvalidResult}. The metrics' label `result` has these values. */
export const invalidResults = [
  'kept',
  'over_rate',
  'buffer_full',
  'too_large',
  'unavailable',
  'refused',
  'suspected_lost',
  'shutdown',
] as const

/**
 * What became of an event that was refused for itself and that the stream's `invalidTopic` was to get. `kept`: Kafka has acknowledged it.
 * `over_rate`: it came above `invalidTopicMaxPerSecond`. `buffer_full`: there was no room for it. `too_large`: the topic takes no record of
 * its size. `unavailable`: the topic took no records. `refused`: Kafka refused it for good. `suspected_lost`: it was written, and nobody
 * knows whether it arrived. `shutdown`: the gateway ended before.
 */
export type InvalidResult = (typeof invalidResults)[number]

/** The invalid events of one stream, at one instant. */
export interface InvalidStats {
  readonly stream: string
  readonly topic: string
  readonly results: Readonly<Record<InvalidResult, number>>
  /** Events that have no result yet. */
  readonly pending: number
}

/** See {@link ConnectionBound}. The metrics' label `bound` has these values. */
export const connectionBounds = ['all', 'address'] as const

/** Which bound of connections was reached: that of all of them, or that of one address. */
export type ConnectionBound = (typeof connectionBounds)[number]

/**
 * What the routes report while they serve. `Metrics` (metrics.ts) implements it, and `routes/` is given it. No method is
 * called once an event.
 *
 * The account of the edge counts events: received = accepted + rejected. An event is received once its request was decoded.
 * A request that is refused earlier (unknown stream, body too large, rate limit, no JSON at all…) has no events that could
 * be counted. Every request of which nothing was accepted is counted as one request, whether or not it has events.
 */
export interface EdgeTelemetry {
  readonly edge: {
    /** Counts events that were answered with 202 or 200, in the turn in which they were appended or dropped. */
    accepted(transport: EdgeTransport, events: number): void
    /** Counts those of the accepted events that were accepted before. They are not written again. */
    duplicates(transport: EdgeTransport, events: number): void
    /** Counts events that were refused, under the code that the client was told. */
    rejected(transport: EdgeTransport, code: ErrorCode, events: number): void
    /** Counts one request of which nothing was accepted. `stream` is the name of a configured stream, or empty. */
    refused(code: ErrorCode, transport: EdgeTransport, stream: string): void
    /** The counters of a key. Its owner asks once, and keeps them. Names are those of the configuration. */
    ofKey(name: string): KeyCounter
  }
  /** The timer of a route. Each route asks once, at start, and keeps it. `route` is a pattern, never a path. */
  httpTimer(method: string, route: string): HttpTimer
}

/** Counts what comes with one key. */
export interface KeyCounter {
  /** Counts one request of which some events were accepted. */
  accepted(events: number): void
  /** Counts one request of which nothing was accepted. */
  refused(): void
}

/** Takes the durations of all requests of one route. */
export interface HttpTimer {
  /** Counts one reply. `statusCode` is final: 200 to 599. `durationMs` is the time from the request's header to the reply. */
  observe(statusCode: number, durationMs: number): void
}
