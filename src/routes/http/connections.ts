import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { Server as Listener, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { HttpLimits } from '../../config/config.ts'
import { GatewayError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import {
  isEndOfInput,
  isOfParser,
  notAProxy,
  toClientProblem,
  tooSlow,
  writeProblem,
  type ClientError,
} from './client-error.ts'
import { connectionOf, makeLast, trackConnection, type Connection } from './connection.ts'
import type { HttpTimer } from '../../metrics/edge-telemetry.ts'
import { problemHeaders, toProblem } from './problem.ts'
import { tellProblem, transportOf, type Refusals } from './refusals.ts'

/** What {@link Connections} needs. */
export interface ConnectionsOptions {
  readonly limits: HttpLimits
  /** Counts what is refused before a route has it. */
  readonly timer: HttpTimer
  readonly refusals: Refusals
  readonly logger: Logger
}

/** A port that several processes take connections from. They leave it one after the other. */
export interface SharedPort {
  /** Resolves when this process is to take no more connections: to whether no other process takes any. */
  readonly turn: Promise<boolean>
  /** Tells that this process takes no more connections. Resolves when no process takes any: the port is closed. */
  leave(): Promise<void>
}

/**
 * The connections of a server, between node:http and the routes. Read this file of the folder first: `http/` is what every
 * route stands on, and knows no route, no policy and no producer. Invariants: every request that was taken gets its reply,
 * in order, whatever comes behind it on its connection; behind a reply that says `Connection: close` nothing is read.
 */
export class Connections {
  readonly #server: Server
  readonly #handle: RequestListener
  readonly #options: ConnectionsOptions
  readonly #all = new Set<Connection>()
  #newestAtMs = 0
  /** Replies say `Connection: close`. */
  #isEnding = false
  #mayCloseIdle = false

  /** @param server has its one listener for requests already, and is not listening. */
  constructor(server: Server, options: ConnectionsOptions) {
    this.#server = server
    this.#options = options
    const [handle] = server.listeners('request')
    this.#handle = handle as RequestListener
    server.removeAllListeners('request')
    server.on('request', (request, response) => this.#take(request, response))
    server.on('checkContinue', (request, response) => this.#takeOnceContinued(request, response))
    server.on('connection', (socket) => this.#track(socket))
    // Without a listener node:http closes the connection, and with it whatever waits for a reply.
    server.on('connect', (_request, socket) => this.#failed(notAProxy, socket as Socket))
    // A client that ends its side behind its last request gets the replies all the same.
    ;(server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true
    const { bodyTimeoutMs } = options.limits
    server.once('listening', () => {
      const timer = setInterval(() => this.#watch(), Math.min(1_000, Math.ceil(bodyTimeoutMs / 4)))
      timer.unref()
      server.once('close', () => clearInterval(timer))
    })
  }

  /**
   * What node:http tells of a connection on which something came that is no request, or did not come in time. Requests
   * that were taken before get their replies, then the problem goes out, then the connection is closed.
   */
  readonly onClientError = (error: ClientError, socket: Socket): void => {
    if (isOfParser(error)) this.#failed(error, socket)
    else socket.destroy()
  }

  /** From now on each reply is the last of its connection, and says so; or no longer. What is open and idle stays open. */
  setEnding(isEnding: boolean): void {
    this.#isEnding = isEnding
    if (!isEnding) return
    for (const { newest, isBusy } of this.#all) if (isBusy && newest?.headersSent === false) makeLast(newest)
  }

  /**
   * Closes connections over which nothing has come yet: browsers open some ahead of need. For node:http such a connection is
   * under way and not idle, so closing would wait for it as long as for a slow body. Those that stay silent for another
   * moment: the first bytes of a request can be on their way.
   */
  closeSilent(): void {
    setTimeout(() => {
      for (const { socket } of this.#all) if (socket.bytesRead === 0) socket.destroy()
    }, silentGraceMs)
  }

  /**
   * The gateway is going to leave: replies are the last of their connections from now on. All else is as before.
   * @returns how to leave, which is to be called once those who send have had time to learn of it. `port`: see
   * {@link SharedPort}; null where no other process takes connections.
   */
  beginToLeave(): (port: SharedPort | null) => Promise<void> {
    this.setEnding(true)
    const looking = setInterval(() => this.#lookForIdle(), lookEveryMs)
    this.#server.once('close', () => clearInterval(looking))
    return async (port) => await this.#leave(port)
  }

  /**
   * Stops listening and lets connections go without a request lost, whether those who send know that the gateway leaves or
   * not. Resolves when the last connection is gone.
   *
   * A listener that closes resets the connections that the kernel has and the process has not yet. So it closes in a quiet
   * moment, and replies stop to say `Connection: close` until it has: whoever keeps connections then needs no new ones. Idle
   * connections are closed after a while, since a request can be on its way on one that was used just now.
   * @param port where other processes take connections too. The listener is gone when no process takes any.
   */
  async #leave(port: SharedPort | null): Promise<void> {
    this.#mayCloseIdle = true
    this.#lookForIdle()
    this.setEnding(false)
    if (port === null) await this.#untilQuiet()
    else if (await port.turn) {
      // Until now the other processes had a share of the connections, and this one has not seen them.
      this.#newestAtMs = performance.now()
      await this.#untilQuiet()
    }
    // Only the listener: node:http's own `close` takes idle connections along.
    Listener.prototype.close.call(this.#server)
    await port?.leave()
    this.setEnding(true)
    while (this.#all.size > 0) await pause(lookEveryMs)
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
      // Not answered, and not read, but that what is behind it can be thrown away too.
      request.resume()
      return
    }
    connection.newest = response
    if (this.#isEnding || !response.shouldKeepAlive) makeLast(response)
    const flaw = hostFlaw(request)
    if (flaw === null) this.#handle(request, response)
    else this.#refuse(response, new GatewayError('invalid_request', flaw))
  }

  /**
   * A client that asks before it sends a body (`Expect: 100-continue`, as curl does) is not told to go on if the body is
   * going to be refused for its size (RFC 9110, section 10.1.1).
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
    // Behind a reply that says `Connection: close` nothing is read, garbage neither.
    if (connection.hasFailed || (connection.isEnding && !connection.isReceiving)) return
    connection.hasFailed = true
    if (connection.isReceiving) this.#failRequest(connection, error)
    else this.#failBehind(connection, error)
  }

  /** The newest request is at fault: its own reply says so, which node:http sends behind those to earlier requests. */
  #failRequest(connection: Connection, error: ClientError): void {
    const response = connection.newest!
    const problem = toClientProblem(error, this.#options.limits, true)
    if (response.headersSent) {
      // It was refused before its end.
      if (connection.isBusy) response.once('finish', () => connection.closeGently())
      else connection.closeGently()
      return
    }
    makeLast(response)
    // Whoever reads the body answers, as for any other flaw of it. One that nobody reads yet is answered here, and so is one
    // whose client went away or ended its side: that is no refusal to count.
    if (!isEndOfInput(error) && response.req.listenerCount('error') > 0) response.req.emit('error', problem)
    if (!response.headersSent) this.#refuse(response, problem, error)
  }

  /** What comes behind the newest request is no request. */
  #failBehind(connection: Connection, error: ClientError): void {
    const { socket, newest } = connection
    connection.isEnding = true
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead <= emptyLineBytes) {
      // Nothing was asked: what is sent now would be read as the answer to the first request (RFC 9112, section 9.5).
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
    // Until then what else comes stays with the kernel.
    socket.pause()
    newest!.once('finish', say)
  }

  /** Answers a request that no route has, and reads nothing behind it. */
  #refuse(response: ServerResponse, problem: GatewayError, cause: ClientError = problem): void {
    this.#count(problem, cause, response.req.url)
    makeLast(response)
    if (transportOf(response.req.url ?? '') !== 'http') tellProblem(response, problem)
    const body = JSON.stringify(toProblem(problem))
    response.writeHead(problem.status, [
      ...problemHeaders(problem),
      'content-length',
      String(Buffer.byteLength(body)),
    ])
    response.end(body)
  }

  /** @param url of the request, where its header was read. */
  #count(problem: GatewayError, { code: cause, message }: ClientError, url = ''): void {
    const { refusals, timer, logger } = this.#options
    timer.observe(problem.status, 0)
    refusals.refused(problem, { transport: transportOf(url), stream: null, request: null })
    logger.debug(
      { code: problem.code, cause, message },
      'a connection is closed: what came over it is refused',
    )
  }

  /** Ends requests whose body comes too slowly. One look a second takes nothing from those that come at once. */
  #watch(): void {
    const { bodyTimeoutMs, bodyMinBytesPerSecond } = this.#options.limits
    const nowMs = performance.now()
    for (const connection of this.#all) {
      const { socket, newest, watched } = connection
      if (newest === null || connection.hasFailed || !connection.isReceiving) connection.watched = null
      else if (watched?.response !== newest || newest.req.readableFlowing !== true) {
        // It is new, or it is us who do not read.
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
    const nowMs = performance.now()
    for (const connection of this.#all) {
      const { socket, idle } = connection
      if (connection.isBusy || connection.isReceiving || idle?.bytesRead !== socket.bytesRead)
        connection.idle = { bytesRead: socket.bytesRead, sinceMs: nowMs }
      else if (this.#mayCloseIdle && nowMs - idle.sinceMs >= idleMs) connection.closeGently()
    }
  }
}

/** The moment in which a connection that is silent may still begin to speak, while the server closes. */
const silentGraceMs = 100
/** What a client may send before its first request without having asked for anything (RFC 9112, section 2.2). */
const emptyLineBytes = 2
/** The listener closes when no connection has come for so long: less than the pause between two health checks. */
const quietMs = 200
/** The listener closes after so long in any case. */
const quietWithinMs = 1_000
/** A connection that nothing came over for so long is not in use. */
const idleMs = 1_000
const lookEveryMs = 50

/**
 * What is wrong with the Host of a request; null: nothing. HTTP/1.1 needs one line of it, and no version takes two, or a
 * value that is no host (RFC 9112, section 3.2). Gateways in a chain that read different hosts route differently.
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

/** RFC 3986, section 3.2.2: a name or an IPv4 address, or an IP address in brackets; empty where the target has no host. */
const hostAndPort =
  /^(?:\[[0-9a-z:.\-_~!$&'()*+,;=]+\]|(?:[0-9a-z\-._~!$&'()*+,;=]|%[0-9a-f]{2})*)(?::\d*)?$/i
