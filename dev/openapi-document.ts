import { z } from 'zod'
import type { StreamPromise } from '../src/config/config.ts'
import { contentEncodings } from '../src/events/body-reader.ts'
import { errorTable, type ErrorCode } from '../src/errors.ts'
import { bodyKindOf, supportedMediaTypes } from '../src/events/content-type.ts'
import { maxListedErrors } from '../src/events/rejected-events.ts'
import { pageSchema } from '../src/events/page-schema.ts'
import { reportSchema } from '../src/events/report-schema.ts'
import { telemetrySchema } from '../src/events/telemetry-schema.ts'
import { dropReasons, outcomes } from '../src/kafka/producer/outcome.ts'
import { pendingReasons } from '../src/routes/ingest/ingest.ts'
import { maxWaitSeconds } from '../src/routes/ingest/prefer.ts'
import { maxFields } from '../src/routes/ingest/query-event.ts'
import { keyParameter } from '../src/routes/http/access-key.ts'
import { maxHeaderLength } from '../src/routes/http/refusals.ts'
import { codesOf, fieldOfEvent, headers, operations, type Operation } from './openapi-operations.ts'

/**
 * Builds the OpenAPI 3.1 document: events from the zod schema, problems from the error table, routes from
 * `openapi-operations.ts`. Nothing that the code knows is written down a second time here.
 */
export function buildOpenapiDocument(version: string): object {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Chute',
      version,
      summary: 'Events in by HTTP, out to Kafka',
      description:
        'Each stream has a delivery: at-most-once (never twice), at-least-once or exactly-once. ' +
        'A reply from 401 to 503 means that nothing of the request was accepted, so that it can be sent again, with two exceptions: ' +
        'delivery_failed says itself whether that may duplicate events, and of a 500 (internal, a fault of the gateway) nobody knows. ' +
        '504 (spool_undecided) means that the disk failed and it is not known whether the events will be sent.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'This gateway' }],
    // Where there are keys. A gateway without keys takes none.
    security: [{}, ...Object.keys(securitySchemes).map((name) => ({ [name]: [] }))],
    tags: [
      { name: 'events', description: 'Sending events' },
      { name: 'client', description: 'The browser client' },
      { name: 'operation', description: 'Health, metrics and documentation' },
    ],
    paths: pathsOf(operations),
    // Codes of single events too, which no reply has as its own.
    'x-problems': problems(),
    // Which schema the events of a stream have depends on its `schema`. OpenAPI cannot say that of a path parameter.
    'x-event-schemas': {
      telemetry: event,
      page: { $ref: '#/components/schemas/PageEvent' },
      reports: { $ref: '#/components/schemas/Report' },
    },
    components: {
      parameters: {
        stream: streamParameter,
        prefer: preferParameter,
        idempotencyKey: idempotencyKeyParameter,
        encoding: encodingParameter,
      },
      securitySchemes,
      headers: headerComponents,
      responses: problemResponses(operations),
      schemas: {
        TelemetryEvent: telemetryJsonSchema(),
        PageEvent: pageJsonSchema(),
        Report: reportJsonSchema(),
        Accepted: acceptedSchema,
        Settled: settledSchema,
        EventError: eventErrorSchema,
        EventOutcome: eventOutcomeSchema,
        Problem: problemSchema,
        Readiness: readinessSchema,
      },
    },
  }
}

function pathsOf(all: readonly Operation[]): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const operation of all) {
    const { path, method, id, tag, summary, description, parameters, requestBody, replies, errors } =
      operation
    paths[path] ??= {}
    paths[path][method.toLowerCase()] = {
      operationId: id,
      tags: [tag],
      summary,
      description,
      ...(parameters === undefined ? {} : { parameters }),
      ...(requestBody === undefined ? {} : { requestBody: requestBodies[requestBody] }),
      responses: { ...replies, ...errorReplies(errors) },
    }
  }
  return paths
}

/** One reply a status: codes with the same status share it. */
function errorReplies(codes: readonly ErrorCode[]): object {
  return Object.fromEntries(
    codes.map((code) => [
      errorTable[code].status,
      { $ref: `#/components/responses/${responseName(codes, code)}` },
    ]),
  )
}

