import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import { vi } from 'vitest'

let tlsOfClients: ConnectionOptions | null = null

/** Clients that are made from now on speak TLS; null: they do not. */
export function connectWith(options: ConnectionOptions | null): void {
  tlsOfClients = options
}

/** A connection as a test drives it: it writes bytes and waits for what comes back. */
export class SocketClient {
  readonly socket: Socket
  received = ''
  closed = false
  readonly #path: string

  /** @param path where `post` posts to. */
  constructor(port: number, path: string) {
    this.#path = path
    this.socket =
      tlsOfClients === null
        ? connect(port, '127.0.0.1')
        : connectTls({ port, host: '127.0.0.1', ...tlsOfClients })
    this.socket.setEncoding('latin1')
    this.socket.on('data', (text: string) => {
      this.received += text
    })
    this.socket.on('close', () => {
      this.closed = true
    })
    this.socket.on('error', () => {})
  }

  /** Writes a whole request. */
  post(body: string, headers: readonly string[] = []): void {
    this.socket.write(this.request(body, headers))
  }

  /** The bytes of a request; `Content-Length` is right unless `headers` has one. */
  request(body: string, headers: readonly string[] = []): string {
    const isFramed = headers.some((header) => /^(content-length|transfer-encoding):/i.test(header))
    const length = isFramed ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]
    return [`POST ${this.#path} HTTP/1.1`, 'Host: a', ...length, ...headers, '', body].join('\r\n')
  }

  /** The statuses of all replies so far, in order. */
  get statuses(): number[] {
    return Array.from(this.received.matchAll(/HTTP\/1\.1 (\d{3})/g), ([, status]) => Number(status))
  }

  async receives(pattern: RegExp): Promise<void> {
    await vi.waitUntil(() => pattern.test(this.received), { timeout: 10_000 })
  }

  async closes(): Promise<void> {
    if (!this.closed) await once(this.socket, 'close')
  }
}
