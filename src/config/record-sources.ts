/** What of a request goes into records: see docs/records.md. `record-settings.ts` reads it. */

/** The words of {@link RecordKeySource} that stand for themselves. `compileKey` in routes/ingest/record-key.ts follows each of them. */
export const plainKeySources = ['source', 'none'] as const

/**
 * What becomes the key of a stream's records: the event's `source`, nothing, the value at a JSON pointer into the event (RFC 6901), or
 * a header of the request, whose name is in lower case.
 */
export type RecordKeySource = (typeof plainKeySources)[number] | `/${string}` | `header:${string}`

/** The sources of headers that have no name of their own behind them, each with its meaning. `compileSource` in routes/ingest/chosen-headers.ts follows each of them. */
export const plainHeaderSources = {
  'key:name': 'the name of its key',
  'client:address/24': 'the network of the client',
  'client:address': 'the whole address',
  time: 'when it was received, in ms',
} as const

/**
 * What a header of a stream's records holds: a header of the request, whose name is in lower case; the name of the key that the request
 * came with; the client's address, whole or cut to its network; or the time at which the request was received.
 */
export type RecordHeaderSource = `header:${string}` | keyof typeof plainHeaderSources

/** See {@link TimestampUnit}. */
export const timestampUnits = ['auto', 'ms', 's', 'us', 'ns'] as const

/** The unit of a `timestamp` that is a number. `auto`: any of them, which the number of digits tells. events/timestamp-format.ts has the same type. */
export type TimestampUnit = (typeof timestampUnits)[number]

/** See {@link KeyMissing}. */
export const keyMissingActions = ['accept', 'reject'] as const

/** What becomes of an event without a key: written without one, or refused. */
export type KeyMissing = (typeof keyMissingActions)[number]

/** Whether an event without a key is refused. */
export const refusesKeyless: Readonly<Record<KeyMissing, boolean>> = { accept: false, reject: true }

/** `topics:` of a stream: the value at a JSON pointer into an event chooses the topic of its record. */
export interface TopicsConfig {
  readonly by: `/${string}`
  /** The topic of each value. A number is its text, as it is written. */
  readonly map: Readonly<Record<string, string>>
  /** The topic of all other events. */
  readonly else: string
}

/** The topics of a stream's events, each once. `topic` is the first: it is {@link TopicsConfig.else} where there are `topics`. */
export function eventTopics({
  topic,
  topics,
}: {
  readonly topic: string
  readonly topics: TopicsConfig | null
}): string[] {
  return [...new Set([topic, ...Object.values(topics?.map ?? {})])]
}
