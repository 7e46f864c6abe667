import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../../errors.ts'
import type { BodyListener } from '../../events/body-reader.ts'
import { hasByteOrderMark } from '../../events/check-json.ts'
import { bodyKindOf, type BodyKind } from '../../events/content-type.ts'
import { idempotencyKeyOf } from './duplicates.ts'
import { deliveryHeaders, unsupportedMediaType, type IngestRoutesOptions } from './ingest.ts'
import { IngestExchange, type IngestRoute } from './ingest-exchange.ts'
import { readPreferences, type Preferences } from './prefer.ts'
import { eventFromFields } from './query-event.ts'
import { withHeldHeaders } from '../http/held-headers.ts'
import { replyRaw } from '../http/raw-reply.ts'
import { beaconPrefix, tellRejected } from '../http/refusals.ts'

const postPath = `${beaconPrefix}:stream`
const pixelPath = `${beaconPrefix}:stream.gif`

/**
 * `POST /v1/beacon/{stream}` for `navigator.sendBeacon` and `fetch(keepalive)`, and `GET /v1/beacon/{stream}.gif` for an
 * image. Nobody reads their replies, so success has no body and, unless the stream is set otherwise, a full buffer
 * drops and counts what came instead of refusing it. A client that can set headers (`fetch`) tells its repetitions by an
 * `Idempotency-Key`; `sendBeacon` and images cannot, and tell them by ids.
 */
export function registerBeacon(app: FastifyInstance, options: IngestRoutesOptions): void {
  registerPost(app, options)
  registerPixel(app, options)
}

function registerPost(
  app: FastifyInstance,
  { targets, telemetry, refusals, shown, limits, bounds, logger }: IngestRoutesOptions,
): void {
  const route: IngestRoute = {
    transport: 'beacon',
    telemetry,
    refusals,
    shown,
    timer: telemetry.httpTimer('POST', postPath),
    limits,
    bounds,
    logger,
    onBufferFull: (stream) => stream.beaconOnBufferFull,
    succeed(exchange, batch) {
      tellRejected(exchange.reply, batch)
      replyRaw(exchange.reply, 202, deliveryHeaders(exchange), '')
      return 202
    },
  }
  app.post<{ Params: { stream: string } }>(postPath, (request, reply) => {
    const target = targets.get(request.params.stream, request.accessKey)
    const { headers } = request.raw
    const kind = beaconKindOf(headers['content-type'])
    const key = idempotencyKeyOf(target, headers)
    const exchange = new IngestExchange(route, target, { reply, kind, preferences: noPreferences, key })
    const listener = kind === 'form' ? withFields(exchange) : exchange.onBody
    exchange.read(request.raw, listener)
  })
}

/** A form that holds no JSON holds the fields of one event: `new URLSearchParams({ name, value })`. */
function withFields(exchange: IngestExchange): BodyListener {
  return (error, body, readBytes) => {
    const start = error === null && hasByteOrderMark(body) ? 3 : 0
    const isFields = error === null && /^\s*[^\s{["]/.test(body.toString('latin1', start, start + 64))
    if (!isFields) exchange.onBody(error, body, readBytes)
    else exchange.takeMade(body, eventFromFields, readBytes)
  }
}

/**
 * The page chooses the type of a Blob, so the type is only a hint here. Every body but a multipart form is read as JSON.
 */
function beaconKindOf(contentType: string | undefined): Exclude<BodyKind, 'unsupported'> {
  const kind = bodyKindOf(contentType)
  if (kind !== 'unsupported') return kind
  if (contentType?.toLowerCase().startsWith('multipart/') === true) throw unsupportedMediaType(contentType)
  return 'text'
}

function registerPixel(
  app: FastifyInstance,
  { targets, telemetry, refusals, shown, limits, bounds, logger }: IngestRoutesOptions,
): void {
  const route: IngestRoute = {
    transport: 'pixel',
    telemetry,
    refusals,
    shown,
    timer: telemetry.httpTimer('GET', pixelPath),
    limits,
    bounds,
    logger,
    onBufferFull: (stream) => stream.beaconOnBufferFull,
    succeed(exchange, batch) {
      const { reply } = exchange
      reply.hijack()
      if (reply.raw.headersSent) return 200
      tellRejected(reply, batch)
      const headers = withHeldHeaders(reply.raw, [...pixelHeaders, ...deliveryHeaders(exchange)])
      reply.raw.writeHead(200, headers).end(pixel)
      return 200
    },
  }
  // No HEAD: it would take an event and show nothing.
  app.get<{ Params: { stream: string } }>(pixelPath, { exposeHeadRoute: false }, (request, reply) => {
    const target = targets.get(request.params.stream, request.accessKey)
    const { url = '', headers } = request.raw
    const at = url.indexOf('?')
    const key = idempotencyKeyOf(target, headers)
    const options = { reply, kind: 'json', preferences: noPreferences, key } as const
    const exchange = new IngestExchange(route, target, options)
    const query = Buffer.from(at === -1 ? '' : url.slice(at + 1), 'latin1')
    if (headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0)
      exchange.takeMade(query, eventFromFields)
    else exchange.read(request.raw, behindEmptyBody(exchange, query))
  })
}

/**
 * Takes the event once the body is at its end: a body that breaks off has an answer by then. Some proxies put an empty body on each GET. Any other body
 * means that the client has its event in the wrong place.
 */
function behindEmptyBody(exchange: IngestExchange, query: Buffer): BodyListener {
  return (error, body, readBytes) => {
    if (error === null && body.length === 0) exchange.takeMade(query, eventFromFields)
    else exchange.onBody(error ?? aPixelHasNoBody(), body, readBytes)
  }
}

function aPixelHasNoBody(): GatewayError {
  return new GatewayError('invalid_request', 'a pixel has no body: its event is in the query')
}

const noPreferences: Preferences = readPreferences(undefined)

/** The smallest image that every browser takes: GIF89a, 1×1, transparent, 43 bytes. */
const pixel = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==', 'base64')

const pixelHeaders = [
  'content-type',
  'image/gif',
  'content-length',
  String(pixel.length),
  // A cached image would be an event that is never sent.
  'cache-control',
  'no-store, no-cache, must-revalidate, private',
  'pragma',
  'no-cache',
  'expires',
  '0',
  'x-content-type-options',
  'nosniff',
]
