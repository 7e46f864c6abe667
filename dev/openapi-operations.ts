import type { ErrorCode } from '../src/errors.ts'

/** A route as the contract has it. A test compares the list with the routes that are registered. */
export interface Operation {
  readonly method: 'GET' | 'POST'
  /** With parameters as OpenAPI writes them: `{stream}`. */
  readonly path: string
  readonly id: string
  readonly tag: 'events' | 'client' | 'operation'
  readonly summary: string
  readonly description: string
  readonly parameters?: readonly object[]
  readonly requestBody?: 'events' | 'beacon'
  /** Replies of success, and what is special about an error, by status. */
  readonly replies: Readonly<Record<number, object>>
  readonly errors: readonly ErrorCode[]
}

/** What a code is about. Routes list whole groups, and the codes of `special` one by one. */
type CodeGroup =
  | 'bytes'
  | 'body'
  | 'stream'
  | 'admin'
  | 'size'
  | 'media'
  | 'event'
  | 'duplicates'
  | 'key'
  | 'load'
  | 'special'
  | 'unlisted'

/**
 * Every code of errors.ts and its groups, in the order of the contract. A new code does not compile until it stands here; one
 * of `special` then has to be added to the operations that answer it.
 */
const codeGroups = {
  // Of the bytes of a request, before any route is looked for.
  invalid_request: ['bytes'],
  body_timeout: ['bytes'],
  headers_too_large: ['bytes'],
  malformed_json: ['body'],
  invalid_utf8: ['body'],
  empty_body: ['body'],
  invalid_encoding: ['body'],
  chunks_too_small: ['body'],
  all_events_invalid: ['body'],
  key_missing: ['stream', 'admin'],
  key_unknown: ['stream', 'admin'],
  key_not_allowed: ['stream', 'admin'],
  origin_not_allowed: ['stream'],
  unknown_stream: ['stream'],
  stream_retired: ['stream'],
  // A name of more than 255 characters is no parameter of the path.
  not_found: ['stream'],
  body_too_large: ['size'],
  too_many_events: ['size'],
  unsupported_media_type: ['media'],
  unsupported_encoding: ['media'],
  invalid_idempotency_key: ['key'],
  idempotency_key_reused: ['key'],
  // Of one event: a reply lists them in `errors`.
  invalid_json: ['event'],
  invalid_event: ['event'],
  event_too_large: ['event'],
  source_missing: ['event'],
  record_key_missing: ['event'],
  source_not_allowed: ['event'],
  too_deep: ['event'],
  too_complex: ['event'],
  id_conflict: ['event', 'duplicates'],
  idempotency_key_missing: ['duplicates'],
  request_in_progress: ['duplicates'],
  dedupe_unavailable: ['duplicates'],
  rate_limited: ['load'],
  too_many_bodies: ['load'],
  buffer_full: ['load'],
  stream_unavailable: ['load'],
  spool_unavailable: ['load'],
  spool_undecided: ['load'],
  shutting_down: ['load'],
  strict_rejected: ['special'],
  too_many_fields: ['special'],
  delivery_failed: ['special'],
  // Of no route of the contract: another method, and a fault of the gateway.
  method_not_allowed: ['unlisted'],
  internal: ['unlisted'],
} as const satisfies Record<ErrorCode, readonly CodeGroup[]>

/** The codes of a group, in the order of the table. */
export function codesOf(group: CodeGroup): ErrorCode[] {
  const groups: Readonly<Record<ErrorCode, readonly CodeGroup[]>> = codeGroups
  return (Object.keys(groups) as ErrorCode[]).filter((code) => groups[code].includes(group))
}

const ofBytes = codesOf('bytes')
const ofBody = codesOf('body')
const ofStream = codesOf('stream')
const ofAdmin = codesOf('admin')
const ofSize = codesOf('size')
const ofMedia = codesOf('media')
const ofKey = codesOf('key')
const ofDuplicates = codesOf('duplicates')
const ofLoad = codesOf('load')

