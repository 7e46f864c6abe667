import type { FastifyRequest } from 'fastify'
import { errorTable, type ErrorCode, type GatewayError } from '../../errors.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import { type LiveEvent, type LiveEvents, shownBody, shownText } from '../../live-events.ts'
import type { EdgeTransport } from '../../metrics/edge-telemetry.ts'

/**
 * Shows events and refusals of requests to whoever watches them ({@link LiveEvents}). Neither the query of a request nor a header
 * but `Origin` is shown: both can have a key. What would not be shown costs a few look-ups.
 */
export class ShownEvents {
  readonly #live: LiveEvents | null

  /** @param live null: nothing is shown. */
  constructor(live: LiveEvents | null) {
    this.#live = live
  }

  /** Somebody watches what is taken. To be looked at before {@link taken} is called. */
  get isWatched(): boolean {
    return this.#live?.isWatched === true
  }

  /** Shows the events of a request that was accepted. The body is still there. `dropped`: the buffer was full. */
  taken(batch: EventBatch, request: RequestOfEvents, fate: 'taken' | 'dropped'): void {
    const { stream } = request
    const { good, duplicates } = batch
    for (let nth = 0; nth < Math.min(good, shownOfRequest); nth++) {
      if (this.#live?.admits(stream, null) !== true) return
      const [start, end] = [batch.ranges.start(nth), batch.ranges.end(nth)]
      this.#live.show({
        ...senderOf(request),
        fate,
        code: null,
        detail: fate === 'dropped' ? 'the buffer of the stream was full' : null,
        reply: null,
        index: batch.indexOf(nth),
        events: batch.received,
        path: null,
        text: shownBody(batch.body, start, end),
        bytes: end - start,
      })
    }
    if (duplicates.length === 0 || this.#live?.admits(stream, null) !== true) return
    this.#live.show({
      ...senderOf(request),
      ...wholeBody(batch.body),
      fate: 'duplicate',
      code: null,
      detail: `${duplicates.length} of ${batch.received} events were accepted before, and are not written again`,
      reply: null,
      index: null,
      events: batch.received,
      path: null,
    })
  }

  /** Shows the events of a request that were refused for themselves. @param reply null: other events of the request were taken. */
  rejected(batch: EventBatch, request: RequestOfEvents, reply: ErrorCode | null): void {
    const { body, keptRejected, received } = batch
    for (const { start, end, code, error } of keptRejected.slice(0, shownOfRequest)) {
      if (this.#live?.admits(request.stream, code) !== true) continue
      this.#live.show({
        ...senderOf(request),
        fate: 'refused',
        code,
        detail: error === null ? null : shownText(`${error.pointer} ${error.detail}`.trim(), maxDetail),
        reply,
        index: error?.index ?? null,
        events: received,
        path: null,
        text: shownBody(body, start, end),
        bytes: end - start,
      })
    }
  }

  /** Shows a request that was refused as a whole. */
  refused(problem: GatewayError, request: RefusedRequest): void {
    const { batch, body, stream } = request
    const { code } = problem
    if (this.#live === null) return
    if (batch !== null && batch.rejected > 0 && errorTable[code].tells === 'which')
      return this.rejected(batch, request, code)
    if (!mayBeOfEvents(request.request) || !this.#live.admits(stream, code)) return
    this.#live.show({
      ...senderOf(request),
      ...(body === null || body.length === 0 ? noBody : wholeBody(body)),
      fate: 'refused',
      code,
      detail: shownText(problem.message, maxDetail),
      reply: code,
      index: null,
      events: batch?.received ?? null,
      path: stream === null ? pathOf(request.request) : null,
    })
  }
}

/** A request with events. */
export interface RequestOfEvents {
  readonly transport: EdgeTransport
  /** The stream that the request names. null: it names none, or there is no such stream. */
  readonly stream: string | null
  /** null: Fastify never got the request. */
  readonly request: FastifyRequest | null
}

/** A request that was refused. */
export interface RefusedRequest extends RequestOfEvents {
  /** Its events; null: they are not known. */
  readonly batch: EventBatch | null
  /** Its body, without a key that a form may have; null: no body was read. */
  readonly body: Buffer | null
}

function senderOf({ transport, stream, request }: RequestOfEvents): Sender {
  const origin = request?.raw.headers.origin
  return {
    stream,
    transport,
    origin: origin === undefined ? null : shownText(origin, maxOrigin),
    key: request?.accessKey?.name ?? null,
  }
}

type Sender = Pick<LiveEvent, 'stream' | 'transport' | 'origin' | 'key'>

function wholeBody(body: Buffer): Pick<LiveEvent, 'text' | 'bytes'> {
  return { text: shownBody(body), bytes: body.length }
}

const noBody = { text: null, bytes: null } as const

/** A browser asks for icons and the like, which nobody has sent as an event. */
function mayBeOfEvents(request: FastifyRequest | null): boolean {
  return request === null || request.method === 'POST' || request.raw.url?.startsWith('/v1/') === true
}

function pathOf(request: FastifyRequest | null): string | null {
  const [path] = request?.raw.url?.split('?', 1) ?? []
  return path === undefined ? null : shownText(path, maxPath)
}

/** Events of one request that are shown, of those that were taken and of those that were refused. */
export const shownOfRequest = 10
const maxDetail = 300
const maxOrigin = 128
const maxPath = 128
