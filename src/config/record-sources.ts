/** What of a request goes into records: see docs/records.md. `record-settings.ts` reads it. */

/**
 * What becomes the key of a stream's records: the event's `source`, nothing, the value at a JSON pointer into the event (RFC 6901), or
 * a header of the request, whose name is in lower case.
 */
export type RecordKeySource = 'source' | 'none' | `/${string}` | `header:${string}`

/**
 * What a header of a stream's records holds: a header of the request, whose name is in lower case; the name of the key that the request
 * came with; the client's address, whole or cut to its network; or the time at which the request was received.
 */
export type RecordHeaderSource =
  | `header:${string}`
  | 'key:name'
  | 'client:address'
  | 'client:address/24'
  | 'time'
