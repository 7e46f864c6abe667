import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { Server as Listener, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { HttpLimits } from '../../config/limits.ts'
import { GatewayError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import {
  behindUpgrade,
  isEndOfInput,
  isOfParser,
  notAProxy,
  tinyPieces,
  toClientProblem,
  tooSlow,
  writeProblem,
  type ClientError,
} from './client-error.ts'
import { connectionOf, makeLast, trackConnection, type Connection } from './connection.ts'
import { withHeldHeaders } from './held-headers.ts'
import type { Bounds } from './bounds.ts'
import type { Handshakes } from './handshakes.ts'
import type { HttpTimer } from '../../metrics/edge-telemetry.ts'
import { discardInput, holdInput, watchPieces, watchUpgrade } from './input.ts'
import { problemHeaders, toProblem } from './problem.ts'
import { tellProblem, transportOf, type Refusals } from './refusals.ts'

/** What {@link Connections} needs. */
export interface ConnectionsOptions {
  readonly limits: HttpLimits
  /** Null: any number of connections may be open. */
  readonly bounds: Bounds | null
  /** null: the server speaks plain HTTP. */
  readonly handshakes: Handshakes | null
  /** Counts what is refused before a route has it. */
  readonly timer: HttpTimer
  readonly refusals: Refusals
  readonly logger: Logger
}

/** A port from which several processes take connections. The processes leave the port one after the other. */
export interface SharedPort {
  /** Resolves when it is this process's turn to leave. true: no other process takes connections any more. */
  readonly turn: Promise<boolean>
  /** Says that this process takes no more connections. Resolves when no process takes any, and the port is closed. */
  leave(): Promise<void>
}

/**
 * The connections of a server, between node:http and the routes. Read this file of the folder first. Every route stands on `http/`, which
 * knows no route, no policy and no producer. Invariants:
 * - Every request that was taken gets its reply, in order, whatever comes behind the request on its connection.
 * - Behind a request whose reply says `Connection: close`, nothing is read as a request.
 * - A connection that sends many requests, or many pieces of a body, at once gets a part of a turn of the event loop (`input.ts`).
 */
export class Connections {
  readonly #server: Server
  readonly #handle: RequestListener
  readonly #options: ConnectionsOptions
  readonly #all = new Set<Connection>()
  #newestAtMs = 0
  /** New replies say `Connection: close`. */
  #isEnding = false
  #mayCloseIdle = false

  /** @param server does not listen yet, and has exactly one listener for requests, which is Fastify's. */
  constructor(server: Server, options: ConnectionsOptions) {
    this.#server = server
    this.#options = options
    const [handle] = server.listeners('request')
    this.#handle = handle as RequestListener
    server.removeAllListeners('request')
    server.on('request', (request, response) => this.#take(request, response))
    server.on('checkContinue', (request, response) => this.#takeOnceContinued(request, response))
    // A server may leave an expectation aside that it does not know (RFC 9110, section 10.1.1).
    server.on('checkExpectation', (request, response) => this.#take(request, response))
    const { handshakes } = options
    const isAdmitted = (socket: Socket): boolean => options.bounds?.admit(socket) ?? true
    if (handshakes === null) server.on('connection', (socket) => isAdmitted(socket) && this.#track(socket))
    else {
      server.on('connection', (socket: Socket) => {
        if (isAdmitted(socket)) this.#newestAtMs = performance.now()
      })
      handshakes.onSecure((socket) => this.#track(socket))
    }
    const closeIdle = server.closeIdleConnections.bind(server)
    // Node and Fastify call it when the server closes.
    server.closeIdleConnections = () => this.#keepingBusy(closeIdle)
    // Without this listener node:http would close the connection, and earlier requests would get no reply.
    server.on('connect', (_request, socket) => {
      // node:http has taken its own listeners away. Without one a connection that is reset would end the process.
      socket.on('error', () => socket.destroy())
      // A client that does not read the replies to earlier requests.
      ;(socket as Socket).on('timeout', () => socket.destroy())
      // And its parser: the next connection may have it by now. `sliceInput` must not feed it any more.
      socket.removeAllListeners('data')
      this.#failed(notAProxy, socket as Socket)
    })
    // A client may end its side behind its last request, and still gets the replies.
    ;(server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true
    const { bodyTimeoutMs } = options.limits
    server.once('listening', () => {
      const timer = setInterval(() => this.#watch(), Math.min(1_000, Math.ceil(bodyTimeoutMs / 4)))
      timer.unref()
      server.once('close', () => clearInterval(timer))
    })
  }

  /**
   * Is called by node:http when bytes came that are no request, or when a request did not come in time. Requests that were taken before get
   * their replies. Then the problem is sent, and the connection is closed.
   */
  readonly onClientError = (error: ClientError, socket: Socket): void => {
    if (isOfParser(error)) this.#failed(error, socket)
    else socket.destroy()
  }

  /** Sets whether each new reply is the last one of its connection, and says so. Idle connections stay open. */
  setEnding(isEnding: boolean): void {
    this.#isEnding = isEnding
    if (!isEnding) return
    for (const { newest, isBusy } of this.#all) if (isBusy && newest?.headersSent === false) makeLast(newest)
  }

  /**
   * Closes connections over which nothing has come yet. Browsers open such connections ahead of need. For node:http they are busy, and not
   * idle, so closing the server would wait for them as long as for a slow body. A connection gets another moment first, since the first bytes
   * of a request may be on their way.
   */
  closeSilent(): void {
    setTimeout(() => {
      this.#options.handshakes?.closeSilent()
      for (const { socket } of this.#all) if (socket.bytesRead === 0) socket.destroy()
    }, silentGraceMs)
  }

  /**
   * The gateway is going to leave. From now on each reply is the last one of its connection. Everything else stays as before.
   * @returns a function that leaves. It is to be called when clients and load balancers have had time to learn that the gateway leaves.
   * `port`: see {@link SharedPort}; null if no other process takes connections.
   */
  beginToLeave(): (port: SharedPort | null) => Promise<void> {
    this.setEnding(true)
    const looking = setInterval(() => this.#lookForIdle(), lookEveryMs)
    this.#server.once('close', () => clearInterval(looking))
    return async (port) => await this.#leave(port)
  }

  /**
   * Stops listening, and closes all connections without losing a request, even if clients do not know that the gateway leaves. Resolves when
   * the last connection has ended.
   *
   * A listener that closes resets the connections that the kernel has accepted and the process has not. So the listener closes in a quiet
   * moment. Until then replies no longer say `Connection: close`, so that clients can keep their connections and need no new ones. An idle
   * connection is closed only after a while, since a request may be on its way on a connection that was just used.
   * @param port the port, if other processes take connections from it, too. Then the listener closes when no process takes any.
   */
  async #leave(port: SharedPort | null): Promise<void> {
    this.#mayCloseIdle = true
    this.#lookForIdle()
    this.setEnding(false)
    if (port === null) await this.#untilQuiet()
    else if (await port.turn) {
      // The other processes took a share of the connections until now, and this process did not see them.
      this.#newestAtMs = performance.now()
      await this.#untilQuiet()
    }
    // This closes only the listener. node:http's own `close` would close idle connections, too.
    Listener.prototype.close.call(this.#server)
    await port?.leave()
    this.setEnding(true)
    while (this.#all.size > 0 || (this.#options.handshakes?.underWay ?? 0) > 0) await pause(lookEveryMs)
  }

  async #untilQuiet(): Promise<void> {
    const untilMs = performance.now() + quietWithinMs
    const isQuiet = (): boolean => performance.now() - this.#newestAtMs >= quietMs
    while (!isQuiet() && performance.now() < untilMs) await pause(lookEveryMs)
  }

  #track(socket: Socket): void {
    const connection = trackConnection(socket)
    this.#newestAtMs = performance.now()
    this.#all.add(connection)
    socket.once('close', () => this.#all.delete(connection))
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const connection = connectionOf(request.socket)
    if (connection === undefined) {
      this.#handle(request, response)
      return
    }
    if (connection.isEnding) {
      // The request gets no reply.
      discardInput(request.socket)
      return
    }
    connection.newest = response
    if (this.#isEnding || !response.shouldKeepAlive) makeLast(response)
    const flaw = hostFlaw(request)
    if (flaw !== null) {
      this.#refuse(response, new GatewayError('invalid_request', flaw))
      return
    }
    if (request.headers['transfer-encoding'] !== undefined) {
      watchPieces(request, (message) => {
        this.#failed({ code: tinyPieces, message }, request.socket)
        discardInput(request.socket)
      })
    }
    if (
      request.headers.upgrade !== undefined &&
      !watchUpgrade(request, () => this.#failed(behindUpgrade, request.socket))
    )
      makeLast(response)
    if (response.socket !== null) connection.behind = 0
    else if (++connection.behind > requestsInTurn) {
      this.#takeLater(connection, response)
      return
    }
    this.#handle(request, response)
  }

  /** Many requests came at once. The rest of them is taken in later turns, and no more is read until then. */
  #takeLater(connection: Connection, response: ServerResponse): void {
    const { waiting } = connection
    waiting.push(response)
    if (waiting.length === 1) {
      const goOn = holdInput(connection.socket)
      setImmediate(() => this.#takeWaiting(connection, goOn))
    } else if (waiting.length === mostWaiting) makeLast(response)
  }

  #takeWaiting(connection: Connection, goOn: () => void): void {
    const { waiting } = connection
    for (const response of waiting.splice(0, requestsInTurn)) {
      // The client of a request that is destroyed is gone: behind CONNECT the socket alone says so. One whose body was none has its reply.
      const isGone = connection.socket.destroyed || response.req.destroyed
      if (!isGone && !response.headersSent) this.#handle(response.req, response)
    }
    if (waiting.length > 0) setImmediate(() => this.#takeWaiting(connection, goOn))
    else {
      connection.behind = 0
      goOn()
    }
  }

  /**
   * A client asks before it sends a body (`Expect: 100-continue`, as curl does). The client is not told to go on if the body would be refused
   * for its size (RFC 9110, section 10.1.1).
   */
  #takeOnceContinued(request: IncomingMessage, response: ServerResponse): void {
    const isTooLarge = Number(request.headers['content-length']) > this.#options.limits.bodyBytes
    if (!isTooLarge && connectionOf(request.socket)?.isEnding !== true) response.writeContinue()
    this.#server.emit('request', request, response)
  }

  #failed(error: ClientError, socket: Socket): void {
    const connection = connectionOf(socket)
    if (connection === undefined || socket.destroyed) {
      socket.destroy()
      return
    }
    // Nothing is read behind the last request of a connection.
    if (connection.hasFailed || (connection.isEnding && !connection.isReceiving)) return
    connection.hasFailed = true
    if (connection.isReceiving) this.#failRequest(connection, error)
    else this.#failBehind(connection, error)
  }

  /** The newest request is at fault, so the problem is its reply. node:http sends it behind the replies to earlier requests. */
  #failRequest(connection: Connection, error: ClientError): void {
    const response = connection.newest!
    const problem = toClientProblem(error, this.#options.limits, true)
    if (response.headersSent) {
      // The request has its reply already, from before its end.
      if (connection.isBusy) response.once('finish', () => connection.closeGently())
      else connection.closeGently()
      return
    }
    makeLast(response)
    // If a route reads the body, the route answers, as for any other flaw of the body. If no route reads it yet, the answer is made here. If
    // the client has ended its side or gone away, the route is told that nothing more comes, and the answer is made here, too.
    if (response.req.listenerCount('error') > 0)
      response.req.emit('error', isEndOfInput(error) ? new Error('the client is gone') : problem)
    if (!response.headersSent) this.#refuse(response, problem, error)
  }

  /** The bytes behind the newest request are no request. */
  #failBehind(connection: Connection, error: ClientError): void {
    const { socket, newest } = connection
    connection.isEnding = true
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead <= emptyLineBytes) {
      // The client has sent no request. It would take a reply now for the reply to its first request (RFC 9112, section 9.5).
      connection.closeGently()
      return
    }
    const problem = toClientProblem(error, this.#options.limits, false)
    this.#count(problem, error)
    const say = (): void => {
      if (socket.writable) writeProblem(socket, problem)
      connection.closeGently()
    }
    if (!connection.isBusy) {
      say()
      return
    }
    // Until the newest reply is sent, further bytes stay with the kernel.
    const goOn = holdInput(socket)
    newest!.once('finish', () => {
      goOn()
      say()
    })
  }

  /** Answers a request that no route has answered, and reads nothing behind the request. */
  #refuse(response: ServerResponse, problem: GatewayError, cause: ClientError = problem): void {
    this.#count(problem, cause, response.req.url)
    makeLast(response)
    if (transportOf(response.req.url ?? '') !== 'http') tellProblem(response, problem)
    const body = JSON.stringify(toProblem(problem))
    const headers = [...problemHeaders(problem), 'content-length', String(Buffer.byteLength(body))]
    response.writeHead(problem.status, withHeldHeaders(response, headers))
    response.end(body)
  }

  /** Counts and logs a refusal. @param url the URL of the request, if its header was read. */
  #count(problem: GatewayError, { code: cause, message }: ClientError, url = ''): void {
    const { refusals, timer, logger } = this.#options
    timer.observe(problem.status, 0)
    refusals.refused(problem, {
      transport: transportOf(url),
      stream: null,
      request: null,
      batch: null,
      body: null,
    })
    logger.debug(
      { code: problem.code, cause, message },
      'a connection is closed: what came over it is refused',
    )
  }

  /**
   * Node's own `closeIdleConnections` destroys each connection over which no request comes and whose reply is written, even if the kernel does not
   * have the reply yet, as over TLS, or if other replies wait behind it.
   */
  #keepingBusy(closeIdle: () => void): void {
    const busy = [...this.#all].filter(({ isBusy, socket }) => isBusy || socket.writableLength > 0)
    for (const { socket } of busy) socket.destroy = () => socket
    closeIdle()
    for (const { socket } of busy) Reflect.deleteProperty(socket, 'destroy')
  }

  /** Ends requests whose body comes too slowly. It looks at most once a second, so fast requests pay almost nothing for it. */
  #watch(): void {
    const { bodyTimeoutMs, bodyMinBytesPerSecond } = this.#options.limits
    const nowMs = performance.now()
    for (const connection of this.#all) {
      const { socket, newest, watched } = connection
      if (newest === null || connection.hasFailed || !connection.isReceiving) {
        connection.watched = null
        // Replies over TLS, and those that Fastify writes, are not forgotten when they are sent.
        if (!connection.isBusy && !connection.isReceiving) connection.newest = null
      } else if (watched?.response !== newest || newest.req.readableFlowing !== true) {
        // The request is new, or the gateway itself has paused reading.
        connection.watched = { response: newest, sinceMs: nowMs, fromBytes: socket.bytesRead }
      } else if (nowMs - watched.sinceMs >= bodyTimeoutMs) {
        const received = socket.bytesRead - watched.fromBytes
        const least = (bodyMinBytesPerSecond * (nowMs - watched.sinceMs)) / 1_000
        if (received < least) this.#failed({ code: tooSlow, message: `${received} bytes came since` }, socket)
        else connection.watched = { response: newest, sinceMs: nowMs, fromBytes: socket.bytesRead }
      }
    }
  }

  #lookForIdle(): void {
    if (this.#mayCloseIdle) this.#options.handshakes?.closeIdle(idleMs)
    const nowMs = performance.now()
    for (const connection of this.#all) {
      const { socket, idle } = connection
      if (connection.isBusy || connection.isReceiving || idle?.bytesRead !== socket.bytesRead)
        connection.idle = { bytesRead: socket.bytesRead, sinceMs: nowMs }
      else if (this.#mayCloseIdle && nowMs - idle.sinceMs >= idleMs) connection.closeGently()
    }
  }
}

/** So many requests of one connection are taken in a turn. They take about a millisecond. */
const requestsInTurn = 32
/**
 * The connection of a client that sends more requests at once is closed behind so many. 64 KiB have room for 820 of the shortest requests with
 * an event, and for 2,000 empty ones. Parsing 1,000 takes up to 20 ms.
 */
const mostWaiting = 850
/** While the server closes, a silent connection has this time to begin a request. */
const silentGraceMs = 100
/** A client may send an empty line before its first request (RFC 9112, section 2.2). */
const emptyLineBytes = 2
/** The listener closes when no connection has come for this time. It is shorter than the pause between two health checks. */
const quietMs = 200
/** The listener closes after this time in any case. */
const quietWithinMs = 1_000
/** A connection counts as idle when nothing has come over it for this time. */
const idleMs = 1_000
const lookEveryMs = 50

/**
 * What is wrong with the Host of a request; null: nothing. A request of HTTP/1.1 has one Host line. No version allows two lines, or a value
 * that is no host (RFC 9112, section 3.2). Two gateways in a chain that read different hosts would route a request differently.
 */
function hostFlaw({ rawHeaders, httpVersionMajor, httpVersionMinor }: IncomingMessage): string | null {
  let host: string | null = null
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length !== 4 || name.toLowerCase() !== 'host') continue
    if (host !== null) return 'a request has one Host line, and this one has more'
    host = rawHeaders[at + 1]!
  }
  if (host === null) {
    const isNeeded = httpVersionMajor === 1 && httpVersionMinor === 1
    return isNeeded ? 'a request of HTTP/1.1 has a Host line, and this one has none' : null
  }
  return hostAndPort.test(host) ? null : 'the Host line is not host or host:port'
}

/** RFC 3986, section 3.2.2: a name or an IPv4 address, or an IP address in brackets. Empty if the target of the request has no host. */
const hostAndPort =
  /^(?:\[[0-9a-z:.\-_~!$&'()*+,;=]+\]|(?:[0-9a-z\-._~!$&'()*+,;=]|%[0-9a-f]{2})*)(?::\d*)?$/i
