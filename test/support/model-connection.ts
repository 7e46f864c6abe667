import { type RequestName, lackingOf, type ServedVersions } from '../../src/kafka/protocol/requests.ts'
import { socketHighWaterBytes, type BrokerConnection } from '../../src/kafka/network/transport.ts'
import type { WireRequest } from '../../src/kafka/protocol/wire.ts'

/** What a model broker does with a request: a response, or the end of the connection. */
export interface Served {
  readonly response: Buffer | null
  readonly closes: boolean
  /** Until then the response is held back, and no other request of the connection is read. In milliseconds; 0 unless set. */
  readonly afterMs?: number
}

/** The broker behind a {@link ModelConnection}. */
export interface ModelServer {
  /** `host:port`. */
  readonly address: string
  /** Its answer to ApiVersions. */
  readonly served: ServedVersions
  readonly isStopped: boolean
  /** Milliseconds for each request, and until a response arrives. */
  readonly serviceMs: number
  readonly responseMs: number
  /** Bytes that the kernels between client and broker take. */
  readonly kernelBytes: number
  /** `socket.request.max.bytes`: a larger request ends the connection. */
  readonly maxRequestBytes: number
  /** Swallows the response that is about to go, if a test wants that. */
  losesResponse(): boolean
  random(): number
  serve(request: ReceivedRequest): Served
}

/** A request as the broker got it: the bytes were copied when the kernel took them, not when they were handed over. */
export interface ReceivedRequest {
  readonly apiKey: number
  readonly apiVersion: number
  readonly body: Buffer
}

/**
 * A connection to a model broker. It behaves as the real transport does towards its owner, and as Kafka does towards its
 * client: one request after the other, responses in order, and the end for whatever is wrong with an acks=0 produce.
 */
export class ModelConnection implements BrokerConnection {
  isOpen = true
  readonly isShared = false
  pendingBytes = 0
  renewAtMs = Infinity
  sessionEndMs = Infinity
  readonly throttledMs: number[] = []
  readonly #server: ModelServer
  readonly #requestTimeoutMs: number
  readonly #closeListeners: ((cause: Error) => void)[] = []
  readonly #drainListeners: (() => void)[] = []
  /** Calls that were not answered, by the timer that ends the wait. */
  readonly #calls = new Map<NodeJS.Timeout, (error: Error) => void>()
  /** Waits in the client's process. */
  readonly #unflushed: Handed[] = []
  /** Is in a kernel, or in the broker, and was not served. */
  #received: Received[] = []
  #receivedBytes = 0
  #isServing = false
  /** A response is held back. */
  #isMuted = false
  /** Nothing reaches the broker any more, which the client does not know yet. */
  #isCut = false
  #lastArrivalMs = 0

  constructor(server: ModelServer, requestTimeoutMs: number) {
    this.#server = server
    this.#requestTimeoutMs = requestTimeoutMs
  }