/** Routes differ in which codes a status can have, and a response is named by them. */
function responseName(codes: readonly ErrorCode[], code: ErrorCode): string {
  const { status } = errorTable[code]
  return codes.filter((other) => errorTable[other].status === status).join('.')
}

function problemResponses(all: readonly Operation[]): object {
  const responses: Record<string, object> = {}
  for (const { errors } of all) {
    for (const code of errors) {
      const name = responseName(errors, code)
      responses[name] ??= problemResponse(name.split('.') as ErrorCode[])
    }
  }
  return responses
}

/** What clients may know of each code. */
function problems(): object {
  return Object.fromEntries(
    Object.entries(errorTable).map(([code, { status, title, wayOut }]) => [code, { status, title, wayOut }]),
  )
}

function problemResponse(codes: readonly ErrorCode[]): object {
  return {
    description: codes.map((code) => `\`${code}\`: ${errorTable[code].title}`).join('. '),
    headers: {
      ...headers('Chute-Error'),
      ...(codes.some((code) => errorTable[code].tells === 'when') ? headers('Retry-After') : {}),
      ...(codes.includes('rate_limited') ? headers('RateLimit', 'RateLimit-Policy') : {}),
      ...(codes.includes('key_missing') ? headers('WWW-Authenticate') : {}),
      ...(codes.includes('unsupported_encoding') ? headers('Accept-Encoding') : {}),
    },
    content: {
      'application/problem+json': {
        schema: {
          allOf: [{ $ref: '#/components/schemas/Problem' }, { properties: { code: { enum: codes } } }],
        },
      },
    },
  }
}

function telemetryJsonSchema(): object {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(telemetrySchema, {
    target: 'draft-2020-12',
    io: 'input',
  })
  return {
    ...schema,
    example: {
      name: 'room.temp',
      value: 21.5,
      unit: 'celsius',
      labels: { room: 'kitchen' },
      source: 'device-42',
    },
  }
}

function pageJsonSchema(): object {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(pageSchema, {
    target: 'draft-2020-12',
    io: 'input',
  })
  return {
    ...schema,
    example: { name: 'checkout', url: 'https://shop.example/cart', properties: { plan: 'pro' } },
  }
}

function reportJsonSchema(): object {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(reportSchema, {
    target: 'draft-2020-12',
    io: 'input',
  })
  return {
    ...schema,
    example: {
      type: 'csp-violation',
      age: 12,
      url: 'https://shop.example/cart',
      user_agent: 'Mozilla/5.0',
      body: { blockedURL: 'https://other.example/a.js', effectiveDirective: 'script-src-elem' },
    },
  }
}

const event = { $ref: '#/components/schemas/TelemetryEvent' }
const oneOrMany = { oneOf: [event, { type: 'array', minItems: 1, items: event }] }
/** What `eventFromFields` makes an event of. */
const form = {
  type: 'object',
  description:
    'The fields of one event. The field `labels.x` becomes the label x; `labels` itself cannot be a field. Other fields pass ' +
    'through as text.',
  required: ['name', 'value'],
  maxProperties: maxFields,
  properties: {
    ...Object.fromEntries(
      ['name', 'value', 'timestamp', 'unit', 'source', 'id'].map((name) => [name, fieldOfEvent(name)]),
    ),
    labels: false,
  },
  additionalProperties: { type: 'string' },
  example: { name: 'page.view', value: 1, 'labels.page': '/start' },
}
/** As OpenAPI 3.2 has it for sequential media types: the schema is that of all lines, as an array. */
const lines = {
  type: 'array',
  description: 'NDJSON: an event a line. The schema is that of all lines',
  minItems: 1,
  items: event,
  example: [
    { name: 'a', value: 1 },
    { name: 'b', value: 2 },
  ],
}

