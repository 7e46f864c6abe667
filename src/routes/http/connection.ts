import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/**
 * What is known of one connection beside what node:http knows. `connections.ts` makes one for each connection; nothing else
 * changes it but {@link makeLast}.
 */
export class Connection {
  readonly socket: Socket
  /** The reply to the newest request; null before the first one. Node sends replies in the order of their requests. */
  newest: ServerResponse | null = null
  /** The newest reply is the last: nothing that comes behind its request is read as a request. */
  isEnding = false
  /** Something came that is no request. It is answered once, and what comes behind it is thrown away. */
  hasFailed = false
  /** The incomplete request whose progress is watched, and how much the connection had received when its window began. */
  watched: { response: ServerResponse; sinceMs: number; fromBytes: number } | null = null
  /** While the gateway leaves: how many bytes had come at the last look, and since when nothing has come. */
  idle: { bytesRead: number; sinceMs: number } | null = null

  constructor(socket: Socket) {
    this.socket = socket
  }

  /** A request has come whose reply is not with the kernel yet. */
  get isBusy(): boolean {
    return this.newest !== null && !this.newest.writableFinished && !this.newest.destroyed
  }

  /** The newest request is still being received. */
  get isReceiving(): boolean {
    return this.newest !== null && !this.newest.req.complete
  }

  /**
   * Says that nothing more will be sent, and throws away what the client still sends, for a while: closing a socket that
   * has unread input resets it, and the reset can overtake the reply (RFC 9112, section 9.6).
   */
  closeGently(): void {
    this.isEnding = true
    const { socket } = this
    if (socket.destroyed || socket.writableEnded) return
    socket.end()
    socket.resume()
    const fromBytes = socket.bytesRead
    const untilMs = performance.now() + lingerMs
    const timer = setInterval(() => {
      if (performance.now() > untilMs || socket.bytesRead - fromBytes > lingerBytes) socket.destroy()
    }, lingerMs / 20)
    socket.once('close', () => clearInterval(timer))
  }
}

/** Most that is read and thrown away before a connection is closed whose client goes on sending. */
const lingerBytes = 16 * 1024 * 1024
const lingerMs = 2_000

const ofSocket = new WeakMap<Socket, Connection>()

/** Begins to track a connection. The server that accepted the connection calls this once. */
export function trackConnection(socket: Socket): Connection {
  const connection = new Connection(socket)
  ofSocket.set(socket, connection)
  // node:http calls this behind a reply that says `Connection: close`. Its own way leaves no time to read what is unread.
  socket.destroySoon = () => connection.closeGently()
  return connection
}

/** The connection of a socket; undefined where no server of ours accepted it, as in tests without one. */
export function connectionOf(socket: Socket): Connection | undefined {
  return ofSocket.get(socket)
}

/**
 * Makes a reply the last of its connection: it says `Connection: close`, and nothing behind its request is read (RFC 9112,
 * section 9.6). To be called before its header is written, and only for the newest request of a connection.
 */
export function makeLast(response: ServerResponse): void {
  response.shouldKeepAlive = false
  const connection = connectionOf(response.req.socket)
  if (connection !== undefined) connection.isEnding = true
}
