import type { Socket } from 'node:net'
import type { HttpLimits } from '../../config/limits.ts'
import { errorTable, GatewayError } from '../../errors.ts'
import { problemHeaders, toProblem } from './problem.ts'

/** An error of node:http: bytes came that are no request, or a request did not come in time. */
export interface ClientError {
  readonly code?: string
  /** For people. */
  readonly message: string
  /** What the parser was given last: a Buffer, whatever Fastify's types say. */
  readonly rawPacket?: unknown
}

/** The code of a body that came too slowly. */
export const tooSlow = 'CHUTE_TOO_SLOW'

/** The code of a body that came in very many very small pieces. */
export const tinyPieces = 'CHUTE_TINY_PIECES'

/** The error of CONNECT, which is no request for a resource. node:http has an event of its own for it. */
export const notAProxy: ClientError = { code: 'CHUTE_CONNECT', message: 'CONNECT' }

/** The error of bytes that node:http has lost: see `watchUpgrade` of input.ts. */
export const behindUpgrade: ClientError = { code: 'CHUTE_BEHIND_UPGRADE', message: 'Upgrade' }

/** Whether the client can be answered. All other errors are errors of the socket. */
export function isOfParser({ code = '' }: ClientError): boolean {
  return code.startsWith('HPE_') || code === 'ERR_HTTP_REQUEST_TIMEOUT'
}

/** Whether the client ended its side, or went away, in the middle of a request. */
export function isEndOfInput({ code }: ClientError): boolean {
  return code === 'HPE_INVALID_EOF_STATE'
}

/**
 * The problem that answers an error.
 * @param isBody the header of the request was read, and the body is at fault.
 */
export function toClientProblem(error: ClientError, limits: HttpLimits, isBody: boolean): GatewayError {
  const { bodyTimeoutMs, bodyTimeoutMaxMs, bodyMinBytesPerSecond } = limits
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return isBody
        ? timeout(`the request was not complete after ${bodyTimeoutMaxMs} ms (BODY_TIMEOUT_MAX_MS)`)
        : timeout(`the header of the request was not complete after ${bodyTimeoutMs} ms (BODY_TIMEOUT_MS)`)
    case tooSlow:
      return timeout(
        `the body was not complete after ${bodyTimeoutMs} ms (BODY_TIMEOUT_MS), and ${error.message}; from then on it has to come at ${bodyMinBytesPerSecond} bytes a second or faster (BODY_MIN_BYTES_PER_SECOND)`,
      )
    case tinyPieces:
      return new GatewayError('chunks_too_small', error.message)
    case 'HPE_HEADER_OVERFLOW':
      return isBody
        ? new GatewayError('headers_too_large', 'trailer fields may have 16 KiB together')
        : new GatewayError('headers_too_large', 'the address and the header fields may have 16 KiB together')
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new GatewayError('body_too_large', 'chunk extensions may have 16 KiB')
    case 'HPE_INVALID_EOF_STATE':
      return new GatewayError('invalid_request', 'the client ended its side before the request was complete')
    case notAProxy.code:
      return new GatewayError('invalid_request', 'CONNECT is for proxies, and this is none')
    case behindUpgrade.code:
      return new GatewayError(
        'invalid_request',
        'bytes came behind a request with Upgrade, before its reply, and were not read; send them over another connection',
      )
    case 'HPE_PAUSED_H2_UPGRADE':
      return malformed('HTTP/2 is not spoken here: use HTTP/1.1', error)
    case 'HPE_UNEXPECTED_CONTENT_LENGTH':
      return malformed('a request has one Content-Length line, and this one has more', error)
    case 'HPE_INVALID_METHOD':
      return isTlsHandshake(error)
        ? malformed('this port has no TLS, and a TLS handshake came: use http://', error)
        : malformed('malformed HTTP', error)
    default:
      return malformed('malformed HTTP', error)
  }
}

function malformed(what: string, { code }: ClientError): GatewayError {
  return new GatewayError('invalid_request', `${what} (${code ?? errorTable.invalid_request.title})`)
}

/** Whether the bytes are a record of TLS, of the type handshake (RFC 8446, section 5.1). */
function isTlsHandshake({ rawPacket }: ClientError): boolean {
  return Buffer.isBuffer(rawPacket) && rawPacket[0] === 0x16 && rawPacket[1] === 0x03
}

function timeout(detail: string): GatewayError {
  return new GatewayError('body_timeout', detail)
}

/** Writes a problem to a connection without a request, on which node:http has no reply object. */
export function writeProblem(socket: Socket, error: GatewayError): void {
  const body = JSON.stringify(toProblem(error))
  const fields = problemHeaders(error)
  const head = [`HTTP/1.1 ${error.status} ${reasons[error.status] ?? 'Error'}`]
  for (let at = 0; at < fields.length; at += 2) head.push(`${fields[at]}: ${fields[at + 1]}`)
  head.push(`content-length: ${Buffer.byteLength(body)}`, 'connection: close')
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
}

const reasons: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
}