const rateLimitHeaders = headers('RateLimit', 'RateLimit-Policy')
const stream = { $ref: '#/components/parameters/stream' }
const prefer = { $ref: '#/components/parameters/prefer' }
const idempotencyKey = { $ref: '#/components/parameters/idempotencyKey' }
const encoding = { $ref: '#/components/parameters/encoding' }
const acceptedHeaders = {
  ...headers('Chute-Delivery', 'Idempotency-Replayed'),
  ...rateLimitHeaders,
}

/** Everything that a client can call, but for HEAD and the preflights of CORS. */
export const operations: readonly Operation[] = [
  {
    method: 'POST',
    path: '/v1/streams/{stream}',
    id: 'sendEvents',
    tag: 'events',
    summary: 'Send one event, an array, or NDJSON',
    description:
      'Valid events of a mixed request are accepted, and the reply lists the others. A record is the JSON of its event, ' +
      'byte for byte as sent. Media types that end in `+json` are JSON. JSON under `application/x-www-form-urlencoded`, as ' +
      '`curl -d` sends it, is read as the JSON that it is.',
    parameters: [stream, prefer, idempotencyKey, encoding],
    requestBody: 'events',
    replies: {
      200: {
        description: 'With `Prefer: wait`: every accepted event was delivered, now or before',
        headers: { ...headers('Chute-Delivery', 'Preference-Applied'), ...rateLimitHeaders },
        content: json('Settled'),
      },
      202: {
        description: 'Accepted. With `Prefer: wait`: the time ran out before the outcome was known',
        headers: { ...acceptedHeaders, ...headers('Preference-Applied') },
        content: json('Accepted'),
      },
    },
    errors: [
      ...ofBytes,
      ...ofBody,
      'strict_rejected',
      ...ofKey,
      ...ofDuplicates,
      ...ofStream,
      ...ofSize,
      ...ofMedia,
      ...ofLoad,
      'delivery_failed',
    ],
  },
  {
    method: 'POST',
    path: '/v1/beacon/{stream}',
    id: 'sendBeacon',
    tag: 'events',
    summary: 'Send events by navigator.sendBeacon or fetch with keepalive',
    description:
      'Success has no body. Unless the stream is set otherwise, a full buffer drops events and counts them.',
    parameters: [stream, idempotencyKey, encoding],
    requestBody: 'beacon',
    replies: { 202: { description: 'Accepted', headers: { ...acceptedHeaders, ...headers('Chute-Error') } } },
    errors: [
      ...ofBytes,
      ...ofBody,
      ...ofKey,
      ...ofDuplicates,
      ...ofStream,
      ...ofSize,
      'too_many_fields',
      ...ofMedia,
      ...ofLoad,
    ],
  },
  {
    method: 'GET',
    path: '/v1/beacon/{stream}.gif',
    id: 'sendPixel',
    tag: 'events',
    summary: 'Send one event in the query, answered by an image',
    description:
      'For pages and mails that can do nothing else. `labels.x` becomes the label x; other fields pass through as text.',
    parameters: [
      stream,
      idempotencyKey,
      query('name', 'What was measured or what happened'),
      query('value', 'The measurement'),
      query('timestamp', 'When it was measured'),
      query('unit', 'Unit of the value'),
      query('source', "The record's key"),
      query('id', 'Together with the source: to tell duplicates by'),
    ],
    replies: {
      200: {
        description: 'Accepted: a transparent GIF of 1×1, never cached',
        headers: acceptedHeaders,
        content: { 'image/gif': {} },
      },
    },
    errors: [
      ...ofBytes,
      'all_events_invalid',
      'invalid_utf8',
      'too_many_fields',
      ...ofKey,
      ...ofDuplicates,
      ...ofStream,
      'body_too_large',
      ...ofLoad.filter((code) => code !== 'too_many_bodies'),
    ],
  },
  {
    method: 'GET',
    path: '/livez',
    id: 'live',
    tag: 'operation',
    summary: 'Whether the process answers',
    description: 'For a liveness probe. Kafka plays no part in it.',
    replies: {
      200: { description: 'It does', content: { 'application/json': { schema: { type: 'object' } } } },
      503: {
        description: 'A worker has been silent for half a minute (only with WORKERS above 1)',
        content: { 'application/json': { schema: { type: 'object' } } },
      },
    },
    errors: ofBytes,
  },
  {
    method: 'GET',
    path: '/readyz',
    id: 'ready',
    tag: 'operation',
    summary: 'Whether the gateway wants requests',
    description: 'For a readiness probe and load balancers.',
    replies: {
      200: { description: 'Ready', content: json('Readiness') },
      503: { description: 'Not ready; the checks say why', content: json('Readiness') },
    },
    errors: ofBytes,
  },
  {
    method: 'GET',
    path: '/metrics',
    id: 'metrics',
    tag: 'operation',
    summary: 'Metrics for Prometheus',
    description: 'Prometheus text 0.0.4, or OpenMetrics 1.0.0 where it is asked for.',
    replies: {
      200: {
        description: 'All metrics, of one instant',
        content: {
          'text/plain': { schema: { type: 'string' } },
          'application/openmetrics-text': { schema: { type: 'string' } },
        },
      },
    },
    errors: [...ofBytes, ...ofAdmin, 'rate_limited'],
  },
  script(
    '/chute.js',
    'client',
    'The browser client',
    'Browsers ask again after five minutes. `Content-Location` has its name by hash.',
  ),
  script(
    '/chute.{hash}.js',
    'clientByHash',
    'The browser client, by its hash',
    'Browsers keep it for a year. Another hash than that of this version is 404.',
  ),
  page('/', 'livePage', 'A live page: rates, buffers, outcomes, loss', 'text/html'),
  page('/live.json', 'liveState', 'What the live page shows', 'application/json'),
  {
    method: 'GET',
    path: '/live/events',
    id: 'liveEvents',
    tag: 'operation',
    summary: 'The last events that were taken and refused, and each that comes',
    description:
      'Server-sent events, without an end. `hello` has the names of the streams. Each other message is an array: time, fate, stream, ' +
      'transport, origin, name of the key, code, detail, way out, and the first 200 bytes of each event. Refused events are kept; ' +
      'taken ones are shown while somebody reads. 404 where LIVE_EVENTS is false.',
    replies: {
      200: { description: 'OK', content: { 'text/event-stream': { schema: { type: 'string' } } } },
    },
    errors: [...ofBytes, ...ofAdmin, 'origin_not_allowed', 'not_found', 'rate_limited', 'shutting_down'],
  },
  page('/docs', 'docs', 'A page to read this contract and to try it', 'text/html'),
  page('/openapi.json', 'openapiJson', 'This document as JSON', 'application/json'),
  page('/openapi.yaml', 'openapiYaml', 'This document', 'application/yaml'),
]

