import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'

/**
 * Bounds what one connection can make of one turn of the event loop. The kernel hands over up to 64 KiB at a time, and node:http parses all of
 * them in one go. 64 KiB have room for 10,000 chunks of one byte, and for 2,000 requests. Each chunk and each request costs some microseconds.
 *
 * node:http has no public way to stop its parser, so this file uses names that are not documented. In a version of Node.js without them requests are
 * answered as before, and only the bounds are less tight.
 */

/** The parts of node:http's objects that are not documented. */
interface HttpParser {
  [callback: number]: unknown
  readonly constructor: { readonly [name: string]: unknown }
  /** It reads the socket by itself. */
  readonly _consumed?: boolean
  /** A copy of the bytes that it has in hand. */
  readonly getCurrentBuffer?: () => Buffer
}
/** How many hold the input of a socket. */
const holders = Symbol('how many hold the input')
type ParsedSocket = Socket & {
  [holders]?: number
  parser?: HttpParser | null
  _paused?: boolean
  _handle?: { readonly reading?: boolean } | null
}

const callbacks = ['kOnHeaders', 'kOnHeadersComplete', 'kOnBody', 'kOnMessageComplete']

/**
 * Throws away whatever else comes over a connection, also what the parser has in hand. From now on no byte becomes a request or a body. The
 * replies to requests that were taken go out as before.
 */
export function discardInput(socket: Socket): void {
  silence((socket as ParsedSocket).parser)
  // Nobody but the parser reads the socket. With a listener of our own, node:http hands the bytes to the listener and not to the parser.
  socket.removeAllListeners('data')
  socket.on('data', ignore)
}

/** Makes the parser tell nothing until the end of the turn. node:http uses a parser for one connection after the other. */
function silence(parser: HttpParser | null | undefined): void {
  if (parser === null || parser === undefined) return
  for (const name of callbacks) {
    const at = parser.constructor[name]
    if (typeof at !== 'number') continue
    const callback = parser[at]
    // It is null where the parser was silenced before in this turn.
    if (callback === null) continue
    parser[at] = null
    setImmediate(() => (parser[at] = callback))
  }
}

/**
 * node:http's parser stops behind a request with `Upgrade`, also where nobody takes another protocol, and the bytes that it has in hand behind the
 * request are lost. What comes later would be read as a request, though it can be the rest of one.
 * @param onLost is called when bytes are lost. It is not called for the request alone: some clients send `Upgrade: h2c` with each request.
 * @returns false: nobody can be told of it, as over TLS, and of a body in chunks.
 */
export function watchUpgrade(request: IncomingMessage, onLost: () => void): boolean {
  const { parser } = request.socket as ParsedSocket
  const at = parser?.constructor['kOnExecute']
  if (parser?._consumed !== true || parser.getCurrentBuffer === undefined || typeof at !== 'number')
    return false
  // Its input may be parsed in slices, and then the parser does not read by itself.
  if (request.headers['transfer-encoding'] !== undefined) return false
  const told = parser[at] as (parsedBytes: unknown) => void
  // node:http's parser calls this behind each read, with an error or the number of bytes that were parsed.
  parser[at] = (parsedBytes: unknown): void => {
    const isLost =
      request.complete && typeof parsedBytes === 'number' && parsedBytes < parser.getCurrentBuffer!().length
    if (request.complete) parser[at] = told
    told(parsedBytes)
    if (isLost) onLost()
  }
  return true
}

function ignore(): void {}

/**
 * Makes {@link holdInput} possible on a connection. To be called once, before the first request. The socket gets its properties here for good: one
 * that comes and goes would make V8 keep the socket as a dictionary, and all that node:http does with it would take twice as long.
 */
export function prepareInput(socket: ParsedSocket): void {
  socket[holders] = 0
  socket.resume = resumeUnlessHeld
}

/** node:http goes on reading whenever a message is complete or somebody reads a body. */
function resumeUnlessHeld(this: ParsedSocket): Socket {
  return holdersOf(this) === 0 ? Socket.prototype.resume.call(this) : this
}

/**
 * Stops reading a connection behind the bytes that the parser has in hand. {@link prepareInput} was called for its socket.
 * @returns a function that goes on reading, once each holder of the connection has called its own. To be called once.
 */
export function holdInput(socket: ParsedSocket): () => void {
  const before = holdersOf(socket)
  socket[holders] = before + 1
  if (before === 0) socket.pause()
  return () => {
    const left = holdersOf(socket) - 1
    socket[holders] = left
    // Where many replies wait to be sent, node:http has paused the connection, too, and goes on by itself.
    if (left === 0 && socket._paused !== true) socket.resume()
  }
}

