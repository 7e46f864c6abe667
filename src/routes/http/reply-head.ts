import { IncomingMessage, ServerResponse, STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import { heldLines, inOnePiece } from './held-headers.ts'

/**
 * Makes the header of a usual reply as one text: byte for byte what `writeHead` of node:http makes of the same fields. `writeHead` looks at
 * each name and each character of a value, reply by reply. With the fields of keys, limits and CORS that takes as long as everything that is
 * done with a small event. So the names and values have to be right: they are texts of Chute, or were checked (`validateHeaderValue`).
 *
 * The text is handed over as `_header`, which node:http has no public name for, and which Express and its parts have gone by for as long. If
 * a version of Node takes no notice of it, every reply goes by `writeHead`.
 *
 * @param headers names and values in turn, with the length of the body. Those that are held (`held-headers.ts`) stand behind them.
 * @returns false: the reply is none of the usual ones, and has no header yet.
 */
export function prepareHead(
  response: ServerResponse,
  statusCode: number,
  headers: readonly string[],
): boolean {
  const { req: request } = response
  const isUsual =
    isHeaderTaken &&
    // A test that injects a request has another class.
    response.constructor === ServerResponse &&
    response.shouldKeepAlive &&
    request.httpVersionMinor === 1 &&
    request.method !== 'HEAD' &&
    request.headers.expect === undefined &&
    statusCode !== 204 &&
    response.getHeaderNames().length === 0
  if (!isUsual) return false
  let head = statusLines[statusCode] ?? statusLineOf(statusCode)
  for (let at = 0; at < headers.length; at += 2) head += `${headers[at]!}: ${headers[at + 1]!}\r\n`
  const prepared = response as Prepared
  response.statusCode = statusCode
  prepared._header = head + heldLines(response) + lastFields(prepared._keepAliveTimeout)
  return true
}

/** What of node:http has no public name. */
interface Prepared extends ServerResponse {
  /** The header of the reply; null: it is not made yet. */
  _header: string | null
  /** `keepAliveTimeout` of the server. */
  readonly _keepAliveTimeout: number
}

const isHeaderTaken = (() => {
  const response = new ServerResponse(new IncomingMessage(new Socket())) as Prepared
  response._header = 'HTTP/1.1 202 Accepted\r\n\r\n'
  return response.headersSent
})()

const statusLines: string[] = []

function statusLineOf(statusCode: number): string {
  const line = `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode] ?? 'unknown'}\r\n`
  return (statusLines[statusCode] = inOnePiece(line))
}

/** The fields that node:http adds. They change once a second. */
function lastFields(keepAliveMs: number): string {
  const second = Math.floor(Date.now() / 1000)
  if (second !== last.second || keepAliveMs !== last.keepAliveMs) {
    const date = new Date(second * 1000).toUTCString()
    const keepAlive = keepAliveMs > 0 ? `Keep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n` : ''
    const text = inOnePiece(`Date: ${date}\r\nConnection: keep-alive\r\n${keepAlive}\r\n`)
    last = { second, keepAliveMs, text }
  }
  return last.text
}

let last = { second: 0, keepAliveMs: 0, text: '' }
