import type { RequestName } from '../protocol/requests.ts'
import type { WireRequest } from '../protocol/wire.ts'

/**
 * What the senders know of connections to brokers, and what a test can play. Read this file of the folder first. network/ knows sockets
 * and time, the cluster and its leaders; it knows no batch, no account, and no stream's settings.
 *
 * Requests are written in the order of the calls, at the end of the turn. A connection that is gone stays gone: nothing here connects or
 * sends again. `broker-session.ts` keeps connecting.
 */
export interface Transport {
  /** Connects, at most within `connectionTimeoutMs`, the handshakes included. */
  connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection>
}

/** The broker was reached and does not accept the credentials (SASL). Only an operator can mend that. */
export class AuthenticationError extends Error {
  override readonly name = 'AuthenticationError'
}

/** One connection to one broker. */
export interface BrokerConnection {
  readonly isOpen: boolean
  /** Bytes that wait in this process for the kernel to take them, or for the broker to want them. */
  readonly pendingBytes: number
  /**
   * From then on (by `performance.now()`) another connection should take the place of this one: the broker ends the authenticated
   * session some time later (KIP-368), with all that it has not read by then. Infinity: it does not.
   */
  readonly renewAtMs: number
  /** What the broker does not serve of these requests, for an operator; null: it serves all. No other may be sent to it. */
  lacks(needed: readonly RequestName[]): string | null
  /** Writes a request that has no response. `onFlushed` is called when the kernel has all its bytes, and never if it has not. */
  send(request: WireRequest, onFlushed: () => void): void
  /** Writes a request; one of the two is called, once. An error says nothing about whether the broker acted on it. */
  call(request: WireRequest, onResponse: (payload: Buffer) => void, onError: (error: Error) => void): void
  /** Puts off further requests for as long as the broker asks (KIP-219). */
  throttle(throttleTimeMs: number): void
  /** Is called once, when the connection ends for whatever reason; at once if it has. */
  onClose(listener: (cause: Error) => void): void
  /** Is called whenever bytes that waited have gone to the kernel. */
  onDrain(listener: () => void): void
  /** Ends the connection now. Bytes that the kernel has not sent are thrown away where that is possible. */
  destroy(cause: Error): void
}
