import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { RequestFramer, ResponseReader, type Frame } from './frames.ts'
import { type RequestName, lackingOf, type ServedVersions } from '../protocol/requests.ts'
import { ThrottlePause } from './throttle-pause.ts'
import { socketHighWaterBytes, type BrokerConnection } from './transport.ts'
import type { WireRequest } from '../protocol/wire.ts'

/**
 * Requests and answers over a socket to a broker, after all handshakes. The requests of one turn of the event loop are written together at
 * its end, in one call to the kernel, since a call costs more than the bytes. A broker answers the requests of a connection in order. So each
 * answer belongs to the oldest request without one. Any other answer ends the connection.
 */
export class SocketConnection implements BrokerConnection {
  readonly isShared = false
  readonly #options: SocketConnectionOptions
  readonly #socket: Socket
  readonly #framer: RequestFramer
  readonly #reader = new ResponseReader()
  #nextCorrelationId: number
  #closeCause: Error | null = null
  #hasAnswered = false
  #closeListeners: ((cause: Error) => void)[] = []
  /** Requests that are written at the end of this turn. */
  #turn: Pushed[] = []
  /** Requests that are written when the pause that the broker asked for is over. */
  #held: Pushed[] = []
  /** Size of the requests in {@link #turn} and {@link #held}. */
  #unwrittenBytes = 0
  /** Requests that were written and not answered, the oldest first. */
  readonly #unanswered: Pushed[] = []
  /** Armed while a request is unanswered. */
  #answerTimer: NodeJS.Timeout | null = null
  /** Its end is told while a request is held back. */
  readonly #pause = new ThrottlePause(() => this.#writeHeld())

  /** @param options.socket belongs to this connection from now on: nothing else may read from it or write to it. */
  constructor(options: SocketConnectionOptions) {
    this.#options = options
    this.#framer = new RequestFramer(options.clientId)
    this.#nextCorrelationId = options.firstCorrelationId
    this.#socket = options.socket
    const closed = (): void => {
      const advice = this.#hasAnswered ? undefined : options.adviceIfSilent
      const rest = advice === undefined ? '' : ` before anything was answered: ${advice}`
      this.#close(new Error(`the connection to ${options.address} was closed${rest}`))
    }
    // After 'end' the broker reads no more, and all further writes would be lost.
    this.#socket.on('end', closed).on('close', closed)
    this.#socket.on('error', (error) => this.#close(error))
    this.#socket.on('data', (data) => this.#read(data))
    if (this.#socket.destroyed) closed()
  }

  get isOpen(): boolean {
    return this.#closeCause === null
  }

  get pendingBytes(): number {
    return this.#unwrittenBytes + this.#socket.writableLength
  }

  askForRoom(): boolean {
    return this.pendingBytes <= socketHighWaterBytes
  }

  get renewAtMs(): number {
    return this.#options.renewAtMs
  }

  lacks(needed: readonly RequestName[]): string | null {
    return lackingOf(this.#options.address, this.#options.served, needed)
  }

  send(request: WireRequest, onFlushed: () => void): void {
    if (this.#closeCause === null) this.#push(request, onFlushed, null, null)
  }

  call(request: WireRequest, onResponse: (payload: Buffer) => void, onError: (error: Error) => void): void {
    const cause = this.#closeCause
    if (cause === null) this.#push(request, null, onResponse, onError)
    else queueMicrotask(() => onError(cause))
  }

  throttle(throttleTimeMs: number): void {
    if (throttleTimeMs > 0) this.#pause.extend(throttleTimeMs)
  }

  onClose(listener: (cause: Error) => void): void {
    if (this.#closeCause !== null) listener(this.#closeCause)
    else this.#closeListeners.push(listener)
  }

  onDrain(listener: () => void): void {
    this.#socket.on('drain', listener)
  }

  destroy(cause: Error): void {
    this.#close(cause)
  }

  #push(
    request: WireRequest,
    onFlushed: Pushed['onFlushed'],
    onResponse: Pushed['onResponse'],
    onError: Pushed['onError'],
  ): void {
    const sizeBytes = this.#framer.sizeOf(request)
    const pushed = { request, sizeBytes, correlationId: 0, writtenAtMs: 0, onFlushed, onResponse, onError }
    this.#unwrittenBytes += sizeBytes
    if (this.#isHeldBack) {
      this.#held.push(pushed)
      this.#pause.tellWhenOver()
    } else if (this.#turn.push(pushed) === 1) {
      process.nextTick(this.#writeTurn)
    }
  }

  /** The next request has to be held back: there is a pause, or other requests are held back. So requests keep their order. */
  get #isHeldBack(): boolean {
    return this.#held.length > 0 || this.#pause.isOn
  }

  #writeHeld(): void {
    this.#turn = this.#held
    this.#held = []
    this.#writeTurn()
  }

  readonly #writeTurn = (): void => {
    const turn = this.#turn
    if (turn.length === 0) return
    this.#turn = []
    const flushed: (() => void)[] = []
    const nowMs = performance.now()
    for (const pushed of turn) {
      this.#unwrittenBytes -= pushed.sizeBytes
      pushed.correlationId = this.#nextCorrelationId
      this.#nextCorrelationId = (pushed.correlationId + 1) % 2 ** 31
      if (pushed.onFlushed !== null) flushed.push(pushed.onFlushed)
      if (pushed.onResponse === null) continue
      // The time counts from the write and not from the call, since a request may be held back for longer than `requestTimeoutMs`.
      pushed.writtenAtMs = nowMs
      this.#unanswered.push(pushed)
    }
    this.#write(this.#framer.join(turn), flushed)
    if (this.#unanswered.length > 0 && this.#answerTimer === null)
      this.#awaitAnswer(this.#options.requestTimeoutMs)
  }

  #write(pieces: readonly Buffer[], flushed: readonly (() => void)[]): void {
    const socket = this.#socket
    const onWritten = (error?: Error | null): void => {
      // Node reports success for a write that a destroyed socket has given up (`onWriteComplete`).
      if (socket.destroyed || (error !== undefined && error !== null)) return
      for (const onFlushed of flushed) onFlushed()
    }
    const last = pieces.length - 1
    if (last > 0) socket.cork()
    for (let i = 0; i < last; i++) socket.write(pieces[i]!)
    socket.write(pieces[last]!, onWritten)
    if (last > 0) socket.uncork()
  }

  #awaitAnswer(forMs: number): void {
    this.#answerTimer = setTimeout(this.#judgeOldest, forMs)
  }

