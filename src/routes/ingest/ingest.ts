import type { FastifyInstance } from 'fastify'
import { resends } from '../../config/config.ts'
import type { HttpLimits } from '../../config/limits.ts'
import { GatewayError } from '../../errors.ts'
import { bodyKindOf, supportedMediaTypes } from '../../events/content-type.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import type { Logger } from '../../logger.ts'
import { isDelivered, isGone, withDuplicates, type EventOutcome, type Outcomes } from './append.ts'
import type { EdgeTelemetry } from '../../metrics/edge-telemetry.ts'
import { IngestExchange, type IngestRoute } from './ingest-exchange.ts'
import { idempotencyKeyOf } from './duplicates.ts'
import { readPreferences } from './prefer.ts'
import type { Bounds } from '../http/bounds.ts'
import { replyRaw, replySmallest } from '../http/raw-reply.ts'
import type { Refusals } from '../http/refusals.ts'
import type { ShownEvents } from '../http/shown-events.ts'
import type { StreamTarget, StreamTargets } from './stream-target.ts'

/** The parts that the routes for events need. */
export interface IngestRoutesOptions {
  readonly targets: StreamTargets
  readonly telemetry: EdgeTelemetry
  readonly refusals: Refusals
  readonly shown: ShownEvents
  readonly limits: HttpLimits
  readonly bounds: Bounds
  readonly logger: Logger
}

const path = '/v1/streams/:stream'

/**
 * `POST /v1/streams/{stream}`: one event, an array, or NDJSON. Fastify does not read the body (`server.ts`), so that the bytes can be passed on
 * as they came.
 */
export function registerIngest(app: FastifyInstance, options: IngestRoutesOptions): void {
  const { targets, telemetry, refusals, shown, limits, bounds, logger } = options
  const route: IngestRoute = {
    transport: 'http',
    telemetry,
    refusals,
    shown,
    timer: telemetry.httpTimer('POST', path),
    limits,
    bounds,
    logger,
    onBufferFull: (stream) => stream.onBufferFull,
    succeed,
  }
  app.post<{ Params: { stream: string } }>(path, (request, reply) => {
    const target = targets.get(request.params.stream, request.accessKey)
    const { headers } = request.raw
    const kind = bodyKindOf(headers['content-type'])
    if (kind === 'unsupported') throw unsupportedMediaType(headers['content-type'])
    const preferences = readPreferences(headers['prefer'])
    const key = idempotencyKeyOf(target, headers)
    const exchange = new IngestExchange(route, target, { reply, kind, preferences, key })
    exchange.read(request.raw)
  })
}

/** The headers of every success: the delivery of the stream, and whether the request was accepted before. */
export function deliveryHeaders({ target, isReplay }: IngestExchange): string[] {
  const headers = ['chute-delivery', target.delivery]
  if (isReplay) headers.push('idempotency-replayed', 'true')
  return headers
}

/** The error for a media type that is not read. */
export function unsupportedMediaType(contentType: string | undefined): GatewayError {
  const isMultipart = contentType?.toLowerCase().startsWith('multipart/') === true
  // `Chute-Error` has room for the way out, and not for all types beside it.
  const detail = isMultipart
    ? 'a multipart body is not read; send JSON, or the fields of a form to the beacon route, as new URLSearchParams(new FormData(form))'
    : `${contentType ?? 'this'} is not read; send one of ${supportedMediaTypes.join(', ')}, in UTF-8`
  return new GatewayError('unsupported_media_type', detail)
}

function succeed(
  exchange: IngestExchange,
  batch: EventBatch,
  outcomes: Outcomes | null,
  json: Buffer | null,
): number {
  const { preferences, reply, target } = exchange
  if (outcomes !== null) refuseUndelivered(batch, outcomes)
  const statusCode = outcomes === null ? 202 : 200
  if (preferences.minimal) {
    replySmallest(reply, statusCode, exchange.isReplay ? ['idempotency-replayed', 'true'] : [])
    return statusCode
  }
  const headers = deliveryHeaders(exchange)
  if (preferences.applied !== null) headers.push('preference-applied', preferences.applied)
  headers.push('content-type', 'application/json')
  const pending = preferences.waitSeconds === null || outcomes !== null ? null : pendingOf(exchange, batch)
  const body =
    json === null
      ? successBody(target, batch, outcomes, pending)
      : withEvents(successBody(target, batch, null, null), json)
  replyRaw(reply, statusCode, headers, body)
  return statusCode
}

