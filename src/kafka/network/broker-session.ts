import { CircuitBreaker } from '../../circuit-breaker.ts'
import type { BrokerAddress } from './cluster-metadata.ts'
import { encodeMetadata, type RequestName, UnservedError } from '../protocol/requests.ts'
import type { BrokerConnection, Transport } from './transport.ts'

/**
 * Keeps one connection to one broker for one stream, behind a circuit breaker. The transport may let streams share the connection. The session
 * connects in the background, reports when the connection is up and when it is down, and tries again with growing pauses until it is
 * stopped. It keeps an idle connection alive: brokers end idle connections after ten minutes, and load balancers often end them sooner.
 * Either would look like an outage.
 *
 * Before the broker ends an authenticated session (KIP-368), the next connection is opened beside the old one. The owner waits for the
 * answers on the old connection and then calls {@link handOver}. So the end of a session is no outage.
 */
export class BrokerSession {
  readonly #options: BrokerSessionOptions
  readonly #breaker = new CircuitBreaker()
  #connection: BrokerConnection | null = null
  /** The address of the connection. */
  #address: BrokerAddress | null = null
  /** Takes the place of {@link #connection} when the owner calls {@link handOver}. */
  #next: BrokerConnection | null = null
  #isRenewing = false
  #renewTimer: NodeJS.Timeout | null = null
  #renewFailures = 0
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

  /** The address of the connection, or of the last connection; null: there was none. */
  get address(): BrokerAddress | null {
    return this.#address
  }

  /** The needed requests that the broker does not serve, in words; null: it serves all, or was not reached yet. */
  get lacking(): string | null {
    return this.#lacking
  }

  /** The circuit breaker holds back the next try to connect. */
  get isCircuitOpen(): boolean {
    return this.#connection === null && this.#breaker.isOpen
  }

  /** The broker did something useful. Only this closes the circuit breaker: accepting a connection is not enough. */
  succeeded(): void {
    this.#breaker.succeeded()
  }

  /** The next connection is open. The owner must send nothing more over the old one. */
  get isHandingOver(): boolean {
    return this.#next !== null
  }

  /**
   * Puts the next connection in the place of the old one. To be called only while {@link isHandingOver}.
   * @returns both connections. The owner has to end the old one.
   */
  handOver(): { old: BrokerConnection; connection: BrokerConnection } {
    const old = this.#connection!
    const connection = this.#next!
    this.#next = null
    this.#use(connection)
    return { old, connection }
  }

