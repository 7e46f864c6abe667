import net, { type Socket } from 'node:net'
import tls from 'node:tls'
import Broker from 'kafkajs/src/broker/index.js'
import ConnectionPool, { type Connection, type InternalLogger } from 'kafkajs/src/network/connectionPool.js'
import type { KafkaConfig } from '../../config/config.ts'
import { saslOptions, tlsOptions } from './kafkajs-client.ts'
import { describeFailure } from './describe-failure.ts'
import type { Logger } from '../../logger.ts'
import type { ServedVersions } from '../protocol/requests.ts'
import { resetSocket, SocketConnection } from './socket-connection.ts'
import { AuthenticationError, type BrokerConnection, type Transport } from './transport.ts'

/**
 * Connects through kafkajs: the only file that knows its producing side. kafkajs opens the socket, does TLS, SASL and the
 * version handshake; what is sent and read afterwards is {@link SocketConnection}'s.
 */
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
      ssl: this.#config.ssl === null ? null : tlsOptions(this.#config.ssl),
      sasl: this.#config.sasl === null ? null : saslOptions(this.#config.sasl),
      clientId: this.#config.clientId,
      logger: this.#logger,
      socketFactory: (options) => (socket = openSocket(options)),
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: requestTimeoutMs,
      // Its check wakes up ten times a second for each connection; `connectionTimeout` is watched here.
      enforceRequestTimeout: false,
      maxInFlightRequests: null,
      // Sessions are renewed here, and by another connection.
      reauthenticationThreshold: 0,
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
      return takeOver(connection, servedBy(broker), `${host}:${port}`, requestTimeoutMs)
    } catch (error) {
      giveUp(connection, socket)
      throw failureOf(error as Error, this.#config)
    } finally {
      clearTimeout(timer)
    }
  }
}

/** What kafkajs has connected is ours from here on: nothing of it reads, writes or keeps time any more. */
function takeOver(
  connection: Connection,
  served: ServedVersions,
  address: string,
  requestTimeoutMs: number,
): BrokerConnection {
  const { socket, clientId, requestQueue } = connection
  requestQueue.destroy()
  // It hears of the end of the connection as well, and finds nothing to do.
  socket.removeAllListeners('data')
  const firstCorrelationId = connection.nextCorrelationId()
  const renewAtMs = performance.now() + renewAfterMs(Number(connection.sessionLifetime.toString()))
  const options = {
    socket,
    address,
    clientId,
    requestTimeoutMs,
    firstCorrelationId,
    served,
    renewAtMs,
    // A broker that wants credentials tells its versions, and nothing else, to a client that has none.
    ...(connection.sasl === null && {
      adviceIfSilent: 'the listener may want credentials (KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME)',
    }),
  }
  const ours = new SocketConnection(options)
  ours.throttle(requestQueue.throttledUntil - Date.now())
  return ours
}

/** What kafkajs learned of the broker before it authenticated. */
function servedBy({ versions }: Broker): ServedVersions {
  return new Map(
    Object.entries(versions ?? {}).map(([apiKey, { minVersion, maxVersion }]) => [
      Number(apiKey),
      { min: minVersion, max: maxVersion },
    ]),
  )
}

/** kafkajs's errors of SASL go by their name. */
function failureOf(error: Error, kafka: KafkaConfig): Error {
  if (error.name === 'KafkaJSSASLAuthenticationError')
    return new AuthenticationError(error.message, { cause: error })
  const message = describeFailure(error, { kafka })
  return message === error.message ? error : new Error(message, { cause: error })
}

/**
 * When to replace a connection whose session lasts `lifetimeMs` (0: for ever). Kafka's clients authenticate again after 85 to 95 % of
 * it. The broker must have read everything on the old connection before the end, and a quota may make that take seconds (KIP-219). So ten
 * seconds are left for it, and half of a session that is short. With jitter, since all connections may have been made at once.
 */
export function renewAfterMs(lifetimeMs: number): number {
  if (lifetimeMs <= 0) return Infinity
  const reserveMs = Math.max(0.15 * lifetimeMs, Math.min(0.5 * lifetimeMs, 10_000))
  return (lifetimeMs - reserveMs) * (0.9 + 0.1 * Math.random())
}

/** Ends a connection that could not be made. kafkajs's own `disconnect` waits for pending requests. */
function giveUp(connection: Connection, socket: Socket | null): void {
  connection.connectionStatus = 'disconnected'
  connection.requestQueue.destroy()
  if (socket !== null) resetSocket(socket)
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
  // Bytes of a TLS alert (RFC 8446, 5.1), which kafkajs would take for the length of an answer.
  if (ssl === null)
    socket.once('data', (data) => {
      if (data[0] === 0x15 && data[1] === 0x03) socket.destroy(new Error(`${host}:${port} speaks TLS`))
    })
  // Batches are written whole; waiting for more (Nagle) would only delay them.
  socket.setNoDelay(true)
  socket.setKeepAlive(true, 10_000)
  return socket
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

function ignore(): void {}
