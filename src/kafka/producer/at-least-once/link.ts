import { BrokerSession } from '../../network/broker-session.ts'
import type { BrokerAddress } from '../../network/cluster-metadata.ts'
import type { LeaderLink } from '../../network/leader-links.ts'
import type { BrokerConnection, Transport } from '../../network/transport.ts'
import type { RequestName } from '../../protocol/requests.ts'

/**
 * The way of one at-least-once stream to one broker: the connection that batches are sent over, and those whose place it has taken
 * (KIP-368). Nothing more is sent over a connection that was replaced, but what is out there is waited for.
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
      onUp: () => {
        onUp()
        onReady()
      },
      // A batch that waits behind another one of its partition waits for the answer on the old connection: the order holds.
      onNext: () => {
        this.#replaced.add(this.#session.handOver().old)
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

  /** An answer is waited for on a connection that was replaced. */
  get hasPending(): boolean {
    return this.#replaced.size > 0
  }

  /** @inheritdoc */
  assign(): void {
    this.#session.follow()
  }

  /** The broker did something useful. */
  succeeded(): void {
    this.#session.succeeded()
  }

  /** Is called every second, and after each answer: ends the connections that were replaced and carry nothing any more. */
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
