import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'

/**
 * Writes a whole reply past Fastify's serialisers and hooks, which cost more than everything else that an ingest route
 * does with a small event. Fastify is told (`hijack`), so that it does not wait for a reply of its own.
 *
 * @param headers names and values in turn, as `writeHead` takes them. What was set on `reply.raw` before (CORS, rate
 * limits) is sent too; `content-length` is added here.
 * @param body text, so that node:http sends it in one write with the header.
 */
export function replyRaw(
  reply: FastifyReply,
  statusCode: number,
  headers: readonly string[],
  body: string,
): void {
  reply.hijack()
  writeReply(reply.raw, statusCode, headers, body)
}

function writeReply(
  response: ServerResponse,
  statusCode: number,
  headers: readonly string[],
  body: string,
): void {
  if (response.destroyed || response.headersSent) return
  const length = String(Buffer.byteLength(body))
  response.writeHead(statusCode, [...headers, 'content-length', length])
  const { socket } = response
  if (socket === null) {
    // The connection still has the reply to an earlier request to send.
    response.end(body)
    return
  }
  socket.cork()
  if (body !== '') response.write(body)
  if (ready.push(response) === 1) setImmediate(sendReplies)
}

/** Replies that are written, and go to the kernel once what came in with their requests has been read. */
let ready: ServerResponse[] = []

/**
 * Sends the replies of a turn of the event loop one right after the other, at the end of the turn, or when it is called. Sent one
 * by one as they become ready, each wakes up whoever waits for it at the other end of a local connection, which costs as
 * much as all that is done for a small request.
 */
export function sendReplies(): void {
  if (ready.length === 0) return
  const responses = ready
  ready = []
  for (const response of responses) {
    // `end(body)` would hand over two pieces, the second one empty, and the socket takes one piece in less time.
    response.socket?.uncork()
    response.end()
  }
}

/** Most that is read of a refused body before its connection is closed, in bytes and in milliseconds. */
const lingerBytes = 16 * 1024 * 1024
const lingerMs = 2_000

/**
 * Replies to a request whose body may not have been read to its end. If much of it may be left, the connection is closed
 * too. Not at once: closing a socket
 * that has unread input resets it, and the reset can overtake the reply (RFC 9112, section 9.6). So the rest is read
 * and thrown away for a while, and most clients stop sending once they see the reply.
 */
export function replyRawAndClose(
  reply: FastifyReply,
  statusCode: number,
  headers: readonly string[],
  body: string,
): void {
  const { raw: request } = reply.request
  if (request.readableEnded || isRestShort(request)) {
    replyRaw(reply, statusCode, headers, body)
    return
  }
  reply.hijack()
  const response = reply.raw
  if (response.destroyed || response.headersSent) return
  const length = String(Buffer.byteLength(body))
  response.writeHead(statusCode, [...headers, 'content-length', length, 'connection', 'close'])
  // The reply is complete with this; `end` only closes the connection.
  response.write(body)
  discardRest(request, () => response.end())
}

/** Of a short body node:http reads the rest by itself, and the connection can go on. */
function isRestShort({ headers }: IncomingMessage): boolean {
  return (
    headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= shortBodyBytes
  )
}

const shortBodyBytes = 65_536

function discardRest(request: IncomingMessage, done: () => void): void {
  let discardedBytes = 0
  const stop = (): void => {
    clearTimeout(timer)
    request.removeAllListeners('data')
    done()
  }
  const timer = setTimeout(stop, lingerMs)
  request.on('data', (chunk: Buffer) => {
    discardedBytes += chunk.length
    if (discardedBytes > lingerBytes) stop()
  })
  request.once('end', stop)
  request.once('close', stop)
  request.on('error', () => {})
  request.resume()
}
