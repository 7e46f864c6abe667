import { errorTable } from '../errors.ts'
import type { ErrorCode } from '../errors.ts'
import type { MergeableFamily } from './exposition.ts'

/** How an event came in: the streams route, `navigator.sendBeacon`, or the GIF. A closed set, since it is a metric label. */
export const transports = ['http', 'beacon', 'pixel'] as const

/** See {@link transports}. */
export type Transport = (typeof transports)[number]

/** The edge's account at one instant. For each transport: events received = accepted + rejected. */
export interface EdgeTotals {
  readonly accepted: Readonly<Record<Transport, number>>
  readonly rejected: Readonly<Record<Transport, number>>
  /** Of the accepted, those that were accepted before and not written again. */
  readonly duplicates: Readonly<Record<Transport, number>>
  /** The same rejections by the code that the client was told. */
  readonly rejectedByCode: Readonly<Record<string, number>>
  /** Requests of which nothing was accepted. Each code and transport without a stream is there from the start. */
  readonly refused: readonly RefusedRequests[]
}

/** See {@link EdgeTotals.refused}. */
export interface RefusedRequests {
  readonly code: string
  readonly transport: Transport
  /** Empty: no stream of the name in the path, or none was named. */
  readonly stream: string
  readonly requests: number
}

/**
 * What the routes tell of events: plain additions, no label look-up. Both counters of a rejection are written here in one
 * step, so that the sum over the codes is the number of rejected events at every scrape.
 */
export class EdgeCounters {
  readonly #accepted: Record<Transport, number> = { http: 0, beacon: 0, pixel: 0 }
  readonly #rejected: Record<Transport, number> = { http: 0, beacon: 0, pixel: 0 }
  readonly #duplicates: Record<Transport, number> = { http: 0, beacon: 0, pixel: 0 }
  readonly #rejectedByCode = Object.fromEntries(Object.keys(errorTable).map((code) => [code, 0])) as Record<
    ErrorCode,
    number
  >

  readonly #refused = new Map<string, { -readonly [K in keyof RefusedRequests]: RefusedRequests[K] }>()

  constructor() {
    for (const transport of transports)
      for (const code of Object.keys(errorTable)) this.#refusedOf(code, transport, '')
  }

  /** Counts events that were taken, in the turn in which they were appended. */
  accepted(transport: Transport, events: number): void {
    this.#accepted[transport] += events
  }

  /** Counts those of the accepted events that were accepted before. */
  duplicates(transport: Transport, events: number): void {
    this.#duplicates[transport] += events
  }

  /** Counts events that were refused, each under the code that its client was told. */
  rejected(transport: Transport, code: ErrorCode, events: number): void {
    this.#rejected[transport] += events
    this.#rejectedByCode[code] += events
  }

  /** Counts a request of which nothing was accepted. */
  refused(code: ErrorCode, transport: Transport, stream: string): void {
    this.#refusedOf(code, transport, stream).requests++
  }

  #refusedOf(code: string, transport: Transport, stream: string) {
    const key = keyOf({ code, transport, stream })
    let counted = this.#refused.get(key)
    if (counted === undefined) this.#refused.set(key, (counted = { code, transport, stream, requests: 0 }))
    return counted
  }

  totals(): EdgeTotals {
    return {
      accepted: { ...this.#accepted },
      rejected: { ...this.#rejected },
      duplicates: { ...this.#duplicates },
      rejectedByCode: { ...this.#rejectedByCode },
      refused: Array.from(this.#refused.values(), (counted) => ({ ...counted })),
    }
  }
}

/** The edge's account as metrics. */
export function collectEdgeMetrics({
  accepted,
  rejected,
  duplicates,
  rejectedByCode,
  refused,
}: EdgeTotals): MergeableFamily[] {
  return [
    {
      name: 'chute_events_total',
      help: 'Events received, by what the client was told and by how they came. Received is the sum of both results.',
      type: 'counter',
      samples: transports.flatMap((transport) => [
        { suffix: '', labels: { result: 'accepted', transport }, value: accepted[transport] },
        { suffix: '', labels: { result: 'rejected', transport }, value: rejected[transport] },
      ]),
    },
    {
      name: 'chute_events_duplicate_total',
      help: 'Of the accepted events, those that were accepted before (Idempotency-Key, id): answered as then and not written again. Accepted events without these are accepted records.',
      type: 'counter',
      samples: transports.map((transport) => ({
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
  ]
}

/** Adds up what several processes refused. */
export function mergeRefused(
  one: readonly RefusedRequests[],
  other: readonly RefusedRequests[],
): RefusedRequests[] {
  const merged = new Map(one.map((counted) => [keyOf(counted), counted]))
  for (const counted of other) {
    const known = merged.get(keyOf(counted))
    merged.set(keyOf(counted), { ...counted, requests: counted.requests + (known?.requests ?? 0) })
  }
  return [...merged.values()]
}

function keyOf({ code, transport, stream }: Omit<RefusedRequests, 'requests'>): string {
  return `${code} ${transport} ${stream}`
}
