import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { RequestFramer, ResponseReader, type Frame } from './frames.ts'
import { type RequestName, lackingOf, type ServedVersions } from '../protocol/requests.ts'
import type { BrokerConnection } from './transport.ts'
import type { WireRequest } from '../protocol/wire.ts'

/**
 * Requests and answers over a socket that leads to a broker, with all handshakes behind it. Requests of one turn of
 * the event loop are written at its end, in one call to the kernel: the call costs more than the bytes. A broker answers
 * one connection in order, so answers are matched by their place; one that is not the oldest request's ends the connection.
 */
export class SocketConnection implements BrokerConnection {
  readonly #options: SocketConnectionOptions
  readonly #socket: Socket
  readonly #framer: RequestFramer
  readonly #reader = new ResponseReader()
  #nextCorrelationId: number
  #closeCause: Error | null = null
  #hasAnswered = false
  #closeListeners: ((cause: Error) => void)[] = []
  /** Is written at the end of this turn. */
  #turn: Pushed[] = []
  /** Is written when the broker wants to hear from us again. */
  #held: Pushed[] = []
  /** Of {@link #turn} and {@link #held}. */
  #unwrittenBytes = 0
  /** Written and not answered, the oldest first. */
  readonly #unanswered: Pushed[] = []
  /** Armed while something is unanswered. */
  #answerTimer: NodeJS.Timeout | null = null
  #throttledUntilMs = 0
  /** Armed while something is held back. */
  #throttleTimer: NodeJS.Timeout | null = null

  /** @param options.socket nobody else reads from it or writes to it from now on. */
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
    // On 'end' the broker reads no more: what would be written now is lost.
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
    if (throttleTimeMs <= 0) return
    this.#throttledUntilMs = Math.max(this.#throttledUntilMs, performance.now() + throttleTimeMs)
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
      this.#awaitPermission()
    } else if (this.#turn.push(pushed) === 1) {
      process.nextTick(this.#writeTurn)
    }
  }

  /** A request behind others that are held back is held back too: the order is that of the calls. */
  get #isHeldBack(): boolean {
    return this.#held.length > 0 || (this.#throttledUntilMs > 0 && performance.now() < this.#throttledUntilMs)
  }

  #awaitPermission(): void {
    const waitMs = Math.ceil(this.#throttledUntilMs - performance.now())
    this.#throttleTimer ??= setTimeout(this.#writeHeld, Math.max(1, waitMs))
  }

  readonly #writeHeld = (): void => {
    this.#throttleTimer = null
    // The broker may have asked for more meanwhile.
    if (performance.now() < this.#throttledUntilMs) return this.#awaitPermission()
    this.#throttledUntilMs = 0
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
      // From the write on, and not from the call: a broker may ask to be left alone for longer than a request takes.
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
      // Of a write that a destroyed socket has given up, Node reports success (`onWriteComplete`).
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
    if (this.#throttleTimer !== null) clearTimeout(this.#throttleTimer)
    resetSocket(this.#socket)
    for (const { onError } of unanswered) onError?.(cause)
    for (const listener of this.#closeListeners.splice(0)) listener(cause)
  }
}

/** See {@link SocketConnection}. */
export interface SocketConnectionOptions {
  readonly socket: Socket
  /** Where it leads, for messages. */
  readonly address: string
  readonly clientId: string
  readonly requestTimeoutMs: number
  readonly firstCorrelationId: number
  /** What may be wrong where the broker ends the connection without an answer. */
  readonly adviceIfSilent?: string
  readonly served: ServedVersions
  /** See {@link BrokerConnection.renewAtMs}. */
  readonly renewAtMs: number
}

/** A request from its call on until it is written, or, if it has an answer, until that is there. */
interface Pushed extends Frame {
  correlationId: number
  writtenAtMs: number
  readonly onFlushed: (() => void) | null
  /** Null: there is no answer. */
  readonly onResponse: ((payload: Buffer) => void) | null
  readonly onError: ((error: Error) => void) | null
}

/** Ends a socket at once. A reset makes the kernel forget unsent bytes, so that they cannot arrive after the bytes of a new connection. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return
  if (socket instanceof TLSSocket) socket.destroy()
  else socket.resetAndDestroy()
}
