import type { RequestName } from '../protocol/requests.ts'
import type { WireRequest } from '../protocol/wire.ts'

/**
 * The port through which senders see connections to brokers. A test can have its own. Read this file of the folder first. network/ knows
 * sockets and time, the cluster and its leaders. It knows no batch, no account, and no stream's settings.
 *
 * Requests are written in the order of the calls, at the end of the turn. A connection that has ended stays so: nothing here connects again
 * or sends again. `broker-session.ts` makes the next connection.
 */
export interface Transport {
  /** Connects, including all handshakes, within the connection timeout of the configuration. */
  connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection>
}

/** The broker was reached and does not accept the credentials (SASL). Only an operator can mend that. */
export class AuthenticationError extends Error {
  override readonly name = 'AuthenticationError'
}

/** One connection to one broker. */
export interface BrokerConnection {
  readonly isOpen: boolean
  /** Other owners write over it, too. What a write of one of them waits for, all wait for. */
  readonly isShared: boolean
  /** Bytes that wait in this process: the kernel has not taken them yet, or the broker wants no requests now. */
  readonly pendingBytes: number
  /**
   * Whether another request may be written, so that few bytes wait ({@link socketHighWaterBytes}). After a no, the listeners of
   * {@link onDrain} are called when there may be room.
   */
  askForRoom(): boolean
  /**
   * At this time (by `performance.now()`) another connection should take the place of this one. Some time later the broker ends the
   * authenticated session (KIP-368), and loses everything that it has not read by then. Infinity: the session has no end.
   */
  readonly renewAtMs: number
  /** Which of these requests the broker does not serve, in words for an operator; null: it serves all. A request that it lacks must not be sent. */
  lacks(needed: readonly RequestName[]): string | null
  /** Writes a request that has no response. `onFlushed` is called when the kernel has taken all of its bytes, and else never. */
  send(request: WireRequest, onFlushed: () => void): void
  /** Writes a request. Then exactly one of the two callbacks is called, once. After an error, the broker may or may not have acted on the request. */
  call(request: WireRequest, onResponse: (payload: Buffer) => void, onError: (error: Error) => void): void
  /** Puts off further requests for as long as the broker asks (KIP-219). */
  throttle(throttleTimeMs: number): void
  /** Calls the listener once, when the connection ends for whatever reason. Calls it at once if the connection has ended. */
  onClose(listener: (cause: Error) => void): void
  /** Calls the listener each time when the kernel has taken bytes that waited. A connection that others share does so after a no of {@link askForRoom} only. */
  onDrain(listener: () => void): void
  /** Ends the connection now. Bytes that the kernel has not sent are thrown away, if the socket allows that. */
  destroy(cause: Error): void
}

/**
 * Above this many bytes that wait in the process ({@link BrokerConnection.pendingBytes}) nothing more is to be written
 * ({@link BrokerConnection.askForRoom}). It is enough to keep the kernel busy. More bytes would only be more to lose.
 */
export const socketHighWaterBytes = 1 << 20

/** Writes a request, and waits for its response. @throws Error as `onError` of {@link BrokerConnection.call} is given it. */
export async function responseTo(connection: BrokerConnection, request: WireRequest): Promise<Buffer> {
  return await new Promise((resolve, reject) => connection.call(request, resolve, reject))
}
