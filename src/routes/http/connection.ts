import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { discardInput, prepareInput } from './input.ts'

/**
 * The state of one connection, besides the state in node:http. `connections.ts` makes one for each connection. Only that file,
 * {@link makeLast} and {@link forgetReply} change it.
 */
export class Connection {
  readonly socket: Socket
  /**
   * The reply to the newest request; null before the first one, and once a request and its reply are complete ({@link forgetReply}). Node sends
   * replies in the order of their requests.
   */
  newest: ServerResponse | null = null
  /** The newest reply is the last one. Bytes behind its request are not read as a request. */
  isEnding = false
  /** Bytes came that are no request. They are answered once, and all further bytes are thrown away. */
  hasFailed = false
  /** How many requests came since the last one that found all earlier requests answered. */
  behind = 0
  /** The replies to requests that are taken in a later turn of the event loop, oldest first. */
  readonly waiting: ServerResponse[] = []
  /** The incomplete request whose progress is watched, and how much the connection had received when its window began. */
  watched: { response: ServerResponse; sinceMs: number; fromBytes: number } | null = null
  /** While the gateway leaves: how many bytes had come at the last look, and since when no more have come. */
  idle: { bytesRead: number; sinceMs: number } | null = null

  constructor(socket: Socket) {
    this.socket = socket
  }

  /** The kernel does not have the whole reply to the newest request yet. */
  get isBusy(): boolean {
    return this.newest !== null && !this.newest.writableFinished && !this.newest.destroyed
  }

  /** The newest request is still being received. */
  get isReceiving(): boolean {
    return this.newest !== null && !this.newest.req.complete
  }

  /**
   * Ends the gateway's side of the connection. For a while it reads and throws away the bytes that the client still sends. If a socket with
   * unread input is closed, the kernel resets the connection, and the reset can overtake the reply (RFC 9112, section 9.6).
   */
  closeGently(): void {
    this.isEnding = true
    const { socket } = this
    if (socket.destroyed || socket.writableEnded) return
    socket.end()
    discardInput(socket)
    socket.resume()
    const fromBytes = socket.bytesRead
    const untilMs = performance.now() + lingerMs
    const timer = setInterval(() => {
      if (performance.now() > untilMs || socket.bytesRead - fromBytes > lingerBytes) socket.destroy()
    }, lingerMs / 20)
    socket.once('close', () => clearInterval(timer))
  }
}

/** The most bytes that are thrown away before the connection of a client that keeps sending is closed. */
const lingerBytes = 16 * 1024 * 1024
const lingerMs = 2_000

/** A property of the socket, and no entry of a map: each request looks it up twice. */
const ofSocket = Symbol('connection')
type TrackedSocket = Socket & { [ofSocket]?: Connection }

/** Begins to track a connection. The server that accepted the connection calls this once. */
export function trackConnection(socket: TrackedSocket): Connection {
  const connection = new Connection(socket)
  socket[ofSocket] = connection
  prepareInput(socket)
  // node:http calls this after a reply that says `Connection: close`. Its own version would not read the rest of the input.
  socket.destroySoon = () => connection.closeGently()
  return connection
}

/** The connection of a socket; undefined if no server of ours has accepted the socket, as in tests that inject requests. */
export function connectionOf(socket: TrackedSocket): Connection | undefined {
  return socket[ofSocket]
}

/**
 * Is called when a reply was handed to its socket. If the kernel has all of it, and the request is complete, the connection forgets them. Else
 * each idle connection would keep its last request until the next one: with thousands of connections the collector copied them all. Over TLS the
 * socket has taken all of it only later, and `connections.ts` forgets it then.
 */
export function forgetReply(response: ServerResponse): void {
  const { req: request } = response
  if (!request.complete || request.socket.writableLength > 0) return
  const connection = connectionOf(request.socket)
  if (connection?.newest === response) connection.newest = null
}

/**
 * Makes a reply the last one of its connection. The reply says `Connection: close`, and nothing behind its request is read as a request
 * (RFC 9112, section 9.6). To be called before the header of the reply is written, and only for the newest request of a connection.
 */
export function makeLast(response: ServerResponse): void {
  response.shouldKeepAlive = false
  const connection = connectionOf(response.req.socket)
  if (connection !== undefined) connection.isEnding = true
}
