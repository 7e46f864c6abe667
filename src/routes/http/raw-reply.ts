import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { connectionOf, forgetReply, makeLast } from './connection.ts'
import { withHeldHeaders } from './held-headers.ts'
import { holdInput } from './input.ts'
import { prepareHead } from './reply-head.ts'

/**
 * Writes a whole reply past Fastify's serialisers and hooks. These cost more than all other work of an ingest route on a small event.
 * `hijack` tells Fastify not to wait for a reply of its own.
 *
 * @param headers names and values in turn, as `writeHead` takes them. Headers that were held (`held-headers.ts`: CORS, limits) or set on
 * `reply.raw` before are sent, too. `content-length` is added here.
 * @param body a text, so that node:http sends it in one write with the header; bytes where it is large.
 */
export function replyRaw(
  reply: FastifyReply,
  statusCode: number,
  headers: readonly string[],
  body: string | Buffer,
): void {
  reply.hijack()
  writeReply(reply.raw, statusCode, headers, body)
}

/**
 * Answers with as few bytes as HTTP allows, which are 73, for clients that pay by the byte. The Date takes 37 bytes, and a server with a clock
 * has to send it (RFC 9110, section 6.6.1). A reason phrase may be empty (RFC 9112, section 4). A connection of HTTP/1.1 stays open without a
 * header that says so.
 */
export function replySmallest(reply: FastifyReply, statusCode: number, headers: readonly string[]): void {
  reply.hijack()
  const { raw: response } = reply
  if (response.destroyed || response.headersSent) return
  if (response.shouldKeepAlive && response.req.httpVersionMinor > 0) response.removeHeader('connection')
  response.writeHead(statusCode, '', withHeldHeaders(response, [...headers, 'content-length', '0']))
  sendTogether(response, '', 'latin1')
}

function writeReply(
  response: ServerResponse,
  statusCode: number,
  headers: readonly string[],
  body: string | Buffer,
): void {
  if (response.destroyed || response.headersSent) return
  const length = Buffer.byteLength(body)
  const fields = [...headers, 'content-length', String(length)]
  if (!prepareHead(response, statusCode, fields))
    response.writeHead(statusCode, withHeldHeaders(response, fields))
  // A body of ASCII takes a byte a character, and the kernel gets it without a look at each of them.
  sendTogether(response, body, length === body.length ? 'latin1' : 'utf8')
}

function sendTogether(response: ServerResponse, body: string | Buffer, encoding: 'latin1' | 'utf8'): void {
  const { socket } = response
  if (socket === null) {
    // The reply to an earlier request has to be sent first.
    response.end(body, encoding)
    return
  }
  socket.cork()
  if (body !== '') response.write(body, encoding)
  if (ready.length >= mostReady) sendEarly()
  ready.push(response)
  if (isTurnSet) return
  isTurnSet = true
  setImmediate(endTurn)
}

/** Replies of this turn that are written, and that the kernel does not have yet. */
let ready: ServerResponse[] = []
/** The end of this turn is going to be looked at. */
let isTurnSet = false
/**
 * So many replies wait for each other at most. With thousands of connections a turn has thousands of requests. While all of them wait for
 * their replies, the collector copies them again and again.
 */
const mostReady = 128

/** How many replies of this turn went before its end, since there were many. */
let early = 0
/** Up to here their connections are read again in the same turn: a turn with fewer replies ends soon all the same. */
const earlyUnheld = 1_024
/** Functions that let connections be read again. */
let heldInputs: (() => void)[] = []

/**
 * A client that has its reply sends again at once, and Node reads up to 48 × 1,024 requests before it leaves the poll phase. With thousands of
 * connections a turn then took a second, and no batch went to Kafka meanwhile. From the 1,025th reply on, a connection whose reply goes early
 * is not read again in that turn.
 */
function sendEarly(): void {
  early += ready.length
  if (early > earlyUnheld)
    for (const { socket } of ready)
      if (socket !== null && connectionOf(socket) !== undefined) heldInputs.push(holdInput(socket))
  sendReplies()
}

function endTurn(): void {
  isTurnSet = false
  early = 0
  const goOn = heldInputs
  heldInputs = []
  try {
    sendReplies()
  } finally {
    for (const each of goOn) each()
  }
}

/**
 * Hands the replies of a turn of the event loop to the kernel, one right after the other, at the end of the turn, when {@link mostReady} wait, or when this is called. A
 * reply that is sent alone wakes up its client. If the client is on the same machine, that costs as much as the whole work on a small request.
 */
export function sendReplies(): void {
  if (ready.length === 0) return
  const responses = ready
  ready = []
  for (const response of responses) {
    // `end(body)` would hand over two pieces, of which the second one is empty. One piece takes less time.
    response.socket?.uncork()
    response.end()
    forgetReply(response)
  }
}

/**
 * Replies to a request whose body may not have been read to its end. If much of the body may be left, the connection is closed, too
 * (`Connection.closeGently`): the rest is read and thrown away for a while. Most clients stop sending once they see the reply.
 */
export function replyRawAndClose(
  reply: FastifyReply,
  statusCode: number,
  headers: readonly string[],
  body: string,
): void {
  const { raw: request } = reply.request
  // A complete request has nothing left to read. Another request may have been taken behind it, so its connection must go on.
  const isLeft = !request.complete && !isRestShort(request)
  if (isLeft) makeLast(reply.raw)
  replyRaw(reply, statusCode, headers, body)
  if (isLeft) request.resume()
}

/** Whether the rest of the body is short. node:http reads a short rest by itself, and the connection goes on. Not so if the body may never come. */
function isRestShort({ headers }: IncomingMessage): boolean {
  return (
    headers['transfer-encoding'] === undefined &&
    headers.expect === undefined &&
    Number(headers['content-length'] ?? 0) <= shortBodyBytes
  )
}

const shortBodyBytes = 65_536