/** The body of a success. It is put together by hand for the usual case, in which no event was rejected. */
function successBody(
  target: StreamTarget,
  batch: EventBatch,
  outcomes: Outcomes | null,
  pending: Pending | null,
): string {
  const { accepted, duplicates, rejected, errors } = batch
  if (rejected === 0 && outcomes === null && pending === null && duplicates.length === 0)
    return `{"accepted":${accepted},"rejected":0,"errors":[]}`
  return JSON.stringify({
    accepted,
    rejected,
    ...(duplicates.length === 0 ? {} : { duplicates: duplicates.length }),
    errors,
    ...(outcomes === null ? {} : { events: allOutcomes(target, batch, outcomes) }),
    ...(pending === null ? {} : { pending }),
  })
}

function allOutcomes(target: StreamTarget, batch: EventBatch, outcomes: Outcomes): EventOutcome[] {
  const all = withDuplicates(target, batch, outcomes)
  return all.slice(0, all.count)
}

/** Adds the outcomes to a body of JSON. @param json the elements of an array. */
function withEvents(body: string, json: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${body.slice(0, -1)},"events":[`), json, Buffer.from(']}')])
}

/** Why a client does not get the outcomes that it waited for, and what becomes of its events. */
interface Pending {
  readonly reason: (typeof pendingReasons)[number]
  readonly detail: string
}

/** See {@link Pending}. */
export const pendingReasons = ['kafka_away', 'kafka_slow', 'accepted_before', 'shutting_down'] as const

function pendingOf({ target }: IngestExchange, batch: EventBatch): Pending {
  const { producer } = target
  if (batch.good === 0) {
    const detail = 'all of it was accepted before; what became of it was for the first request to learn'
    return { reason: 'accepted_before', detail }
  }
  const { delivery } = producer.stream
  const fate = resends[delivery]
    ? 'the events are sent until they are acknowledged'
    : 'the events are sent once; whether they arrived shows in /metrics'
  if (producer.admission === 'closing' && producer.durability !== null) {
    const detail = 'the gateway ends; the events are on disk, and are sent at its next start'
    return { reason: 'shutting_down', detail }
  }
  if (!producer.isConnected)
    return { reason: 'kafka_away', detail: `no broker of the stream can be reached; ${fate}` }
  const answer = producer.stream.producer.acks === 0 ? 'confirmed' : 'acknowledged'
  return { reason: 'kafka_slow', detail: `not ${answer} yet; ${fate}` }
}

/**
 * Refuses a request whose client waited for outcomes, if one of the outcomes is bad.
 * @throws GatewayError `delivery_failed`. It has the outcome of each event, and says whether sending the request again can make duplicates.
 */
function refuseUndelivered(batch: EventBatch, outcomes: Outcomes): void {
  if (outcomes.isDelivered) return
  const events = outcomes.slice(0, outcomes.count)
  const failed = events.filter(({ outcome }) => !isDelivered(outcome)).length
  const deadLetters = events.filter(({ outcome }) => outcome === 'dead_lettered').length
  // Only of some outcomes, such as `dropped`, it is certain that nobody has the record. A dead letter is there, and an operator may send it again.
  const mayDuplicate = events.some(({ outcome }) => !isGone(outcome))
  const ofAll = `${failed} of ${batch.accepted} events`
  throw new GatewayError(
    'delivery_failed',
    describeUndelivered(ofAll, { failed, deadLetters, mayDuplicate }),
    {
      extensions: {
        mayDuplicate,
        accepted: batch.accepted,
        rejected: batch.rejected,
        errors: batch.errors,
        events,
      },
    },
  )
}

/** Says what became of the events that were not delivered. @param ofAll how many these are, of how many. */
function describeUndelivered(
  ofAll: string,
  { failed, deadLetters, mayDuplicate }: { failed: number; deadLetters: number; mayDuplicate: boolean },
): string {
  const areKept = "in the stream's dead letters (a topic or a file), and need not be sent again"
  if (deadLetters === failed) return `${ofAll} were refused by Kafka for good; they are ${areKept}`
  const consequence = mayDuplicate
    ? 'sending the request again may duplicate events'
    : 'the request can be sent again'
  const kept = deadLetters === 0 ? '' : `; ${deadLetters} of them are ${areKept}`
  return `${ofAll} were not delivered${kept}; ${consequence}`
}
