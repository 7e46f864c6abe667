import net, { type Socket } from 'node:net'
import tls from 'node:tls'
import Broker from 'kafkajs/src/broker/index.js'
import ConnectionPool, { type Connection, type InternalLogger } from 'kafkajs/src/network/connectionPool.js'
import type { KafkaConfig } from '../../config/config.ts'
import { stopIdleTimers } from '../kafkajs-idle-timer.ts'
import type { Logger } from './producer.ts'
import type { WireRequest } from './wire.ts'

/**
 * Connections to brokers: the only file that knows kafkajs's producing side. kafkajs opens the socket, does TLS, SASL and
 * the version handshake, matches responses to requests and times them out; what is sent is ours, and is written in the
 * order of the calls, at the end of the turn. A connection that is gone stays gone: nothing here connects or sends again.
 *
 * The senders know only {@link Transport} and {@link BrokerConnection}, which a test can play.
 */
export interface Transport {
  /** Connects, at most within `connectionTimeoutMs`, the handshakes included. */
  connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection>
}

/** One connection to one broker. */
export interface BrokerConnection {
  readonly isOpen: boolean
  /** Bytes that wait in this process for the kernel to take them. */
  readonly pendingBytes: number
  /** The broker wants to authenticate this connection again soon (KIP-368): finish with it and open another. */
  readonly isExpiring: boolean
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

stopIdleTimers()

/** Connects through kafkajs. */
export class KafkajsTransport implements Transport {
  readonly #config: KafkaConfig
  readonly #logger: InternalLogger

  constructor(config: KafkaConfig, logger: Logger) {
    this.#config = config
    this.#logger = quietLogger(logger)
  }

  /** @inheritdoc */
  async connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection> {
    const { connectionTimeoutMs } = this.#config
    let socket: Socket | null = null
    const pool = new ConnectionPool({
      host,
      port,
      ssl: tlsOptions(this.#config),
      sasl: this.#config.sasl === null ? null : { ...this.#config.sasl },
      clientId: this.#config.clientId,
      logger: this.#logger,
      socketFactory: (options) => (socket = openSocket(options)),
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: requestTimeoutMs,
      // Its check wakes up ten times a second for each connection; ours is a timer a request.
      enforceRequestTimeout: false,
      maxInFlightRequests: null,
      reauthenticationThreshold: 10_000,
    })
    const connection = pool.pool[0]!
    const broker = new Broker({
      connectionPool: pool,
      logger: this.#logger,
      authenticationTimeout: connectionTimeoutMs,
      allowAutoTopicCreation: false,
    })
    // A broker that was stopped accepts connections (its kernel does) and then says nothing.
    const timer = setTimeout(() => {
      socket?.destroy(new Error(`${host}:${port} did not answer within ${connectionTimeoutMs} ms`))
    }, connectionTimeoutMs)
    try {
      await broker.connect()
      return new KafkajsConnection(connection, `${host}:${port}`, requestTimeoutMs)
    } catch (error) {
      endConnection(connection, socket)
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
}

class KafkajsConnection implements BrokerConnection {
  readonly #connection: Connection
  readonly #socket: Socket
  readonly #address: string
  readonly #requestTimeoutMs: number
  #closeCause: Error | null = null
  /** Who waits for a response. */
  readonly #calls = new Set<Call>()
  #closeListeners: ((cause: Error) => void)[] = []

  constructor(connection: Connection, address: string, requestTimeoutMs: number) {
    this.#connection = connection
    this.#address = address
    this.#requestTimeoutMs = requestTimeoutMs
    this.#socket = connection.socket
    const closed = (): void => this.#close(new Error(`the connection to ${address} was closed`))
    // On 'end' the broker reads no more: what would be written now is lost.
    this.#socket.on('end', closed).on('close', closed)
    this.#socket.on('error', (error) => this.#close(error))
    if (this.#socket.destroyed) closed()
  }

  get isOpen(): boolean {
    return this.#closeCause === null
  }

  get pendingBytes(): number {
    return this.#socket.writableLength
  }

  get isExpiring(): boolean {
    const { sasl } = this.#connection as unknown as { sasl: object | null }
    return sasl !== null && !this.#connection.isAuthenticated()
  }

  send(request: WireRequest, onFlushed: () => void): void {
    if (this.#closeCause === null) this.#push(request, null, onFlushed, ignore)
  }

  call(request: WireRequest, onResponse: (payload: Buffer) => void, onError: (error: Error) => void): void {
    const cause = this.#closeCause
    if (cause !== null) {
      queueMicrotask(() => onError(cause))
      return
    }
    const call: Call = { onError, timer: null }
    this.#calls.add(call)
    this.#push(request, call, ignore, (payload) => {
      if (call.timer !== null) clearTimeout(call.timer)
      if (this.#calls.delete(call)) onResponse(payload)
    })
  }

  throttle(throttleTimeMs: number): void {
    this.#connection.requestQueue.maybeThrottle(throttleTimeMs)
  }

  onClose(listener: (cause: Error) => void): void {
    if (this.#closeCause !== null) listener(this.#closeCause)
    else this.#closeListeners.push(listener)
  }

  onDrain(listener: () => void): void {
    this.#socket.on('drain', listener)
  }

  destroy(cause: Error): void {
    this.#close(cause)
  }

  #push(
    request: WireRequest,
    call: Call | null,
    onFlushed: () => void,
    onResponse: (payload: Buffer) => void,
  ): void {
    const { apiKey, apiVersion, apiName } = request
    const correlationId = this.#connection.nextCorrelationId()
    this.#connection.requestQueue.push({
      entry: {
        apiKey,
        apiVersion,
        apiName,
        correlationId,
        resolve: ({ payload }) => {
          if (payload !== null) onResponse(payload)
        },
        // kafkajs rejects when the socket ends; so do we, in #close, and only there.
        reject: ignore,
      },
      expectResponse: call !== null,
      requestTimeout: null,
      sendRequest: () => {
        this.#write(request, correlationId, onFlushed)
        if (call !== null) this.#awaitAnswer(call)
      },
    })
  }

  /** From the write on, and not from the call: a broker that asks to be left alone may do so for longer than a request takes. */
  #awaitAnswer(call: Call): void {
    call.timer = setTimeout(() => {
      this.#close(new Error(`${this.#address} did not answer within ${this.#requestTimeoutMs} ms`))
    }, this.#requestTimeoutMs)
  }

  #write(request: WireRequest, correlationId: number, onFlushed: () => void): void {
    const { clientId } = this.#connection
    let bodyBytes = 0
    for (const chunk of request.chunks) bodyBytes += chunk.length
    const clientIdBytes = Buffer.byteLength(clientId)
    const header = Buffer.allocUnsafe(14 + clientIdBytes)
    header.writeInt32BE(10 + clientIdBytes + bodyBytes, 0)
    header.writeInt16BE(request.apiKey, 4)
    header.writeInt16BE(request.apiVersion, 6)
    header.writeInt32BE(correlationId, 8)
    header.writeInt16BE(clientIdBytes, 12)
    header.write(clientId, 14)
    this.#corkForTurn()
    this.#socket.write(header)
    const last = request.chunks.length - 1
    for (let i = 0; i < last; i++) this.#socket.write(request.chunks[i]!)
    this.#socket.write(request.chunks[last]!, (error) => {
      if (error === undefined || error === null) onFlushed()
    })
  }