const requestBodies = {
  events: {
    required: true,
    description:
      'Events of the stream. A stream with `schema: page` takes events of the schema PageEvent instead, one with ' +
      '`schema: reports` takes a Report, and a stream with a schema of its own takes events of that schema.',
    // A form is no schema's: JSON is read under the type of forms, and fields are not.
    content: Object.fromEntries(
      supportedMediaTypes
        .filter((type) => bodyKindOf(type) !== 'form')
        .map((type) => [type, { schema: bodyKindOf(type) === 'ndjson' ? lines : oneOrMany }]),
    ),
  },
  beacon: {
    required: true,
    description: 'JSON or NDJSON under whatever type, or the fields of one event as a form.',
    content: {
      'text/plain': { schema: oneOrMany },
      'application/json': { schema: oneOrMany },
      'application/x-ndjson': { schema: lines },
      'application/x-www-form-urlencoded': { schema: form },
    },
  },
}

const streamParameter = {
  name: 'stream',
  in: 'path',
  required: true,
  description: 'Name of the stream',
  schema: {
    type: 'string',
    pattern: '^[\\w.~-]{1,249}$',
    examples: ['metrics-realtime', 'metrics-critical'],
  },
}

const preferParameter = {
  name: 'Prefer',
  in: 'header',
  required: false,
  description:
    '`handling=strict`: all events or none. `return=minimal`: success is answered without a body, in 73 bytes where neither limits, CORS nor a repetition add a header. ' +
    `\`wait=N\`: answer when the outcomes are known, after N seconds (at most ${maxWaitSeconds}) at the latest. RFC 7240.`,
  schema: { type: 'string', examples: ['handling=strict', 'return=minimal', 'wait=5'] },
}

const idempotencyKeyParameter = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description:
    'A key that the client makes up for this request, and sends again with it when it does not know whether it arrived ' +
    '(draft-ietf-httpapi-idempotency-key-header). On a stream with `dedupe: on` the request is accepted once: sent again ' +
    'within the window, it is answered as the first was, and nothing is written again. Such a stream takes 1 to 255 visible ' +
    'ASCII characters, in quotes or without, and refuses any other key (`invalid_idempotency_key`). Other streams do not read ' +
    'the header, and their Chute-Delivery says `no-dedupe`.',
  schema: { type: 'string', examples: ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'] },
}

const encodingParameter = {
  name: 'Content-Encoding',
  in: 'header',
  required: false,
  description: 'How the body is compressed, in any case; one coding only. Empty: not at all.',
  schema: { type: 'string', enum: [...contentEncodings] },
}

/** The words of `Chute-Delivery`, each with what can stand behind it. */
const deliveryParameters: Readonly<Record<StreamPromise, readonly string[]>> = {
  'at-most-once': ['', '; no-dedupe'],
  'at-least-once': ['', '; no-dedupe', '; durable', '; durable; no-dedupe'],
  'exactly-once': ['', '; durable'],
}

/** The forms in which a key can be sent; `presentedKey` of policy/keys.ts reads them. */
const securitySchemes = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description: 'The key as a bearer token (RFC 6750). `Token` in place of `Bearer` is read too',
  },
  basic: { type: 'http', scheme: 'basic', description: 'The key as the user, without a password (RFC 7617)' },
  keyHeader: {
    type: 'apiKey',
    in: 'header',
    name: 'X-Chute-Key',
    description: 'The key. It goes before the other forms',
  },
  keyQuery: {
    type: 'apiKey',
    in: 'query',
    name: keyParameter,
    description: 'The key, where no header can be set: beacons and images. It is no part of an event',
  },
}

