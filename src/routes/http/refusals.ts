import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { GatewayError } from '../../errors.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import type { EventError } from '../../events/rejected-events.ts'
import type { Logger } from '../../logger.ts'
import { clientPrefix } from './client-address.ts'
import { idsOf } from './request-ids.ts'
import type { RefusedRequest, ShownEvents } from './shown-events.ts'
import type { EdgeTelemetry, EdgeTransport } from '../../metrics/edge-telemetry.ts'

/**
 * Counts, shows and logs the requests that are refused as a whole, under the code of the reply. Each code has at most one log line a second, with the
 * number of requests and the details of one of them. At the level `debug`, each request has a line. A client's address is cut to its network.
 */
export class Refusals {
  readonly #edge: EdgeTelemetry['edge']
  readonly #logger: Logger
  readonly #shown: ShownEvents
  readonly #allowedOrigins: () => readonly string[]
  /** By code: the requests that were refused since the last line. */
  readonly #unsaid = new Map<string, { requests: number; fields: object }>()

  constructor(options: {
    edge: EdgeTelemetry['edge']
    shown: ShownEvents
    logger: Logger
    allowedOrigins: () => readonly string[]
  }) {
    this.#edge = options.edge
    this.#shown = options.shown
    this.#logger = options.logger
    this.#allowedOrigins = options.allowedOrigins
  }

  /** To be called once for each reply that says that none of the request's events was accepted. */
  refused(problem: GatewayError, refused: RefusedRequest): void {
    const { transport, stream } = refused
    const { code } = problem
    // These events were accepted, and lost later.
    if (code === 'delivery_failed') return
    this.#edge.refused(code, transport, stream ?? '')
    this.#shown.refused(problem, refused)
    const isDebug = this.#logger.isLevelEnabled?.('debug') !== false
    const waiting = this.#unsaid.get(code)
    if (waiting !== undefined && waiting.requests > 0 && !isDebug) {
      // The next line has the details of another request.
      waiting.requests++
      return
    }
    const fields = this.#fieldsOf(problem, refused)
    if (isDebug) this.#logger.debug(fields, 'a request was refused')
    if (waiting !== undefined) {
      waiting.requests++
      waiting.fields = fields
      return
    }
    this.#logger.info({ ...fields, requests: 1 }, refusedMessage)
    this.#unsaid.set(code, { requests: 0, fields })
    setTimeout(() => this.#say(code), logIntervalMs).unref()
  }

  #fieldsOf({ code, message }: GatewayError, { transport, stream, request }: RefusedRequest): object {
    // A socket that is closed has no address.
    const client = request?.ip ?? null
    return {
      code,
      transport,
      ...(stream !== null && { stream }),
      ...(request?.raw.headers.origin !== undefined && { origin: request.raw.headers.origin.slice(0, 256) }),
      ...(client !== null && { client: clientPrefix(client) }),
      ...(request !== null && idsOf(request)),
      ...(code === 'origin_not_allowed' && { allowedOrigins: this.#allowedOrigins() }),
      detail: message,
    }
  }

  /** Logs the refusals since the last line of the code. The next line follows after a second at the earliest. */
  #say(code: string): void {
    const { requests, fields } = this.#unsaid.get(code)!
    if (requests === 0) {
      this.#unsaid.delete(code)
      return
    }
    this.#logger.info({ ...fields, requests }, refusedMessage)
    this.#unsaid.set(code, { requests: 0, fields })
    setTimeout(() => this.#say(code), logIntervalMs).unref()
  }
}

/** The transport of a request, by its path. A path that no route takes has a transport, too. */
export function transportOf(url: string): EdgeTransport {
  if (!url.startsWith(beaconPrefix)) return 'http'
  const [path = ''] = url.split('?', 1)
  return path.endsWith('.gif') ? 'pixel' : 'beacon'
}

/** What the paths of beacons and pixels begin with. */
export const beaconPrefix = '/v1/beacon/'

/**
 * Says in the response header `Chute-Error` why a beacon was refused. The developer tools of a browser show the headers of a reply to a beacon
 * or an image, but not its body. To be called before the reply is written. Does nothing if the request has a reply from elsewhere (`connections.ts`).
 */
export function tellProblem(response: ServerResponse, { code, message, extensions }: GatewayError): void {
  if (response.headersSent) return
  const { errors, accepted = 0, rejected = 0 } = extensions as Partial<Refused>
  const header =
    errors?.[0] === undefined
      ? errorHeader(code, message)
      : headerOf(errors[0], rejected, accepted + rejected)
  response.setHeader('chute-error', header)
}

/** As {@link tellProblem}, for a beacon of which some events were accepted. */
export function tellRejected(reply: FastifyReply, { errors, rejected, received }: EventBatch): void {
  if (errors[0] !== undefined && !reply.raw.headersSent)
    reply.raw.setHeader('chute-error', headerOf(errors[0], rejected, received))
}

interface Refused {
  readonly errors: readonly EventError[]
  readonly accepted: number
  readonly rejected: number
}

/** The header names the first rejected event, and the number of rejected events. */
function headerOf({ code, pointer, detail, index }: EventError, rejected: number, received: number): string {
  const where = pointer === '' ? detail : `${pointer} ${detail}`
  const others = received === 1 ? '' : `; event ${index}, ${rejected} of ${received} refused`
  return errorHeader(code, `${where}${others}`)
}

/** The value of `Chute-Error`: visible ASCII, 300 characters at most. All other characters are escaped as in JSON. */
export function errorHeader(code: string, reason: string): string {
  const escaped = `${code}; ${reason}`
    .slice(0, maxHeaderLength + 1)
    .replaceAll(
      /[^\x20-\x7e]/g,
      (character) => String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  return escaped.length <= maxHeaderLength ? escaped : `${escaped.slice(0, maxHeaderLength - 3)}...`
}

const refusedMessage = 'requests were refused'
const logIntervalMs = 1_000
/** Longest `Chute-Error`, in characters. */
export const maxHeaderLength = 300
