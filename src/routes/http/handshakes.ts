import { createHash, hkdfSync, constants } from 'node:crypto'
import { createServer, type Server, type ServerOptions } from 'node:https'
import type { RequestListener } from 'node:http'
import type { Socket } from 'node:net'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { TlsConfig } from '../../config/config.ts'
import type { HttpLimits } from '../../config/limits.ts'
import { GatewayError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { type FailedHandshake, failedHandshakes } from '../../metrics/edge-telemetry.ts'
import { clientPrefix } from './client-address.ts'
import { writeProblem } from './client-error.ts'
import type { Refusals } from './refusals.ts'

/** Makes an HTTPS server in place of node:http's, for the same requests. `options` are those of {@link Server} apart from TLS. */
export function createTlsServer(
  options: ServerOptions,
  handle: RequestListener,
  { tls, ticketSecret, limits }: { tls: TlsConfig; ticketSecret: string; limits: HttpLimits },
): Server {
  return createServer(
    {
      ...options,
      ...secureContextOf(tls, ticketSecret),
      ALPNProtocols: ['http/1.1'],
      requestCert: tls.clientCa !== null,
      // Judged by `Handshakes`: a client without a certificate may have a key.
      rejectUnauthorized: false,
      handshakeTimeout: limits.bodyTimeoutMs,
    },
    handle,
  )
}

/**
 * Everything that a new certificate brings: node:tls forgets what it is not told again.
 *
 * The key of the session tickets follows from a secret that all workers have, so a client goes on with its session whichever
 * worker it meets. It follows from the clients' authorities too: a session keeps the certificate of its client, and must not
 * outlive the authority that signed it.
 */
function secureContextOf({ cert, key, clientCa }: TlsConfig, ticketSecret: string): SecureContextOptions {
  const authorities = createHash('sha256')
    .update(clientCa ?? '')
    .digest()
  return {
    cert,
    key,
    ...(clientCa !== null && { ca: clientCa }),
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers,
    // All of them are good, so the client has the choice: ChaCha20 where it has no AES in hardware, as many devices.
    honorCipherOrder: false,
    // A client could have the server do its most expensive step again and again, over one connection (RFC 7457, section 2.8).
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    sessionIdContext: 'chute',
    // Node gives OpenSSL no time of its own, and OpenSSL takes two hours.
    sessionTimeout: sessionSeconds,
    ticketKeys: Buffer.from(hkdfSync('sha256', ticketSecret, authorities, 'chute session tickets', 48)),
  }
}

/** How long a session can be resumed. */
const sessionSeconds = 300

/**
 * TLS 1.3, and of TLS 1.2 what has forward secrecy and authenticated encryption: the list "intermediate" of Mozilla's Server Side
 * TLS, without the finite-field suites, which need parameters of their own.
 */
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** What {@link Handshakes} needs. */
export interface HandshakesOptions {
  readonly asksForCertificate: boolean
  readonly ticketSecret: string
  readonly refusals: Refusals
  readonly logger: Logger
}

/**
 * Connections to a TLS server between their first byte and the end of their handshake. Each one that fails is counted once, and
 * logged: a line a second at most. Invariant: a certificate that `TLS_CLIENT_CA` did not sign ends its connection before a
 * request of it is read.
 */
export class Handshakes {
  /** By reason. */
  readonly failed: Record<FailedHandshake, number> = { ...noneFailed }
  readonly #server: Server
  readonly #options: HandshakesOptions
  /** With how much they had received at the last look, and since when it is no more. */
  readonly #underWay = new Map<Socket, { bytesRead: number; sinceMs: number }>()
  #unsaid: Partial<Record<FailedHandshake, number>> = {}
  #saying: NodeJS.Timeout | null = null

  constructor(server: Server, options: HandshakesOptions) {
    this.#server = server
    this.#options = options
    server.on('connection', (socket: Socket) => {
      this.#underWay.set(socket, { bytesRead: 0, sinceMs: performance.now() })
      socket.once('close', () => this.#underWay.delete(socket))
    })
    // Node's own makes an error of HTTP of it.
    server.removeAllListeners('tlsClientError')
    server.on('tlsClientError', (error, socket) => this.#onFailure(error, socket))
  }

  /** How many there are. */
  get underWay(): number {
    return this.#underWay.size
  }

  /** New connections get another certificate. Those that there are go on with theirs. */
  renew(tls: TlsConfig): void {
    this.#server.setSecureContext(secureContextOf(tls, this.#options.ticketSecret))
  }

  /**
   * Calls `take` with each connection whose handshake is over, once node:http has it. To be called once.
   *
   * A client can send its first request together with the end of its handshake, and node:http reads it even if the connection
   * is destroyed at once. So node:http does not get a connection that is refused.
   */
  onSecure(take: (socket: TLSSocket) => void): void {
    const [serve] = this.#server.listeners('secureConnection')
    this.#server.removeAllListeners('secureConnection')
    this.#server.on('secureConnection', (socket) => {
      if (!this.#finish(socket)) return
      // As with node:http: a client that ends its side behind its last request gets the replies all the same. Not before: a
      // client that goes away in the midst of its handshake has gone.
      socket.allowHalfOpen = true
      serve!.call(this.#server, socket)
      take(socket)
    })
  }

  /** @returns false: the client showed a certificate that no authority of `TLS_CLIENT_CA` signed, and the connection is gone. */
  #finish(socket: TLSSocket): boolean {
    const raw = transportOf(socket)
    if (raw !== undefined) this.#underWay.delete(raw)
    if (!this.#options.asksForCertificate) return true
    const certificate = socket.getPeerX509Certificate()
    // A session that is resumed counts as authorized, also where its client showed no certificate.
    if (certificate === undefined) return true
    // A session that is resumed is authorized as it was at first, and each one brings a ticket for the next. OpenSSL does not look at the end of
    // the certificate again.
    const hasEnded = Date.parse(certificate.validTo) <= Date.now()
    if (socket.authorized && !hasEnded) {
      names.set(socket, nameOf(socket))
      return true
    }
    this.#count('client_certificate', socket, String(socket.authorizationError ?? 'CERT_HAS_EXPIRED'))
    // node:tls has taken its own listener away, and OpenSSL reads on behind the handshake: an error there would end the process.
    socket.on('error', () => {})
    socket.destroy()
    return false
  }

  /** Closes connections that have not sent a byte yet. */
  closeSilent(): void {
    for (const socket of this.#underWay.keys()) if (socket.bytesRead === 0) socket.destroy()
  }

  /** Closes connections over which nothing has come for `idleMs`. To be called again and again. */
  closeIdle(idleMs: number): void {
    const nowMs = performance.now()
    for (const [socket, seen] of this.#underWay) {
      if (socket.bytesRead !== seen.bytesRead) {
        seen.bytesRead = socket.bytesRead
        seen.sinceMs = nowMs
      } else if (nowMs - seen.sinceMs >= idleMs) socket.destroy()
    }
  }

  #onFailure(error: Error & { readonly code?: string }, socket: TLSSocket): void {
    const reason = reasonOf(error.code ?? '')
    this.#count(reason, socket, error.code ?? error.message)
    const raw = transportOf(socket)
    if (reason === 'plain_http' && raw?.writable === true) {
      const problem = new GatewayError(
        'invalid_request',
        'this port speaks HTTPS, and the request is plain HTTP',
      )
      this.#options.refusals.refused(problem, {
        transport: 'http',
        stream: null,
        request: null,
        batch: null,
        body: null,
      })
      // Node closes the connection behind it.
      writeProblem(raw, problem)
    }
    socket.destroy()
  }

  #count(reason: FailedHandshake, { remoteAddress }: TLSSocket, cause: string): void {
    this.failed[reason]++
    const client = remoteAddress === undefined ? null : clientPrefix(remoteAddress)
    this.#options.logger.debug({ reason, cause, client }, 'a TLS handshake failed')
    // Health checks of load balancers connect and go.
    if (reason === 'closed') return
    this.#unsaid[reason] = (this.#unsaid[reason] ?? 0) + 1
    if (this.#saying !== null) return
    this.#say({ cause, client })
  }

  #say(example: object): void {
    this.#options.logger.info({ failed: this.#unsaid, ...example }, 'TLS handshakes failed')
    this.#unsaid = {}
    this.#saying = setTimeout(() => {
      this.#saying = null
      if (Object.keys(this.#unsaid).length > 0) this.#say({})
    }, logIntervalMs).unref()
  }
}

