import type { Server } from 'node:http'
import type { Socket } from 'node:net'

/**
 * The connections of a server over which nothing has come yet: browsers open some ahead of need. For node:http such a
 * connection is under way and not idle, so closing would wait for it as long as for a slow body.
 */
export class SilentConnections {
  readonly #sockets = new Set<Socket>()

  constructor(server: Server) {
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  /** Closes those that stay silent for another moment: the first bytes of a request can be on their way. */
  close(): void {
    setTimeout(() => {
      for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy()
    }, graceMs)
  }
}

const graceMs = 100
