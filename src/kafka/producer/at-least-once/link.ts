import { BrokerSession } from '../../network/broker-session.ts'
import type { BrokerAddress } from '../../network/cluster-metadata.ts'
import type { LeaderLink } from '../../network/leader-links.ts'
import type { BrokerConnection, Transport } from '../../network/transport.ts'
import type { RequestName } from '../../protocol/requests.ts'

/**
 * The way of one at-least-once stream to one broker: the connection over which batches are sent, and the connections that it has replaced
 * (KIP-368). Nothing more is sent over a replaced connection, but it stays open until its answers have come.
 */
export class AtLeastOnceLink implements LeaderLink {
  readonly #session: BrokerSession
  readonly #replaced = new Set<BrokerConnection>()

  constructor(options: AtLeastOnceLinkOptions) {
    const { onUp, onReady } = options
    this.#session = new BrokerSession({
      transport: options.transport,
      requestTimeoutMs: options.requestTimeoutMs,
      needs: options.needs,
      address: options.address,
      onUp: (connection) => {
        connection.onDrain(onReady)
        onUp()
        onReady()
      },
      // The next batch of a partition waits for the answer that the old connection brings. So the order holds.
      onNext: () => {
        const { old, connection } = this.#session.handOver()
        connection.onDrain(onReady)
        this.#replaced.add(old)
        onReady()
      },
      onDown: options.onDown,
    })
  }

  /** The open connection, or null. */
  get connection(): BrokerConnection | null {
    return this.#session.connection
  }

  /** @inheritdoc */
  get isConnected(): boolean {
    return this.#session.connection !== null
  }

  /** @inheritdoc */
  get isCircuitOpen(): boolean {
    return this.#session.isCircuitOpen
  }

  /** @inheritdoc */
  get lacking(): string | null {
    return this.#session.lacking
  }

  /** A replaced connection is still open, since answers may come over it. A write on the connection of now does not count. */
  get hasPending(): boolean {
    return this.#replaced.size > 0
  }

  /** @inheritdoc */
  assign(): void {
    this.#session.follow()
  }

  /** The connection has no room. If the topic has to leave the connection, the next one is opened now. */
  renewAtOnce(): void {
    this.#session.renewAtOnce()
  }

  /** The broker answered a write. */
  succeeded(): void {
    this.#session.succeeded()
  }

  /** Ends the replaced connections over which no answer is awaited. Is called every second and after each answer. */
  endReplaced(isBusy: (connection: BrokerConnection) => boolean): void {
    for (const old of this.#replaced) {
      if (old.isOpen && isBusy(old)) continue
      this.#replaced.delete(old)
      old.destroy(new Error('another connection took its place'))
    }
  }

  /** @inheritdoc */
  everySecond(nowMs: number): void {
    this.#session.everySecond(nowMs)
  }

  /** @inheritdoc */
  stop(cause: Error): void {
    this.#session.stop(cause)
    for (const old of this.#replaced) old.destroy(cause)
    this.#replaced.clear()
  }
}

/** See {@link AtLeastOnceLink}. */
export interface AtLeastOnceLinkOptions {
  readonly transport: Transport
  readonly requestTimeoutMs: number
  /** See `BrokerSessionOptions.needs`. */
  readonly needs: readonly RequestName[]
  readonly address: () => BrokerAddress | null
  readonly onUp: () => void
  readonly onDown: (cause: Error) => void
  /** Batches may go over another connection now. */
  readonly onReady: () => void
}