/**
 * The name of the client of a connection: the common name of the certificate that it has shown, if an authority of `TLS_CLIENT_CA`
 * signed the certificate. null: there is no such certificate, or its subject has no common name, or several.
 */
export function clientCertificateName(socket: Socket): string | null {
  return names.get(socket) ?? null
}

/** Looked up once a connection: it takes some microseconds. */
const names = new WeakMap<Socket, string | null>()

function nameOf(socket: TLSSocket): string | null {
  // An array where there are several.
  const name: unknown = socket.getPeerCertificate().subject?.CN
  return typeof name === 'string' && name !== '' ? name : null
}

/** The connection below TLS. Node does not document the property; without it a client of plain HTTP is not answered. */
function transportOf(socket: TLSSocket): Socket | undefined {
  return (socket as TLSSocket & { readonly _parent?: Socket })._parent
}

const noneFailed = Object.fromEntries(failedHandshakes.map((reason) => [reason, 0])) as Record<
  FailedHandshake,
  number
>

/** The reason of an error of Node or OpenSSL. */
function reasonOf(code: string): FailedHandshake {
  switch (code) {
    case 'ERR_SSL_HTTP_REQUEST':
    case 'ERR_SSL_HTTPS_PROXY_REQUEST':
      return 'plain_http'
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return 'timeout'
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ETIMEDOUT':
    case 'ERR_SSL_UNEXPECTED_EOF_WHILE_READING':
      return 'closed'
    case 'ERR_SSL_UNSUPPORTED_PROTOCOL':
    case 'ERR_SSL_VERSION_TOO_LOW':
    case 'ERR_SSL_UNKNOWN_PROTOCOL':
      return 'version'
    case 'ERR_SSL_NO_SHARED_CIPHER':
    case 'ERR_SSL_NO_SUITABLE_KEY_SHARE':
    case 'ERR_SSL_NO_SUITABLE_GROUPS':
    case 'ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM':
    case 'ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHMS':
      return 'cipher'
    case 'ERR_SSL_NO_APPLICATION_PROTOCOL':
      return 'alpn'
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
    case 'ERR_SSL_BAD_PACKET_LENGTH':
    case 'ERR_SSL_RECORD_TOO_SMALL':
    case 'ERR_SSL_UNEXPECTED_MESSAGE':
      return 'not_tls'
    default:
      return /_ALERT_/.test(code) ? 'client_alert' : 'other'
  }
}

const logIntervalMs = 1_000
