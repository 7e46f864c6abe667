/** What a rate limit counts. A closed set, since it is a label of metrics. */
export const limitedQuantities = ['requests', 'events', 'bytes'] as const

/** See {@link limitedQuantities}. */
export type LimitedQuantity = (typeof limitedQuantities)[number]

/** How much a client may send in a window. A quantity that is null has no limit. */
export interface RateLimit extends Readonly<Record<LimitedQuantity, number | null>> {
  readonly windowMs: number
  /** How many windows' worth a client may send at once, after it was quiet for as many windows. 1: no more than in each window. */
  readonly burst: number
}

/** Where the gateways of a fleet count together. */
export interface RateLimitStoreConfig {
  /** `redis:` or `rediss:`, with the credentials. */
  readonly url: string
  /** The beginning of all keys in the store. */
  readonly prefix: string
}

/** How much may be open at a time. Null: any number. */
export interface HttpBounds {
  readonly connections: number
  readonly connectionsPerAddress: number | null
  /** Bodies that are being read. */
  readonly bodies: number
  readonly bodiesPerAddress: number | null
}

/** Limits of what one request may carry. */
export interface HttpLimits {
  /** Of the body as received, and of the body after inflating, in bytes. */
  readonly bodyBytes: number
  /** Of one event's JSON, in bytes; the topic's `max.message.bytes` may be lower and then rules. */
  readonly eventBytes: number
  /** Events in one request. */
  readonly eventsPerRequest: number
  /** Nesting of one event's JSON. */
  readonly depth: number
  /** Longest time from the first byte of a request to the end of its header, in milliseconds. A body has the same time before its pace counts. */
  readonly bodyTimeoutMs: number
  /** Longest time from the first byte of a request to its last byte, in milliseconds; not below `bodyTimeoutMs`. */
  readonly bodyTimeoutMaxMs: number
  /** The slowest pace of a body after `bodyTimeoutMs`, as the mean over each further `bodyTimeoutMs`. */
  readonly bodyMinBytesPerSecond: number
  /** How long a connection is kept on which no request comes, in milliseconds. */
  readonly keepAliveTimeoutMs: number
}
