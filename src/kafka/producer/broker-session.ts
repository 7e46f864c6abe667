import { CircuitBreaker } from './circuit-breaker.ts'
import type { BrokerAddress } from './cluster-metadata.ts'
import { encodeMetadata, type RequestName } from './requests.ts'
import { UnservedError } from './served-versions.ts'
import type { BrokerConnection, Transport } from './transport.ts'

/**
 * Keeps one connection to one broker for one stream, behind a circuit breaker: connects in the background, says when it
 * is up and when it is down, and tries again with growing pauses until it is stopped. A connection with nothing to do is kept
 * alive: brokers end idle ones after ten minutes, what is between them and us often sooner, and that would look like an outage.
 */
export class BrokerSession {
  readonly #options: BrokerSessionOptions
  readonly #breaker = new CircuitBreaker()
  #connection: BrokerConnection | null = null
  /** Where the connection leads. */
  #address: BrokerAddress | null = null
  #spokeAtMs = 0
  #timer: NodeJS.Timeout | null = null
  #connecting = false
  #stopped = false
  #lacking: string | null = null

  constructor(options: BrokerSessionOptions) {
    this.#options = options
    void this.#connect()
  }

  /** The open connection, or null. */
  get connection(): BrokerConnection | null {
    return this.#connection
  }

  /** What the broker does not serve of what is needed; null: it serves all, or was not reached yet. */
  get lacking(): string | null {
    return this.#lacking
  }

  /** The breaker holds the next try back. */
  get isCircuitOpen(): boolean {
    return this.#connection === null && this.#breaker.isOpen
  }

  /** The broker did something useful: only then is the breaker closed, so that accepting connections is not enough. */
  succeeded(): void {
    this.#breaker.succeeded()
  }

  /** Is called now and then: asks for something small, once a minute. */
  tend(nowMs: number): void {
    const connection = this.#connection
    if (connection === null || nowMs - this.#spokeAtMs < keepAliveMs) return
    this.#spokeAtMs = nowMs
    connection.call(encodeMetadata([]), ignore, (error) => connection.destroy(error))
  }

  /** The broker may have another address now: then the connection leads to another broker, or to none. */
  follow(): void {
    const address = this.#options.address()
    if (this.#connection === null || address === null) return
    if (address.host !== this.#address?.host || address.port !== this.#address.port)
      this.fail(new Error(`the broker moved to ${address.host}:${address.port}`))
  }

  /** Ends the connection because of `cause` and tries again later. */
  fail(cause: Error): void {
    this.#connection?.destroy(cause)
  }

  /** Ends the connection and does not come back. */
  stop(cause: Error): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#connection?.destroy(cause)
  }

  async #connect(): Promise<void> {
    const address = this.#options.address()
    if (this.#stopped || this.#connecting) return
    if (address === null) {
      this.#retryLater()
      return
    }
    this.#connecting = true
    try {
      const { transport, requestTimeoutMs } = this.#options
      const connection = await transport.connect(address.host, address.port, requestTimeoutMs)
      this.#connecting = false
      if (this.#stopped) {
        connection.destroy(new Error('not needed any more'))
        return
      }
      this.#lacking = connection.lacks(this.#options.needs)
      if (this.#lacking !== null) {
        connection.destroy(new Error(this.#lacking))
        throw new UnservedError(this.#lacking)
      }
      this.#connection = connection
      this.#address = address
      this.#spokeAtMs = performance.now()
      connection.onClose((cause) => this.#down(cause))
      if (connection.isOpen) this.#options.onUp(connection)
    } catch (error) {
      this.#connecting = false
      this.#down(error as Error)
    }
  }

  #down(cause: Error): void {
    this.#connection = null
    this.#breaker.failed()
    this.#options.onDown(cause)
    this.#retryLater()
  }

  #retryLater(): void {
    if (this.#stopped) return
    this.#timer = setTimeout(() => void this.#connect(), Math.max(50, this.#breaker.waitMs))
  }
}

/** See {@link BrokerSession}. */
export interface BrokerSessionOptions {
  readonly transport: Transport
  readonly requestTimeoutMs: number
  /** What is sent over the connection. A broker that does not serve all of it is not used, and asked again later. */
  readonly needs: readonly RequestName[]
  /** Where the broker is now; null while it is not in the cluster. */
  readonly address: () => BrokerAddress | null
  readonly onUp: (connection: BrokerConnection) => void
  /** The connection is gone, or could not be made. */
  readonly onDown: (cause: Error) => void
}

function ignore(): void {}

/** Half of what the shortest-lived load balancers give an idle connection. */
const keepAliveMs = 60_000
