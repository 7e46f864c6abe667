/**
 * The closed table of what can go wrong for a client: a stable code, its HTTP status and its title. The same code is the
 * problem's `code`, the metric's label and the log's field. Branch on codes, never on messages.
 *
 * A new code also needs its groups in `dev/openapi-operations.ts`, which does not compile without them. `openapi.yaml` is
 * generated from both files.
 */
export const errorTable = {
  // Of a request: nothing of it was accepted, but for `delivery_failed` and `spool_undecided`.
  malformed_json: { status: 400, title: 'The body is not valid JSON' },
  invalid_utf8: { status: 400, title: 'The body is not valid UTF-8' },
  empty_body: { status: 400, title: 'The body is empty' },
  invalid_encoding: { status: 400, title: 'The body does not match its Content-Encoding' },
  chunks_too_small: { status: 400, title: 'The body comes in too many small chunks' },
  invalid_request: { status: 400, title: 'The request cannot be read' },
  all_events_invalid: { status: 400, title: 'No event of the request is valid' },
  strict_rejected: { status: 400, title: 'An event is invalid and handling is strict' },
  too_many_fields: { status: 413, title: 'The form or query has too many fields' },
  too_many_events: { status: 413, title: 'The request carries too many events' },
  key_missing: { status: 401, title: 'A key is needed' },
  key_unknown: { status: 401, title: 'The key is not known' },
  key_not_allowed: { status: 403, title: 'The key does not allow this' },
  origin_not_allowed: { status: 403, title: 'The origin is not allowed' },
  invalid_idempotency_key: { status: 400, title: 'The Idempotency-Key cannot be read' },
  idempotency_key_missing: { status: 400, title: 'Nothing tells the request from its repetition' },
  unknown_stream: { status: 404, title: 'There is no such stream' },
  not_found: { status: 404, title: 'There is no such resource' },
  method_not_allowed: { status: 405, title: 'The method is not allowed here' },
  body_timeout: { status: 408, title: 'The body took too long' },
  request_in_progress: { status: 409, title: 'The same request has no answer yet' },
  idempotency_key_reused: { status: 422, title: 'The Idempotency-Key was sent with another body' },
  body_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The media type is not supported' },
  unsupported_encoding: { status: 415, title: 'The content encoding is not supported' },
  rate_limited: { status: 429, title: 'Too many requests' },
  headers_too_large: { status: 431, title: 'The request header fields are too large' },
  too_many_bodies: { status: 503, title: 'The gateway reads as many bodies as it may' },
  buffer_full: { status: 503, title: 'The buffer of the stream is full' },
  stream_unavailable: { status: 503, title: 'Kafka does not take records of this stream' },
  spool_unavailable: { status: 503, title: 'The disk does not take events of this stream' },
  spool_undecided: { status: 504, title: 'It is not known whether the events are on disk' },
  dedupe_unavailable: { status: 503, title: 'Nobody knows now what was sent before' },
  shutting_down: { status: 503, title: 'The gateway is shutting down' },
  delivery_failed: { status: 503, title: 'The records were accepted and then lost' },
  internal: { status: 500, title: 'The gateway failed' },
  // Of one event: the other events of the request are accepted.
  invalid_json: { status: 400, title: 'The event is not valid JSON' },
  invalid_event: { status: 400, title: 'The event does not fit the schema of the stream' },
  event_too_large: { status: 413, title: 'The event is larger than the topic takes' },
  source_missing: { status: 400, title: 'The topic is compacted and the event has no source' },
  record_key_missing: { status: 400, title: 'The event has no key, and the stream needs one' },
  source_not_allowed: { status: 403, title: 'The key does not allow this source' },
  id_conflict: { status: 422, title: 'The id of the event stands for other content' },
  too_deep: { status: 400, title: 'The event is nested too deeply' },
  too_complex: { status: 413, title: 'The event has too many members' },
} as const

/** See {@link errorTable}. */
export type ErrorCode = keyof typeof errorTable

/** An error that a client is told about. The message is the problem's `detail`: what is wrong with the request, and what would be right. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: ErrorCode
  /** Members of the problem+json reply beside the standard ones (RFC 9457, section 3.2), such as `limit` or `streams`. */
  readonly extensions: Readonly<Record<string, unknown>>
  /** For 429 and 503: when the client may try again (`Retry-After`). */
  readonly retryAfterSeconds: number | null

  constructor(
    code: ErrorCode,
    detail: string,
    options: { cause?: unknown; extensions?: Record<string, unknown>; retryAfterSeconds?: number } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.extensions = options.extensions ?? {}
    this.retryAfterSeconds = options.retryAfterSeconds ?? null
  }

  /** HTTP status of the reply. */
  get status(): number {
    return errorTable[this.code].status
  }
}