  /** A call to the kernel costs more than what it carries: there is one for all that is written in a turn of the event loop. */
  #corkForTurn(): void {
    if (this.#socket.writableCorked > 0) return
    this.#socket.cork()
    process.nextTick(uncork, this.#socket)
  }

  #close(cause: Error): void {
    if (this.#closeCause !== null) return
    this.#closeCause = cause
    const unanswered = [...this.#calls]
    this.#calls.clear()
    for (const { timer } of unanswered) if (timer !== null) clearTimeout(timer)
    endConnection(this.#connection, this.#socket)
    for (const { onError } of unanswered) onError(cause)
    for (const listener of this.#closeListeners.splice(0)) listener(cause)
  }
}

interface Call {
  readonly onError: (error: Error) => void
  /** Null until the request is written. */
  timer: NodeJS.Timeout | null
}

/** Ends a kafkajs connection at once. Its own `disconnect` waits for what is pending. */
function endConnection(connection: Connection, socket: Socket | null): void {
  connection.connectionStatus = 'disconnected'
  connection.requestQueue.destroy()
  if (socket === null || socket.destroyed) return
  // A reset lets the kernel forget what it has not sent, so that it can't arrive after what a new connection sends.
  if (socket instanceof tls.TLSSocket) socket.destroy()
  else socket.resetAndDestroy()
}

function openSocket(options: {
  host: string
  port: number
  ssl: object | null
  onConnect: () => void
}): Socket {
  const { host, port, ssl, onConnect } = options
  const socket =
    ssl === null
      ? net.connect({ host, port, noDelay: true }, onConnect)
      : tls.connect({ host, port, ...(net.isIP(host) === 0 ? { servername: host } : {}), ...ssl }, onConnect)
  // Batches are written whole; waiting for more (Nagle) would only delay them.
  socket.setNoDelay(true)
  socket.setKeepAlive(true, 10_000)
  return socket
}

function tlsOptions({ ssl }: KafkaConfig): object | null {
  if (ssl === null) return null
  return {
    rejectUnauthorized: ssl.rejectUnauthorized,
    ...(ssl.ca === null ? {} : { ca: ssl.ca }),
    ...(ssl.cert === null ? {} : { cert: ssl.cert }),
    ...(ssl.key === null ? {} : { key: ssl.key }),
    ...(ssl.servername === null ? {} : { servername: ssl.servername }),
  }
}

/** kafkajs logs each failed attempt as an error; for an operator that is one line when a broker goes and one when it comes. */
function quietLogger(logger: Logger): InternalLogger {
  const debug = (message: string, extra: object = {}): void => logger.debug({ kafkajs: extra }, message)
  const quiet: InternalLogger = {
    namespace: () => quiet,
    debug: ignore,
    info: debug,
    warn: debug,
    error: debug,
  }
  return quiet
}

function uncork(socket: Socket): void {
  socket.uncork()
}

function ignore(): void {}
