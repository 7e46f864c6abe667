import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** A request as it came over the wire. */
export interface WireFrame {
  readonly apiKey: number
  readonly apiVersion: number
  readonly correlationId: number
  readonly clientId: string
  readonly body: Buffer
}

/** The broker's end of one connection, played by the test: it keeps what comes and answers what the test says. */
export class LoopbackBroker {
  readonly received: WireFrame[] = []
  readonly socket: Socket
  #bytes = Buffer.alloc(0)
  #listeners: (() => void)[] = []

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (data) => this.#read(data))
    // The client is expected to reset the connection.
    socket.on('error', () => {})
  }

  /** Resolves once so many requests have come since the beginning. */
  async until(count: number): Promise<WireFrame[]> {
    while (this.received.length < count) await new Promise<void>((resolve) => this.#listeners.push(resolve))
    return this.received
  }

  /** Answers a request. */
  answer(correlationId: number, payload: string): void {
    this.socket.write(answerFrame(correlationId, payload))
  }

  #read(data: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, data])
    while (this.#bytes.length >= 4 && this.#bytes.length >= 4 + this.#bytes.readInt32BE(0)) {
      const end = 4 + this.#bytes.readInt32BE(0)
      const bodyAt = 14 + this.#bytes.readInt16BE(12)
      this.received.push({
        apiKey: this.#bytes.readInt16BE(4),
        apiVersion: this.#bytes.readInt16BE(6),
        correlationId: this.#bytes.readInt32BE(8),
        clientId: this.#bytes.toString('utf8', 14, bodyAt),
        body: this.#bytes.subarray(bodyAt, end),
      })
      this.#bytes = this.#bytes.subarray(end)
    }
    for (const listener of this.#listeners.splice(0)) listener()
  }
}

/** An answer's bytes. */
export function answerFrame(correlationId: number, payload: string): Buffer {
  const frame = Buffer.alloc(8 + Buffer.byteLength(payload))
  frame.writeInt32BE(frame.length - 4, 0)
  frame.writeInt32BE(correlationId, 4)
  frame.write(payload, 8)
  return frame
}

/** Both ends of a connection over the loopback device, until the test is over. */
export async function connectLoopback(): Promise<{ client: Socket; broker: LoopbackBroker }> {
  const server: Server = createServer({ noDelay: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const accepted = once(server, 'connection')
  const client = connect({ host: '127.0.0.1', port, noDelay: true })
  const [[socket]] = (await Promise.all([accepted, once(client, 'connect')])) as [[Socket], unknown]
  onTestFinished(() => {
    client.destroy()
    socket.destroy()
    server.close()
  })
  return { client, broker: new LoopbackBroker(socket) }
}
