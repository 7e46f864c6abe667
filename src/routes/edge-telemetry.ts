import type { ErrorCode } from '../errors.ts'

/** How an event came: by the streams route, by `navigator.sendBeacon`, or in the query of the GIF. */
export type Transport = 'http' | 'beacon' | 'pixel'

/**
 * What the routes tell as it happens; `metrics/` implements it. Nothing is called once an event.
 *
 * The account of the edge is one of events: received = accepted + rejected. Events are received once their request was
 * decoded. A request that is refused before that (unknown stream, body too large, rate limit, not JSON at all…) has no
 * events that anybody could count. Requests that are refused as a whole are counted as requests, whether or not they have events.
 */
export interface EdgeTelemetry {
  readonly edge: {
    /** Events that were answered with 202 (or 200), in the turn in which they were appended or dropped. */
    accepted(transport: Transport, events: number): void
    /** Of the accepted events, those that were accepted before: they are not written again. */
    duplicates(transport: Transport, events: number): void
    /** Events that were refused, each under the code that the client was told. */
    rejected(transport: Transport, code: ErrorCode, events: number): void
    /** One request of which nothing was accepted. `stream` is the name of a stream that there is, or empty. */
    refused(code: ErrorCode, transport: Transport, stream: string): void
  }
  /** The timer of a route, asked for once at start. `route` is a pattern, never a path. */
  httpTimer(method: string, route: string): HttpTimer
}

/** See {@link EdgeTelemetry.httpTimer}. */
export interface HttpTimer {
  /** Counts one reply. `durationMs`: from the request's header to the reply. */
  observe(statusCode: number, durationMs: number): void
}