  readonly #judgeOldest = (): void => {
    const { address, requestTimeoutMs } = this.#options
    const leftMs = this.#unanswered[0]!.writtenAtMs + requestTimeoutMs - performance.now()
    if (leftMs > 0) this.#awaitAnswer(Math.ceil(leftMs))
    else this.#close(new Error(`${address} did not answer within ${requestTimeoutMs} ms`))
  }

  #read(data: Buffer): void {
    if (this.#closeCause !== null) return
    this.#reader.push(data)
    for (let frame = this.#nextFrame(); frame !== null; frame = this.#nextFrame()) this.#answer(frame)
  }

  #nextFrame(): Buffer | null {
    if (this.#closeCause !== null) return null
    try {
      return this.#reader.next()
    } catch (cause) {
      this.#close(new Error(`${this.#options.address} sent what is no answer`, { cause }))
      return null
    }
  }

  #answer(frame: Buffer): void {
    const correlationId = frame.readInt32BE(0)
    const oldest = this.#unanswered[0]
    if (oldest?.correlationId !== correlationId) {
      const expected = oldest === undefined ? 'nothing was asked' : `${oldest.correlationId} was next`
      this.#close(new Error(`${this.#options.address} answered request ${correlationId}, and ${expected}`))
      return
    }
    this.#unanswered.shift()
    this.#hasAnswered = true
    if (this.#unanswered.length === 0) this.#stopAnswerTimer()
    try {
      oldest.onResponse!(frame.subarray(4))
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause
      this.#close(new Error(`${this.#options.address} sent an answer that ends too early`, { cause }))
    }
  }

  #stopAnswerTimer(): void {
    if (this.#answerTimer !== null) clearTimeout(this.#answerTimer)
    this.#answerTimer = null
  }

  #close(cause: Error): void {
    if (this.#closeCause !== null) return
    this.#closeCause = cause
    const unanswered = [...this.#unanswered, ...this.#turn, ...this.#held]
    this.#unanswered.length = 0
    this.#turn = []
    this.#held = []
    this.#unwrittenBytes = 0
    this.#stopAnswerTimer()
    this.#pause.stop()
    resetSocket(this.#socket)
    for (const { onError } of unanswered) onError?.(cause)
    for (const listener of this.#closeListeners.splice(0)) listener(cause)
  }
}

/** See {@link SocketConnection}. */
export interface SocketConnectionOptions {
  readonly socket: Socket
  /** `host:port` of the broker, for messages. */
  readonly address: string
  readonly clientId: string
  readonly requestTimeoutMs: number
  readonly firstCorrelationId: number
  /** What may be wrong if the broker ends the connection before its first answer. */
  readonly adviceIfSilent?: string
  readonly served: ServedVersions
  /** See {@link BrokerConnection.renewAtMs}. */
  readonly renewAtMs: number
}

/** A request from its call until it is written, or until its answer has come if it has one. */
interface Pushed extends Frame {
  correlationId: number
  writtenAtMs: number
  readonly onFlushed: (() => void) | null
  /** null: the request has no answer. */
  readonly onResponse: ((payload: Buffer) => void) | null
  readonly onError: ((error: Error) => void) | null
}

/**
 * Ends a socket at once. A reset makes the kernel forget unsent bytes. So they cannot arrive after the bytes of a new connection. A socket that was shut down
 * is just closed: libuv does not reset it (`uv_tcp_close_reset`), and Node then loses its descriptor for good.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return
  if (socket instanceof TLSSocket || socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}