  /** Opens the next connection now if it is time for it. After a failure, the pauses between the tries stay. */
  renewAtOnce(): void {
    const renewAtMs = this.#connection?.renewAtMs ?? Infinity
    if (this.#renewFailures === 0 && renewAtMs <= performance.now()) this.#renewIfDue()
  }

  /** Is called every second. Asks for a little metadata once a minute, to keep the connection alive. */
  everySecond(nowMs: number): void {
    const connection = this.#connection
    this.#renewIfDue()
    if (connection === null || nowMs - this.#spokeAtMs < keepAliveMs) return
    this.#spokeAtMs = nowMs
    connection.call(encodeMetadata([]), ignore, (error) => connection.destroy(error))
  }

  /** Metadata was looked at. If the broker has another address now, the connection is ended, and the next one goes to that address. */
  follow(): void {
    const address = this.#options.address()
    if (this.#connection === null || address === null) return
    if (address.host !== this.#address?.host || address.port !== this.#address.port)
      this.fail(new Error(`the broker moved to ${address.host}:${address.port}`))
  }

  /** Ends the connection because of `cause`, and connects again later. */
  fail(cause: Error): void {
    this.#connection?.destroy(cause)
  }

  /** Ends the connection for good. */
  stop(cause: Error): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#renewTimer !== null) clearTimeout(this.#renewTimer)
    this.#next?.destroy(cause)
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
      const connection = await this.#open(address)
      this.#connecting = false
      if (connection === null) return
      this.#address = address
      connection.onClose((cause) => this.#closed(connection, cause))
      if (!connection.isOpen) return this.#down(new Error('the connection was closed at once'))
      this.#use(connection)
      this.#options.onUp(connection)
    } catch (error) {
      this.#connecting = false
      this.#down(error as Error)
    }
  }

  /** Opens a connection to a broker that serves all needed requests. @returns null if the session was stopped meanwhile. */
  async #open({ host, port }: BrokerAddress): Promise<BrokerConnection | null> {
    const { transport, requestTimeoutMs, needs } = this.#options
    const connection = await transport.connect(host, port, requestTimeoutMs)
    if (this.#stopped) {
      connection.destroy(new Error('not needed any more'))
      return null
    }
    this.#lacking = connection.lacks(needs)
    if (this.#lacking === null) return connection
    connection.destroy(new Error(this.#lacking))
    throw new UnservedError(this.#lacking)
  }

  #use(connection: BrokerConnection): void {
    this.#connection = connection
    this.#spokeAtMs = performance.now()
    this.#renewFailures = 0
    this.#renewLater(connection.renewAtMs - performance.now())
  }

  #renewLater(inMs: number): void {
    if (this.#renewTimer !== null) clearTimeout(this.#renewTimer)
    this.#renewTimer = null
    if (inMs === Infinity || this.#stopped) return
    this.#renewTimer = setTimeout(
      () => this.#renewIfDue(),
      Math.min(Math.max(0, Math.ceil(inMs)), maxTimerMs),
    )
  }

  #renewIfDue(): void {
    const connection = this.#connection
    const address = this.#options.address()
    if (this.#stopped || connection === null || address === null) return
    if (this.#next !== null || this.#isRenewing) return
    const inMs = connection.renewAtMs - performance.now()
    if (inMs <= 0) void this.#renew(address)
    else this.#renewLater(inMs)
  }

  /** Opens the next connection. If that fails, it is tried again until the broker ends the session. Only the end of the session is an outage. */
  async #renew(address: BrokerAddress): Promise<void> {
    this.#isRenewing = true
    const renewed = this.#connection
    try {
      const next = await this.#open(address)
      this.#isRenewing = false
      if (next === null) return
      // The old connection has ended meanwhile. Another one is made as after any outage, perhaps to another address.
      if (this.#connection !== renewed) return next.destroy(new Error('not needed any more'))
      this.#next = next
      next.onClose((cause) => this.#closed(next, cause))
      if (this.#next !== null) this.#options.onNext()
    } catch {
      this.#isRenewing = false
      this.#renewLater(Math.min(100 * 2 ** this.#renewFailures++, 1_000))
    }
  }

  #closed(connection: BrokerConnection, cause: Error): void {
    if (connection === this.#next) {
      this.#next = null
      this.#renewLater(Math.min(100 * 2 ** this.#renewFailures++, 1_000))
    } else if (connection === this.#connection) {
      const next = this.#next
      this.#next = null
      this.#down(cause, next)
    }
  }

  /** The connection has ended, or could not be made. @param next the next connection, if it is open. It is used at once. */
  #down(cause: Error, next: BrokerConnection | null = null): void {
    this.#connection = null
    this.#breaker.failed()
    this.#options.onDown(cause)
    if (next === null || this.#stopped) return this.#retryLater()
    this.#use(next)
    this.#options.onUp(next)
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
  /** The requests that are sent over the connection. A broker that does not serve all of them is not used, and is tried again later. */
  readonly needs: readonly RequestName[]
  /** The broker's address now; null while the broker is not in the cluster. */
  readonly address: () => BrokerAddress | null
  readonly onUp: (connection: BrokerConnection) => void
  /** The next connection is open beside the old one: see {@link BrokerSession.handOver}. */
  readonly onNext: () => void
  /** The connection has ended, or could not be made. */
  readonly onDown: (cause: Error) => void
}

function ignore(): void {}

/** Half of the time after which the least patient load balancers end an idle connection. */
const keepAliveMs = 60_000
/** The longest time of a timer in Node. */
const maxTimerMs = 2 ** 31 - 1