/** Refers to headers of replies by their names. */
export function headers(...names: string[]): Record<string, object> {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]))
}

function json(schema: string): object {
  return { 'application/json': { schema: { $ref: `#/components/schemas/${schema}` } } }
}

function query(name: string, description: string): object {
  return {
    name,
    in: 'query',
    required: name === 'name' || name === 'value',
    description,
    schema: fieldOfEvent(name),
  }
}

/** The schema of a field of the built-in event: fields of queries and forms have the same limits as those of JSON. */
export function fieldOfEvent(name: string): object {
  return { $ref: `#/components/schemas/TelemetryEvent/properties/${name}` }
}

function script(path: string, id: string, summary: string, description: string): Operation {
  const hash = { name: 'hash', in: 'path', required: true, schema: { type: 'string' } }
  return {
    method: 'GET',
    path,
    id,
    tag: 'client',
    summary,
    description,
    ...(path.includes('{hash}') && { parameters: [hash] }),
    replies: {
      200: { description: 'OK', content: { 'text/javascript': { schema: { type: 'string' } } } },
      304: { description: 'The client has it: `If-None-Match` is its ETag' },
    },
    errors: path.includes('{hash}') ? [...ofBytes, 'not_found'] : ofBytes,
  }
}

function page(path: string, id: string, summary: string, type: string): Operation {
  const schema = { type: /json|yaml/.test(type) ? 'object' : 'string' }
  return {
    method: 'GET',
    path,
    id,
    tag: 'operation',
    summary,
    description: summary,
    replies: { 200: { description: 'OK', content: { [type]: { schema } } } },
    errors: [...ofBytes, ...ofAdmin, 'rate_limited'],
  }
}
