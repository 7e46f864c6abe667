import net, { type Socket } from 'node:net'
import tls from 'node:tls'
import Broker from 'kafkajs/src/broker/index.js'
import ConnectionPool, { type Connection, type InternalLogger } from 'kafkajs/src/network/connectionPool.js'
import type { KafkaConfig, KafkaCredentials } from '../../config/config.ts'
import { bearerTokens } from './bearer-tokens.ts'
import { saslOptions, tlsOptions } from './tls-and-sasl.ts'
import { describeFailure, isCutLogin } from './describe-failure.ts'
import type { Logger } from '../../logger.ts'
import type { ServedVersions } from '../protocol/requests.ts'
import { resetSocket, SocketConnection } from './socket-connection.ts'
import { AuthenticationError, type BrokerConnection, type Transport } from './transport.ts'

/**
 * Connects through kafkajs. No other file knows kafkajs's internal connection. kafkajs opens the socket and does TLS, SASL and the version
 * handshake. Then {@link SocketConnection} takes over: it sends all requests and reads all answers.
 */
export class KafkajsTransport implements Transport {
  #config: KafkaConfig
  readonly #logger: InternalLogger

  constructor(config: KafkaConfig, logger: Logger) {
    this.#config = config
    this.#logger = quietLogger(logger)
  }

  /** Connections that are made from now on use other certificates and credentials. Those that there are go on. */
  renew(renewed: Partial<KafkaCredentials>): void {
    this.#config = { ...this.#config, ...renewed }
  }

  /** @inheritdoc */
  async connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection> {
    const { connectionTimeoutMs, sasl } = this.#config
    // Before the connection, whose time is short: to get a token may take longer, and its failure has nothing to do with the broker.
    if (sasl !== null && 'token' in sasl) await bearerTokens(sasl).get()
    let socket: Socket | null = null
    const pool = new ConnectionPool({
      host,
      port,
      ssl: this.#config.ssl === null ? null : tlsOptions(this.#config.ssl),
      sasl: sasl === null ? null : saslOptions(sasl),
      clientId: this.#config.clientId,
      logger: this.#logger,
      socketFactory: (options) => (socket = openSocket(options)),
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: requestTimeoutMs,
      // kafkajs's own check would wake up ten times a second for each connection. The timer below watches the time instead.
      enforceRequestTimeout: false,
      maxInFlightRequests: null,
      // `broker-session.ts` renews a session, with another connection.
      reauthenticationThreshold: 0,
    })
    const connection = pool.pool[0]!
    const broker = new Broker({
      connectionPool: pool,
      logger: this.#logger,
      authenticationTimeout: connectionTimeoutMs,
      allowAutoTopicCreation: false,
    })
    endOnGarbage(connection, () => socket)
    try {
      await within(connectionTimeoutMs, `${host}:${port}`, broker.connect())
      return takeOver(connection, servedBy(broker), `${host}:${port}`, requestTimeoutMs)
    } catch (error) {
      giveUp(connection, socket)
      throw failureOf(error as Error, this.#config)
    }
  }
}

/**
 * Waits for kafkajs. The kernel of a broker that was stopped (SIGSTOP) accepts connections, and then nothing comes. And kafkajs does not notice each end
 * of a connection during a login.
 * @throws what kafkajs throws, or an Error when the time is over.
 */
async function within(ms: number, address: string, connecting: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${address} did not answer within ${ms} ms`)), ms)
  })
  try {
    await Promise.race([connecting, timeout])
  } finally {
    clearTimeout(timer)
    // What becomes of it when the time is over interests nobody.
    connecting.catch(ignore)
  }
}

/** kafkajs throws in the socket's listener where an answer is too short to be one. Nobody would catch that. */
function endOnGarbage(connection: Connection, socketOf: () => Socket | null): void {
  const processData = connection.processData.bind(connection)
  connection.processData = (data) => {
    try {
      processData(data)
    } catch (cause) {
      socketOf()?.destroy(new Error('what came is no answer of Kafka', { cause }))
    }
  }
}

/** Takes the socket over from kafkajs. From now on kafkajs neither reads nor writes, and has no timer. */
function takeOver(
  connection: Connection,
  served: ServedVersions,
  address: string,
  requestTimeoutMs: number,
): BrokerConnection {
  const { socket, clientId, requestQueue } = connection
  requestQueue.destroy()
  // kafkajs still hears of the end of the connection, and does nothing then.
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
    // If a client has no credentials, a broker that wants them answers the question for its versions, and nothing else.
    ...(connection.sasl === null && {
      adviceIfSilent: 'the listener may want credentials (KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME)',
    }),
  }
  const ours = new SocketConnection(options)
  ours.throttle(requestQueue.throttledUntil - Date.now())
  return ours
}

/** The versions that the broker serves, which kafkajs asked for before it authenticated. */
function servedBy({ versions }: Broker): ServedVersions {
  return new Map(
    Object.entries(versions ?? {}).map(([apiKey, { minVersion, maxVersion }]) => [
      Number(apiKey),
      { min: minVersion, max: maxVersion },
    ]),
  )
}

/** The error to report. kafkajs's errors of SASL are recognized by their name. */
function failureOf(error: Error, kafka: KafkaConfig): Error {
  if (isCutLogin(error)) return new Error(`the connection ended during the login: ${error.message}`)
  const message = describeFailure(error, { kafka })
  if (error.name === 'KafkaJSSASLAuthenticationError')
    return new AuthenticationError(message, { cause: error })
  return message === error.message ? error : new Error(message, { cause: error })
}

/**
 * Milliseconds until a connection is to be replaced. Its session lasts `lifetimeMs` (0: for ever). Kafka's clients authenticate again after
 * 85 to 95 % of that time. The broker must have read everything on the old connection before the session ends, and a quota may delay the
 * broker for seconds (KIP-219). So at least ten seconds are left, or half of a short session. There is jitter, since all connections may have
 * been made at the same time.
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
  // These are the first bytes of a TLS alert (RFC 8446, section 5.1). kafkajs would take them for the length of an answer.
  if (ssl === null)
    socket.once('data', (data) => {
      if (data[0] === 0x15 && data[1] === 0x03) socket.destroy(new Error(`${host}:${port} speaks TLS`))
    })
  // Batches are written whole. Nagle's algorithm would wait for more bytes, and only delay them.
  socket.setNoDelay(true)
  socket.setKeepAlive(true, 10_000)
  return socket
}

/** kafkajs's log, at the level debug: kafkajs logs each failed attempt as an error. `outage-log.ts` tells an operator of outages. */
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
