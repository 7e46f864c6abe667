import type { ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { errorTable, GatewayError } from '../../errors.ts'
import type { LiveEvent, LiveSource } from '../../live-events.ts'

/** Who reads `/live/events` at this moment. */
export class EventReaders {
  /** The open replies, each with what ends it. */
  readonly #open = new Map<ServerResponse, () => void>()
  #isClosed = false

  /** Ends all replies, and refuses readers from now on: the gateway leaves. */
  close(): void {
    this.#isClosed = true
    for (const response of this.#open.keys()) response.end()
  }

  /** @throws GatewayError `shutting_down` or `rate_limited`. */
  refuseOneMore(): void {
    if (this.#isClosed)
      throw new GatewayError('shutting_down', 'the gateway leaves, and shows no more events', {
        retryAfterSeconds: 5,
      })
    if (this.#open.size < mostReaders) return
    const detail = `${mostReaders} pages and commands read the events of this process already; close one`
    throw new GatewayError('rate_limited', detail, { retryAfterSeconds: 5 })
  }

  /** Sends all that `source` tells, until the reader goes. A reader that does not read is cut off. */
  add(response: ServerResponse, source: LiveSource): void {
    const stop = source.watch((events) => send(response, textOf(events)))
    const heart = setInterval(() => send(response, ': the gateway is there\n\n'), heartbeatMs)
    heart.unref()
    const end = (): void => {
      clearInterval(heart)
      stop()
      this.#open.delete(response)
    }
    this.#open.set(response, end)
    // A reply that waits behind another one of its connection has no socket yet, and its own `close` never comes if the connection goes.
    const { socket } = response.req
    if (socket.destroyed) return end()
    response.once('close', end)
    socket.once('close', end)
    // A connection whose client has ended its side stays open otherwise (`Connections`), since the reply may still be read.
    socket.once('end', () => socket.destroy())
  }
}

/** What {@link registerLiveEvents} needs. */
export interface LiveEventsOptions {
  /** null: events are not shown. */
  readonly source: LiveSource | null
  readonly readers: EventReaders
  /** Names of the streams, for a reader that looks for one. */
  readonly streams: () => readonly string[]
  /** The names under which the route may be asked for; null: any. */
  readonly mayBeHost: ((hostname: string) => boolean) | null
}

/**
 * `GET /live/events`: the last events and each that comes, as server-sent events (HTML standard, section 9.2). First `hello`, with the
 * names of the streams. Then each message is an array of {@link LiveEvent}, and a refused event has its way out beside it.
 */
export function registerLiveEvents(
  app: FastifyInstance,
  { source, readers, streams, mayBeHost }: LiveEventsOptions,
): void {
  app.get('/live/events', { exposeHeadRoute: false }, (request, reply) => {
    if (source === null) throw new GatewayError('not_found', areOff)
    if (mayBeHost?.(request.hostname) === false) throw new GatewayError('origin_not_allowed', strangeHost)
    readers.refuseOneMore()
    reply.hijack()
    const { raw: response } = reply
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      // nginx would keep events back until its buffer is full.
      'x-accel-buffering': 'no',
    })
    response.write(`retry: ${retryMs}\nevent: hello\ndata: ${JSON.stringify({ streams: streams() })}\n\n`)
    readers.add(response, source)
  })
}

function send(response: ServerResponse, text: string): void {
  if (response.writableLength > mostUnreadBytes) response.req.socket.destroy()
  else if (!response.writableEnded) response.write(text)
}

/** All readers get the same events, so their text is made once. */
function textOf(events: readonly LiveEvent[]): string {
  if (last?.events !== events) {
    const shown = events.map((event) => ({ ...event, wayOut: event.code && errorTable[event.code].wayOut }))
    last = { events, text: `data: ${JSON.stringify(shown)}\n\n` }
  }
  return last.text
}

let last: { readonly events: readonly LiveEvent[]; readonly text: string } | null = null

/** Readers of one process. */
export const mostReaders = 20
/** What a reader may leave unread, in bytes: some seconds of the most that is shown. */
const mostUnreadBytes = 1 << 20
/** Proxies close connections that are silent, most of them after a minute. */
const heartbeatMs = 15_000
const retryMs = 1_000
const areOff =
  'events are not shown: LIVE_EVENTS is false, or neither keys, nor ADMIN_PORT, nor a loopback HOST keep strangers away'
const strangeHost =
  'events are shown under the name localhost or a loopback address only: a page elsewhere could else read them under a name of its own'