  /** @inheritdoc */
  lacks(needed: readonly RequestName[]): string | null {
    return lackingOf(this.#server.address, this.#server.served, needed)
  }

  /** @inheritdoc */
  askForRoom(): boolean {
    return this.pendingBytes <= socketHighWaterBytes
  }

  /** @inheritdoc */
  send(request: WireRequest, onFlushed: () => void): void {
    if (this.isOpen) this.#hand(request, onFlushed, null)
  }

  /** @inheritdoc */
  call(request: WireRequest, onResponse: (payload: Buffer) => void, onError: (error: Error) => void): void {
    if (!this.isOpen) {
      queueMicrotask(() => onError(new Error('the connection was closed')))
      return
    }
    const timer = setTimeout(() => this.#close(new Error('no answer in time')), this.#requestTimeoutMs)
    this.#calls.set(timer, onError)
    this.#hand(
      request,
      () => {},
      (payload) => {
        clearTimeout(timer)
        if (!this.#calls.delete(timer)) return
        try {
          onResponse(payload)
        } catch (cause) {
          if (!(cause instanceof RangeError)) throw cause
          this.#close(new Error('an answer that ends too early', { cause }))
        }
      },
    )
  }

  /** @inheritdoc */
  throttle(throttleTimeMs: number): void {
    if (throttleTimeMs > 0) this.throttledMs.push(throttleTimeMs)
  }

  /** @inheritdoc */
  onClose(listener: (cause: Error) => void): void {
    if (this.isOpen) this.#closeListeners.push(listener)
    else listener(new Error('the connection was closed'))
  }

  /** @inheritdoc */
  onDrain(listener: () => void): void {
    this.#drainListeners.push(listener)
  }

  /** The client ends it. What the broker has by then it may still serve, all of it or a part. */
  destroy(cause: Error): void {
    this.#close(cause)
  }

  /** The broker, or what is between, ends it. @param noticedMs until the client sees that; null: not before it times out. */
  cut(noticedMs: number | null, isSudden: boolean): void {
    if (this.#isCut) return
    this.#isCut = true
    this.#received = []
    this.#receivedBytes = 0
    if (isSudden) this.#lastArrivalMs = Infinity
    this.#flush()
    if (noticedMs !== null) this.notice(noticedMs)
  }

  /** The client sees, in a while, that the connection is cut. */
  notice(inMs: number): void {
    const afterLast = Number.isFinite(this.#lastArrivalMs) ? this.#lastArrivalMs - performance.now() : 0
    setTimeout(() => this.#close(new Error('closed by the broker')), Math.max(inMs, afterLast))
  }

  /** Serves what waits: a broker that was stopped goes on. An owner that has gone is served at once, before others. */
  resume(): void {
    if (!this.isOpen) this.#serveOrphans(this.#received.length)
    else this.#serveNext()
  }

  #hand(request: WireRequest, onFlushed: () => void, onResponse: Received['onResponse']): void {
    const sizeBytes = request.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    this.#unflushed.push({ request, sizeBytes, onFlushed, onResponse })
    this.pendingBytes += sizeBytes
    this.#flush()
  }

  #flush(): void {
    for (;;) {
      const [first] = this.#unflushed
      if (first === undefined) return
      const { request, sizeBytes, onFlushed, onResponse } = first
      const isFull = this.#receivedBytes > 0 && this.#receivedBytes + sizeBytes > this.#server.kernelBytes
      if (isFull && !this.#isCut) return
      this.#unflushed.shift()
      const { apiKey, apiVersion } = request
      const body = Buffer.concat(request.chunks)
      if (!this.#isCut) {
        this.#received.push({ request: { apiKey, apiVersion, body }, onResponse })
        this.#receivedBytes += sizeBytes
      }
      setImmediate(() => {
        this.pendingBytes -= sizeBytes
        if (!this.isOpen) return
        onFlushed()
        for (const listener of this.#drainListeners) listener()
      })
      this.#serveNext()
    }
  }

  #serveNext(): void {
    if (
      this.#isServing ||
      this.#isMuted ||
      this.#isCut ||
      this.#server.isStopped ||
      this.#received.length === 0
    )
      return
    this.#isServing = true
    setTimeout(() => {
      this.#isServing = false
      if (this.#isCut || this.#server.isStopped || !this.isOpen) return
      this.#serveFirst()
      this.#flush()
      this.#serveNext()
    }, this.#server.serviceMs)
  }

  /** @returns false if that ended the connection. */
  #serveFirst(): boolean {
    const { request, onResponse } = this.#received.shift()!
    this.#receivedBytes -= request.body.length
    if (performance.now() > this.sessionEndMs || request.body.length > this.#server.maxRequestBytes) {
      this.cut(1, false)
      return false
    }
    const { response, closes, afterMs = 0 } = this.#server.serve(request)
    if (closes) {
      this.cut(1, false)
      return false
    }
    if (response === null || onResponse === null || this.#server.losesResponse()) return true
    if (afterMs === 0) {
      this.#respond(response, onResponse)
      return true
    }
    this.#isMuted = true
    setTimeout(() => {
      this.#isMuted = false
      if (this.#isCut || !this.isOpen) return
      this.#respond(response, onResponse)
      this.#serveNext()
    }, afterMs)
    return true
  }

  #respond(response: Buffer, onResponse: (payload: Buffer) => void): void {
    const now = performance.now()
    const arrivalMs = Math.max(this.#lastArrivalMs, now + this.#server.responseMs)
    this.#lastArrivalMs = arrivalMs
    setTimeout(() => {
      // Cut in the meantime, with the response on its way.
      if (this.isOpen && this.#lastArrivalMs !== Infinity) onResponse(response)
    }, arrivalMs - now)
  }

  #close(cause: Error): void {
    if (!this.isOpen) return
    this.isOpen = false
    for (const timer of this.#calls.keys()) clearTimeout(timer)
    const unanswered = [...this.#calls.values()]
    this.#calls.clear()
    this.#unflushed.length = 0
    if (!this.#server.isStopped) {
      this.#serveOrphans(Math.floor(this.#server.random() * (this.#received.length + 1)))
      this.#received = []
    }
    for (const onError of unanswered) onError(cause)
    for (const listener of this.#closeListeners.splice(0)) listener(cause)
  }

  #serveOrphans(count: number): void {
    for (let i = 0; i < count && !this.#isCut; i++) if (!this.#serveFirst()) return
  }
}

interface Handed {
  readonly request: WireRequest
  readonly sizeBytes: number
  readonly onFlushed: () => void
  readonly onResponse: Received['onResponse']
}

interface Received {
  readonly request: ReceivedRequest
  readonly onResponse: ((payload: Buffer) => void) | null
}
