import type { Socket } from 'node:net'
import type { HttpBounds } from '../../config/limits.ts'
import { GatewayError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { ConnectionBound } from '../../metrics/edge-telemetry.ts'

/** Finds what counts as one client: its network, and whether bounds of addresses hold for it. */
export type LookUpAddress = (address: string) => { readonly network: string; readonly isAllowed: boolean }

/** What {@link Bounds} needs. */
export interface BoundsOptions {
  readonly bounds: HttpBounds
  readonly lookUp: LookUpAddress
  readonly logger: Logger
}

/**
 * Bounds what clients hold open with this process: connections, and bodies that are being read, in all and by address. One connection too many
 * is closed before a byte of it is read. One body too many is refused before it is read.
 *
 * A connection has no key: each of its requests may have another one, and `policy/keys.ts` looks it up. `ingest/read-in-turn.ts` counts each body
 * from its turn to be read until it is whole; the stream of a body is known in `ingest/ingest-exchange.ts`, which calls that.
 * `metrics/edge-metrics.ts` makes metrics of these counts. Their tests are `test/integration/bounds.test.ts` and
 * `test/unit/routes/ingest/read-in-turn.test.ts`.
 */
export class Bounds {
  /** Connections that are open. */
  connections = 0
  /** Bodies that are being read. */
  bodies = 0
  readonly refusedConnections: Record<ConnectionBound, number> = { all: 0, address: 0 }
  readonly #options: BoundsOptions
  readonly #connectionsOf = new Map<string, number>()
  readonly #bodiesOf = new Map<string, number>()
  /** Connections that were refused since the last line of the log; null: the next one is logged at once. */
  #unsaid: number | null = null

  constructor(options: BoundsOptions) {
    this.#options = options
  }

  /** Counts a connection until it closes. @returns false: there are too many, and it is closed. */
  admit(socket: Socket): boolean {
    const { bounds } = this.#options
    if (this.connections >= bounds.connections) return this.#refuse(socket, 'all')
    const address = this.#countedAs(socket.remoteAddress, bounds.connectionsPerAddress)
    if (address !== null && (this.#connectionsOf.get(address) ?? 0) >= (bounds.connectionsPerAddress ?? 0))
      return this.#refuse(socket, 'address')
    this.connections++
    if (address !== null) add(this.#connectionsOf, address, 1)
    socket.once('close', () => {
      this.connections--
      if (address !== null) add(this.#connectionsOf, address, -1)
    })
    return true
  }

  /**
   * Takes a place for a body that is to be read. The caller gives it back to {@link endBody}.
   * @returns a problem (`too_many_bodies`, `rate_limited`) if there is no place.
   */
  beginBody(request: { readonly ip: string }): BodyPlace | GatewayError {
    const { bounds } = this.#options
    if (this.bodies >= bounds.bodies) {
      const detail = `the gateway reads ${bounds.bodies} bodies at a time (MAX_BODIES); nothing of the request was accepted, send it again later`
      return new GatewayError('too_many_bodies', detail, { retryAfterSeconds: 1 })
    }
    const most = bounds.bodiesPerAddress
    // The address is looked up only where it counts: behind proxies that takes time.
    const address = most === null ? null : this.#countedAs(request.ip, most)
    if (address !== null && (this.#bodiesOf.get(address) ?? 0) >= (most ?? 0)) {
      const detail = `an address may send ${most} bodies at a time; nothing of the request was accepted, send it when another one is answered`
      return new GatewayError('rate_limited', detail, { retryAfterSeconds: 1 })
    }
    this.bodies++
    if (address !== null) add(this.#bodiesOf, address, 1)
    return address
  }

  /** The body was read, or is not read any more. */
  endBody(address: BodyPlace): void {
    this.bodies--
    if (address !== null) add(this.#bodiesOf, address, -1)
  }

  /** @returns null: no bound of an address holds. */
  #countedAs(address: string | undefined, most: number | null): string | null {
    if (most === null || address === undefined) return null
    const { network, isAllowed } = this.#options.lookUp(address)
    return isAllowed ? null : network
  }

  #refuse(socket: Socket, bound: ConnectionBound): boolean {
    socket.destroy()
    this.refusedConnections[bound]++
    if (this.#unsaid === null) this.#say(1, bound)
    else this.#unsaid++
    return false
  }

  #say(connections: number, bound: ConnectionBound | null): void {
    const { bounds, logger } = this.#options
    const { connections: most, connectionsPerAddress } = bounds
    logger.warn(
      { connections, ...(bound !== null && { bound }), most, mostPerAddress: connectionsPerAddress },
      'connections were closed, since too many are open',
    )
    this.#unsaid = 0
    setTimeout(() => {
      const unsaid = this.#unsaid ?? 0
      this.#unsaid = null
      if (unsaid > 0) this.#say(unsaid, null)
    }, logIntervalMs).unref()
  }
}

/** The network that a body counts for; null: it counts for none. */
export type BodyPlace = string | null

function add(counts: Map<string, number>, address: string, change: number): void {
  const count = (counts.get(address) ?? 0) + change
  if (count === 0) counts.delete(address)
  else counts.set(address, count)
}

const logIntervalMs = 1_000