const headerComponents = {
  'WWW-Authenticate': {
    description:
      'The schemes in which a key can be sent (RFC 9110, section 11.6.1); `error="invalid_token"` where one was sent that is not known',
    schema: { type: 'string', examples: ['Bearer realm="chute"'] },
  },
  'Chute-Delivery': {
    description:
      'What the stream promises. `durable`: the events of a 202 are on a disk that stays, and survive a crash of the gateway. ' +
      '`no-dedupe`: an Idempotency-Key and ids have no effect, and a request that is sent again makes second records.',
    schema: {
      type: 'string',
      enum: Object.entries(deliveryParameters).flatMap(([word, all]) => all.map((each) => word + each)),
    },
  },
  'Idempotency-Replayed': {
    description: '`true`: the whole request was accepted before, under the same Idempotency-Key',
    schema: { type: 'string', enum: ['true'] },
  },
  'Preference-Applied': {
    description: 'The preferences that were followed (RFC 7240); not sent with `return=minimal`',
    schema: { type: 'string' },
  },
  'Chute-Error': {
    description:
      'Of beacons and pixels: why the request was refused, whole or in part. A code, a semicolon, and the reason: visible ' +
      'ASCII, other characters are escaped as in JSON.',
    schema: {
      type: 'string',
      maxLength: maxHeaderLength,
      examples: ['invalid_event; /value must be a finite number'],
    },
  },
  RateLimit: {
    description:
      'With limits, on every reply to a request that was charged to one: what is left of each policy, and for how many seconds ' +
      '(draft-ietf-httpapi-ratelimit-headers)',
    schema: { type: 'string', examples: ['"default";r=99;t=60'] },
  },
  'RateLimit-Policy': {
    description:
      'With limits: each policy that the request was charged to, its quota, and its window in seconds',
    schema: { type: 'string', examples: ['"default";q=100;w=60'] },
  },
  'Accept-Encoding': {
    description: 'With unsupported_encoding: the codings that are read (RFC 9110, section 12.5.3)',
    schema: { type: 'string' },
  },
  'Retry-After': { description: 'Seconds after which to try again', schema: { type: 'integer', minimum: 1 } },
}

const eventErrorSchema = {
  type: 'object',
  required: ['index', 'code', 'detail', 'pointer'],
  properties: {
    index: { type: 'integer', minimum: 0, description: 'Place of the event in the request' },
    code: {
      type: 'string',
      enum: codesOf('event'),
    },
    detail: { type: 'string' },
    pointer: { type: 'string', description: 'Where in the event (RFC 6901)' },
  },
}

const eventOutcomeSchema = {
  type: 'object',
  required: ['index', 'outcome', 'reason', 'topic', 'partition', 'offset'],
  properties: {
    index: { type: 'integer', minimum: 0 },
    outcome: {
      type: 'string',
      enum: [...outcomes, 'duplicate'],
      description: '`duplicate`: accepted before, and not written again',
    },
    reason: { enum: [...dropReasons, null] },
    topic: { type: 'string' },
    partition: { type: ['integer', 'null'] },
    offset: { type: ['string', 'null'], description: 'Where the broker told it' },
  },
}

const counts = {
  accepted: { type: 'integer', minimum: 0 },
  rejected: { type: 'integer', minimum: 0 },
  errors: {
    type: 'array',
    maxItems: maxListedErrors,
    items: { $ref: '#/components/schemas/EventError' },
    description: 'The first of the rejected events',
  },
  duplicates: {
    type: 'integer',
    minimum: 1,
    description: 'Of the accepted events, those that were accepted before; left out where there is none',
  },
}

const acceptedSchema = {
  type: 'object',
  required: ['accepted', 'rejected', 'errors'],
  properties: {
    ...counts,
    pending: {
      type: 'object',
      description: 'With `Prefer: wait`: why the outcome is not told, and what to expect',
      required: ['reason', 'detail'],
      properties: { reason: { type: 'string', enum: [...pendingReasons] }, detail: { type: 'string' } },
    },
  },
}

const settledSchema = {
  type: 'object',
  required: ['accepted', 'rejected', 'errors', 'events'],
  properties: { ...counts, events: { type: 'array', items: { $ref: '#/components/schemas/EventOutcome' } } },
}

const problemSchema = {
  type: 'object',
  description: 'RFC 9457. Some codes add members, such as `errors`, `streams` or `limitBytes`.',
  required: ['type', 'title', 'status', 'detail', 'code'],
  properties: {
    type: { type: 'string', format: 'uri-reference' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    code: { type: 'string', enum: Object.keys(errorTable) },
  },
}

const readinessSchema = {
  type: 'object',
  required: ['ready', 'checks'],
  properties: {
    ready: { type: 'boolean' },
    checks: {
      type: 'array',
      items: {
        type: 'object',
        required: ['name', 'ok'],
        properties: {
          name: { type: 'string' },
          ok: { type: 'boolean' },
          detail: {
            type: 'string',
            description:
              'What the check saw. Where there are keys and no ADMIN_PORT, an admin key is needed to see it',
          },
        },
      },
    },
  },
}
