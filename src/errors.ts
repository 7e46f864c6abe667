/** What is true of a problem. */
interface ErrorTraits {
  /** HTTP status of the reply. */
  readonly status: number
  readonly title: string
  /** What to do about it, for whoever wrote the client, and for the operator. The live page and `chute tail` show it beside the detail. */
  readonly wayOut: string
  /**
   * What the reply tells beside the reason. `when`: the request may come again, at the time of `Retry-After`. `which`: which events are
   * invalid, all of them; after any other problem the client may send the same events again, and learn it then. null: neither.
   */
  readonly tells: 'when' | 'which' | null
}

/**
 * The closed table of what can go wrong for a client: a stable code, its HTTP status, its title and the way out. The same code is the
 * problem's `code`, the metric's label and the log's field. Branch on codes, never on messages.
 *
 * A new code also needs its groups in `dev/openapi-operations.ts`, which does not compile without them. `openapi.yaml` is
 * generated from both files. CONTRIBUTING.md ("A problem code") has the tests and pages.
 */
export const errorTable = {
  // Of a request: nothing of it was accepted, but for `delivery_failed` and `spool_undecided`.
  malformed_json: {
    status: 400,
    title: 'The body is not valid JSON',
    tells: null,
    wayOut: 'Send what JSON.stringify makes. For one event a line, send NDJSON: application/x-ndjson.',
  },
  invalid_utf8: {
    status: 400,
    title: 'The body is not valid UTF-8',
    tells: null,
    wayOut:
      'Send UTF-8. A query or a form has its bytes percent-encoded: encodeURIComponent, URLSearchParams.',
  },
  empty_body: {
    status: 400,
    title: 'The body is empty',
    tells: null,
    wayOut: "Send an event as the body. With fetch: method 'POST' and body: JSON.stringify(event).",
  },
  invalid_encoding: {
    status: 400,
    title: 'The body does not match its Content-Encoding',
    tells: null,
    wayOut: 'Compress the body as Content-Encoding says, or leave the header out.',
  },
  chunks_too_small: {
    status: 400,
    title: 'The body comes in too many small chunks',
    tells: null,
    wayOut: 'Send the body in larger pieces: collect it before you write it.',
  },
  invalid_request: {
    status: 400,
    title: 'The request cannot be read',
    tells: null,
    wayOut:
      'Look at the detail: the request is not well-formed HTTP. A proxy in between may have changed it.',
  },
  all_events_invalid: {
    status: 400,
    title: 'No event of the request is valid',
    tells: 'which',
    wayOut: 'Mend each event as its own detail says.',
  },
  strict_rejected: {
    status: 400,
    title: 'An event is invalid and handling is strict',
    tells: 'which',
    wayOut:
      'Mend the events that are named, or leave out Prefer: handling=strict: then the good ones are taken.',
  },
  too_many_fields: {
    status: 413,
    title: 'The form or query has too many fields',
    tells: null,
    wayOut: 'Send the event as JSON.',
  },
  too_many_events: {
    status: 413,
    title: 'The request carries too many events',
    tells: null,
    wayOut: 'Send smaller batches, or raise MAX_EVENTS_PER_REQUEST.',
  },
  key_missing: {
    status: 401,
    title: 'A key is needed',
    tells: null,
    wayOut:
      'Send a key: data-key in the script tag, ?key=KEY for beacons and images, or Authorization: Bearer KEY.',
  },
  key_unknown: {
    status: 401,
    title: 'The key is not known',
    tells: null,
    wayOut:
      'Compare the key with chute keys check KEY. It may be cut, ended (notAfter), or of another gateway.',
  },
  key_not_allowed: {
    status: 403,
    title: 'The key does not allow this',
    tells: null,
    wayOut: 'Use a key of this stream and this page, or add them to streams and origins of the key.',
  },
  origin_not_allowed: {
    status: 403,
    title: 'The origin is not allowed',
    tells: null,
    wayOut:
      "Add the page's origin to CORS_ORIGINS, or to origins of the key: scheme, host and port, without a path.",
  },
  invalid_idempotency_key: {
    status: 400,
    title: 'The Idempotency-Key cannot be read',
    tells: null,
    wayOut: 'Send one key of 1 to 255 visible characters, such as a UUID.',
  },
  idempotency_key_missing: {
    status: 400,
    title: 'Nothing tells the request from its repetition',
    tells: null,
    wayOut: 'Send an Idempotency-Key with each request, or an id in each event.',
  },
  unknown_stream: {
    status: 404,
    title: 'There is no such stream',
    tells: null,
    wayOut:
      'Correct the name of the stream in the path (data-stream in the script tag), or add the stream to the file of CHUTE_CONFIG.',
  },
  stream_retired: {
    status: 410,
    title: 'The stream is no longer in use',
    tells: null,
    wayOut: 'Take the address out of the headers or the code that send here, or send to another stream.',
  },
  not_found: {
    status: 404,
    title: 'There is no such resource',
    tells: null,
    wayOut:
      'Correct the path: /v1/streams/NAME, /v1/beacon/NAME or /v1/beacon/NAME.gif. With ADMIN_PORT the other pages are on that port.',
  },
  method_not_allowed: {
    status: 405,
    title: 'The method is not allowed here',
    tells: null,
    wayOut: 'Use POST for events, and GET for pixels. The header Allow names the methods.',
  },
  body_timeout: {
    status: 408,
    title: 'The body took too long',
    tells: null,
    wayOut:
      'Send the body faster or in smaller requests. BODY_TIMEOUT_MS and BODY_MIN_BYTES_PER_SECOND set the bounds.',
  },
  request_in_progress: {
    status: 409,
    title: 'The same request has no answer yet',
    tells: 'when',
    wayOut: 'Send the request again after Retry-After. One key stands for one request.',
  },
  idempotency_key_reused: {
    status: 422,
    title: 'The Idempotency-Key was sent with another body',
    tells: null,
    wayOut: 'Give each request a key of its own. Only a repetition of the same body has the same key.',
  },
  body_too_large: {
    status: 413,
    title: 'The body is too large',
    tells: null,
    wayOut: 'Send smaller batches, or raise MAX_BODY_BYTES.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'The media type is not supported',
    tells: null,
    wayOut:
      'Send application/json, application/x-ndjson or text/plain. Let new URLSearchParams(form) stand for a multipart form.',
  },
  unsupported_encoding: {
    status: 415,
    title: 'The content encoding is not supported',
    tells: null,
    wayOut:
      'Compress with gzip, deflate or br, or not at all. The header Accept-Encoding of the reply names them.',
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    tells: 'when',
    wayOut:
      'Wait for Retry-After, and send larger batches. The limits are RATE_LIMIT_… and the limits of the key.',
  },
  headers_too_large: {
    status: 431,
    title: 'The request header fields are too large',
    tells: null,
    wayOut:
      'Send fewer or shorter header fields, or a shorter address. Often a large cookie is at fault: send without credentials.',
  },
  too_many_bodies: {
    status: 503,
    title: 'The gateway reads as many bodies as it may',
    tells: 'when',
    wayOut: 'Send the request again after Retry-After. MAX_BODIES is the bound.',
  },
  buffer_full: {
    status: 503,
    title: 'The buffer of the stream is full',
    tells: 'when',
    wayOut: 'Send the request again after Retry-After. Kafka is away or slow: /readyz says more.',
  },
  stream_unavailable: {
    status: 503,
    title: 'Kafka does not take records of this stream',
    tells: 'when',
    wayOut:
      'Send the request again after Retry-After. The operator has to look at /readyz: the topic, its rights, the brokers.',
  },
  spool_unavailable: {
    status: 503,
    title: 'The disk does not take events of this stream',
    tells: 'when',
    wayOut:
      'Send the request again after Retry-After. The operator has to look at the disk of CHUTE_DATA_DIR.',
  },
  spool_undecided: {
    status: 504,
    title: 'It is not known whether the events are on disk',
    tells: null,
    wayOut:
      'Send the request again with the same Idempotency-Key. The operator has to look at the disk of CHUTE_DATA_DIR.',
  },
  dedupe_unavailable: {
    status: 503,
    title: 'Nobody knows now what was sent before',
    tells: 'when',
    wayOut:
      'Send the request again after Retry-After. The operator has to look at the Redis of CHUTE_DEDUPE_REDIS_URL.',
  },
  shutting_down: {
    status: 503,
    title: 'The gateway is shutting down',
    tells: 'when',
    wayOut: 'Send the request again, to another gateway if there is one.',
  },
  delivery_failed: {
    status: 503,
    title: 'The records were accepted, and not all were delivered',
    tells: null,
    wayOut:
      'Read mayDuplicate in the reply: it says whether sending the events again can make duplicates. Dead letters are kept: leave them to the operator.',
  },
  internal: {
    status: 500,
    title: 'The gateway failed',
    tells: null,
    wayOut: "Nothing is wrong with the request. The operator has to look at the gateway's log.",
  },
  // Of one event: the other events of the request are accepted.
  invalid_json: {
    status: 400,
    title: 'The event is not valid JSON',
    tells: null,
    wayOut: 'Send what JSON.stringify makes, one event a line.',
  },
  invalid_event: {
    status: 400,
    title: 'The event does not fit the schema of the stream',
    tells: null,
    wayOut:
      'Mend the member that the detail names. An event without a number belongs into a stream with schema: page.',
  },
  event_too_large: {
    status: 413,
    title: 'The event is too large',
    tells: null,
    wayOut:
      "Send less in one event. The detail names the bound: MAX_EVENT_BYTES, or the topic's max.message.bytes and the stream's max.request.size.",
  },
  source_missing: {
    status: 400,
    title: 'The topic is compacted and the event has no source',
    tells: null,
    wayOut: 'Give the event a source, a text. It becomes the key of the record.',
  },
  record_key_missing: {
    status: 400,
    title: 'The event has no key, and the stream needs one',
    tells: null,
    wayOut: "Give the event what the stream's key is taken from, or set keyMissing: accept.",
  },
  source_not_allowed: {
    status: 403,
    title: 'The key does not allow this source',
    tells: null,
    wayOut: 'Use a source that the key of the request may claim, or add it to sources of the key.',
  },
  id_conflict: {
    status: 422,
    title: 'The id of the event stands for other content',
    tells: 'which',
    wayOut: 'Give each event an id of its own. Only a repetition of the same event has the same id.',
  },
  too_deep: {
    status: 400,
    title: 'The event is nested too deeply',
    tells: null,
    wayOut: 'Send fewer levels of objects and arrays, or raise MAX_DEPTH.',
  },
  too_complex: {
    status: 413,
    title: 'The event has too many members',
    tells: null,
    wayOut: 'Send smaller events, with fewer members, objects and arrays.',
  },
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

/** What a client sent, cut and escaped, for the detail of an error. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