function holdersOf(socket: ParsedSocket): number {
  return socket[holders] ?? 0
}

/**
 * From now on the parser gets the bytes of a connection in slices, one a turn of the event loop. While the parser reads the socket by itself, it
 * takes 64 KiB in one go. With a listener of our own, node:http hands the bytes to the listener, and the listener hands them to the parser.
 * Does nothing if the socket is not being read: node:http would not begin to read it again.
 */
function sliceInput(socket: ParsedSocket): void {
  if (sliced.has(socket) || socket._handle?.reading !== true || socket.isPaused()) return
  const parsers = socket.listeners('data') as ((bytes: Buffer) => void)[]
  let waiting: Buffer[] = []
  let goOn: (() => void) | null = null
  const hold = (): void => {
    goOn ??= holdInput(socket)
    setImmediate(parseNext)
  }
  const release = (): void => {
    goOn?.()
    goOn = null
  }
  /** With TLS a turn brings many pieces, each of at most 16 KiB (RFC 8446, section 5.1). */
  let parsedInTurn = 0
  const parse = (bytes: Buffer): void => {
    if (parsedInTurn === 0) setImmediate(() => (parsedInTurn = 0))
    parsedInTurn += bytes.length
    for (const parser of parsers) parser.call(socket, bytes)
  }
  const parseNext = (): void => {
    // The connection is closed, or the rest of its bytes is thrown away.
    if (socket.destroyed || !socket.listeners('data').includes(onData)) waiting = []
    else if (socket._paused === true) {
      // Many replies wait to be sent. node:http goes on by itself, and its parser takes no bytes until then.
      release()
      socket.once('resume', hold)
      return
    } else {
      const bytes = waiting.shift()!
      if (bytes.length > parsedBytes) waiting.unshift(bytes.subarray(parsedBytes))
      parse(bytes.subarray(0, parsedBytes))
    }
    if (waiting.length > 0) setImmediate(parseNext)
    else release()
  }
  const onData = (bytes: Buffer): void => {
    if (waiting.length > 0) {
      waiting.push(bytes)
      socket.pause()
    } else if (parsedInTurn + bytes.length <= parsedBytes) parse(bytes)
    else {
      waiting.push(bytes)
      hold()
    }
  }
  sliced.add(socket)
  for (const parser of parsers) socket.removeListener('data', parser)
  socket.on('data', onData)
}

/** Connections whose input is parsed in slices. */
const sliced = new WeakSet<Socket>()
/** They have room for 700 chunks of 16 bytes. */
const parsedBytes = 16_384

/**
 * Watches the pieces in which the body of a request comes. The bytes of one turn are at most {@link piecesInTurn} pieces and what the parser
 * has in hand. The input of a connection that brings many small pieces is parsed in slices.
 * @param onTiny is called once, when {@link piecesInTurn} pieces one after the other have less than {@link leastPieceBytes} bytes on average.
 */
export function watchPieces(request: IncomingMessage, onTiny: (detail: string) => void): void {
  let pieces = 0
  let bytes = 0
  let isHeld = false
  // node:http calls this for each piece that it has parsed.
  request.push = (piece: Buffer | null, encoding?: BufferEncoding): boolean => {
    if (piece === null) {
      Reflect.deleteProperty(request, 'push')
      return request.push(null, encoding)
    }
    pieces++
    bytes += piece.length
    if (pieces === piecesInTurn) {
      // A chunk that two reads share comes as two pieces.
      if (bytes < piecesInTurn * (leastPieceBytes - 1)) {
        Reflect.deleteProperty(request, 'push')
        onTiny(
          `${pieces} pieces one after the other have ${bytes} bytes; a piece has at least ${leastPieceBytes} on average, so put more into each chunk`,
        )
        return false
      }
      if (bytes < piecesInTurn * smallPieceBytes) sliceInput(request.socket)
      pieces = bytes = 0
      if (!isHeld && !sliced.has(request.socket)) {
        isHeld = true
        const goOn = holdInput(request.socket)
        setImmediate(() => {
          isHeld = false
          goOn()
        })
      }
    }
    return Object.getPrototypeOf(request).push.call(request, piece, encoding)
  }
}

/** A piece costs two to three microseconds. */
const piecesInTurn = 2_000
/** 64 KiB are fewer than 3,000 pieces of this size. */
const leastPieceBytes = 16
/** In 16 KiB there are at most 200 pieces that are larger than this. */
const smallPieceBytes = 64
