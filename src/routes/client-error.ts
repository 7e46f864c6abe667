import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { GatewayError, errorTable } from '../errors.ts'
import { toProblem } from './problem.ts'

/** What node:http tells of a request that never became one. */
export interface ClientError extends Error {
  readonly code?: string
}

/** node:http keeps the reply that a socket is busy with here, and its own handler looks at it too. */
interface HttpSocket extends Socket {
  readonly _httpMessage?: ServerResponse | null
}

/**
 * Answers what node:http's parser refuses (too large a header, malformed HTTP) and bodies that took too long
 * (`requestTimeout`), as a problem on the bare socket, and closes it. An earlier request on the socket that still waits
 * for its reply must not get this one, for it may have been accepted: then nothing is said.
 */
export function answerClientError(error: ClientError, socket: Socket): void {
  const pending = (socket as HttpSocket)._httpMessage ?? null
  const isOthersReply = pending !== null && (pending.headersSent || pending.req.complete)
  if (error.code === 'ECONNRESET' || !socket.writable || isOthersReply) {
    socket.destroy()
    return
  }
  const problem = toProblem(toGatewayError(error))
  const body = JSON.stringify(problem)
  const head = [
    `HTTP/1.1 ${problem.status} ${reasons[problem.status] ?? 'Error'}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  // Whatever the client still sends is thrown away; without this the socket would stay half open as long as it likes.
  socket.destroySoon()
}

const reasons: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
}

function toGatewayError(error: ClientError): GatewayError {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new GatewayError('body_timeout', 'the request was not complete in time')
    case 'HPE_HEADER_OVERFLOW':
      return new GatewayError('headers_too_large', 'header fields may have 16 KiB together')
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new GatewayError('body_too_large', 'chunk extensions may have 16 KiB')
    default:
      return new GatewayError(
        'invalid_request',
        `malformed HTTP (${error.code ?? errorTable.invalid_request.title})`,
      )
  }
}
