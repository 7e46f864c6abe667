/** What is true of a problem. */
interface ErrorTraits {
  /** HTTP status of the reply. */
  readonly status: number
  readonly title: string
  /**
   * What the reply tells beside the reason. `when`: the request may come again, at the time of `Retry-After`. `which`: which events are
   * invalid, all of them; after any other problem the client may send the same events again, and learn it then. null: neither.
   */
  readonly tells: 'when' | 'which' | null
}

/**
 * The closed table of what can go wrong for a client: a stable code, its HTTP status and its title. The same code is the
 * problem's `code`, the metric's label and the log's field. Branch on codes, never on messages.
 *
 * A new code also needs its groups in `dev/openapi-operations.ts`, which does not compile without them. `openapi.yaml` is
 * generated from both files.
 */
export const errorTable = {
  // Of a request: nothing of it was accepted, but for `delivery_failed` and `spool_undecided`.
  malformed_json: { status: 400, title: 'The body is not valid JSON', tells: null },
  invalid_utf8: { status: 400, title: 'The body is not valid UTF-8', tells: null },
  empty_body: { status: 400, title: 'The body is empty', tells: null },
  invalid_encoding: { status: 400, title: 'The body does not match its Content-Encoding', tells: null },
  chunks_too_small: { status: 400, title: 'The body comes in too many small chunks', tells: null },
  invalid_request: { status: 400, title: 'The request cannot be read', tells: null },
  all_events_invalid: { status: 400, title: 'No event of the request is valid', tells: 'which' },
  strict_rejected: { status: 400, title: 'An event is invalid and handling is strict', tells: 'which' },
  too_many_fields: { status: 413, title: 'The form or query has too many fields', tells: null },
  too_many_events: { status: 413, title: 'The request carries too many events', tells: null },
  key_missing: { status: 401, title: 'A key is needed', tells: null },
  key_unknown: { status: 401, title: 'The key is not known', tells: null },
  key_not_allowed: { status: 403, title: 'The key does not allow this', tells: null },
  origin_not_allowed: { status: 403, title: 'The origin is not allowed', tells: null },
  invalid_idempotency_key: { status: 400, title: 'The Idempotency-Key cannot be read', tells: null },
  idempotency_key_missing: {
    status: 400,
    title: 'Nothing tells the request from its repetition',
    tells: null,
  },
  unknown_stream: { status: 404, title: 'There is no such stream', tells: null },
  stream_retired: { status: 410, title: 'The stream is no longer in use', tells: null },
  not_found: { status: 404, title: 'There is no such resource', tells: null },
  method_not_allowed: { status: 405, title: 'The method is not allowed here', tells: null },
  body_timeout: { status: 408, title: 'The body took too long', tells: null },
  request_in_progress: { status: 409, title: 'The same request has no answer yet', tells: 'when' },
  idempotency_key_reused: {
    status: 422,
    title: 'The Idempotency-Key was sent with another body',
    tells: null,
  },
  body_too_large: { status: 413, title: 'The body is too large', tells: null },
  unsupported_media_type: { status: 415, title: 'The media type is not supported', tells: null },
  unsupported_encoding: { status: 415, title: 'The content encoding is not supported', tells: null },
  rate_limited: { status: 429, title: 'Too many requests', tells: 'when' },
  headers_too_large: { status: 431, title: 'The request header fields are too large', tells: null },
  too_many_bodies: { status: 503, title: 'The gateway reads as many bodies as it may', tells: 'when' },
  buffer_full: { status: 503, title: 'The buffer of the stream is full', tells: 'when' },
  stream_unavailable: { status: 503, title: 'Kafka does not take records of this stream', tells: 'when' },
  spool_unavailable: { status: 503, title: 'The disk does not take events of this stream', tells: 'when' },
  spool_undecided: { status: 504, title: 'It is not known whether the events are on disk', tells: null },
  dedupe_unavailable: { status: 503, title: 'Nobody knows now what was sent before', tells: 'when' },
  shutting_down: { status: 503, title: 'The gateway is shutting down', tells: 'when' },
  delivery_failed: { status: 503, title: 'The records were accepted and then lost', tells: null },
  internal: { status: 500, title: 'The gateway failed', tells: null },
  // Of one event: the other events of the request are accepted.
  invalid_json: { status: 400, title: 'The event is not valid JSON', tells: null },
  invalid_event: { status: 400, title: 'The event does not fit the schema of the stream', tells: null },
  event_too_large: { status: 413, title: 'The event is larger than the topic takes', tells: null },
  source_missing: { status: 400, title: 'The topic is compacted and the event has no source', tells: null },
  record_key_missing: { status: 400, title: 'The event has no key, and the stream needs one', tells: null },
  source_not_allowed: { status: 403, title: 'The key does not allow this source', tells: null },
  id_conflict: { status: 422, title: 'The id of the event stands for other content', tells: 'which' },
  too_deep: { status: 400, title: 'The event is nested too deeply', tells: null },
  too_complex: { status: 413, title: 'The event has too many members', tells: null },
} as const satisfies Record<string, ErrorTraits>

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
    // It says what a client did, so nobody reads its stack. To find out the stack takes half of the time of a refusal.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    Error.stackTraceLimit = stackTraceLimit
    this.code = code
    this.extensions = options.extensions ?? {}
    this.retryAfterSeconds = options.retryAfterSeconds ?? null
  }

  /** HTTP status of the reply. */
  get status(): number {
    return errorTable[this.code].status
  }
}
