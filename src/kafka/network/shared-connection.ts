import type { RequestName } from '../protocol/requests.ts'
import type { WireRequest } from '../protocol/wire.ts'
import { GatheredRequests, type GatheredRequest } from './gathered-requests.ts'
import type { LinkIsolation } from './link-isolation.ts'
import { ThrottlePause } from './throttle-pause.ts'
import { socketHighWaterBytes, type BrokerConnection } from './transport.ts'
import type { TurnEnd } from './turn.ts'

/**
 * One connection to a broker that topics share. Each topic has a {@link TopicConnection}. The requests of one turn of the event loop are
 * joined (`gathered-requests.ts`), and the parts of an answer go to the topics that asked.
 *
 * **One write at a time**, if each write is answered ({@link SharedConnectionOptions.awaitsAnswers}). A broker reads no other request of the
 * connection before it has answered a write, and it answers when the replicas have the records. So nothing is written meanwhile. What the
 * topics ask for is gathered, and goes as one request when the answer is there. Else each topic's request would wait for the replicas of all
 * those before it, one after the other.
 *
 * What a topic relies on holds here, too. A broker serves a connection in order, and the requests of a topic keep their order. So the
 * answer to any request of a topic proves that all earlier writes of the topic are in the log.
 *
 * **Fair turns.** All topics together may have {@link socketHighWaterBytes} in this process, as on a connection of one topic. A topic that has
 * nothing there may write even if the others have reached that limit, up to twice the limit. So a flood of one topic never keeps another
 * one from writing. It adds to the wait of the other one what one turn carries. Where writes are awaited, a topic that asks has nothing there. So all
 * topics together may have twice the limit, and the others wait for the next request. `TurnEnd` says who asks first.
 */
export class SharedConnection {
  readonly #options: SharedConnectionOptions
  readonly #gathered = new GatheredRequests<TopicConnection>()
  /** Whoever wrote last is last. */
  readonly #topics = new Set<TopicConnection>()
  readonly #openedAtMs = performance.now()
  #isFlushSet = false
  /** This process ends the connection, so no topic is to blame. */
  #isEnding = false
  readonly #pause = new ThrottlePause(() => this.#wake())
  /** Produce requests that are written and not answered. Stays 0 if writes are not awaited. */
  #unanswered = 0

  constructor(options: SharedConnectionOptions) {
    this.#options = options
    const { connection } = options
    connection.onClose((cause) => this.#closed(cause))
    connection.onDrain(() => this.#wake())
  }

  /** The connection itself. */
  get connection(): BrokerConnection {
    return this.#options.connection
  }

  /** A further topic may use it. In the second half of a session a new connection is better. */
  get isJoinable(): boolean {
    const { isOpen, renewAtMs } = this.connection
    if (!isOpen || this.#isEnding) return false
    return renewAtMs === Infinity || performance.now() < (this.#openedAtMs + renewAtMs) / 2
  }

  /** Gives a topic its connection. @param maxRequestBytes no request with something of this topic is larger, unless one topic alone makes it so. */
  join(topic: string, maxRequestBytes: number): BrokerConnection {
    const joined = new TopicConnection(topic, maxRequestBytes, this)
    if (this.connection.isOpen) this.#topics.add(joined)
    else joined.close(new Error('the connection was closed at once'))
    return joined
  }

  /** A topic makes a request. */
  add(gathered: GatheredRequest<TopicConnection>): void {
    const { owner, request, onResponse } = gathered
    if (onResponse === null || (this.awaitsAnswers && hasBatches(request))) {
      this.#topics.delete(owner)
      this.#topics.add(owner)
    }
    this.#gathered.add(gathered)
    this.#flushLater()
  }

  /** See {@link SharedConnectionOptions.isShared}. */
  get isShared(): boolean {
    return this.#options.isShared
  }

  /** See {@link SharedConnectionOptions.awaitsAnswers}. */
  get awaitsAnswers(): boolean {
    return this.#options.awaitsAnswers
  }

  /** A topic that has `ownBytes` in this process may write more. If writes are awaited, a topic that is set apart waits a moment until it has left. */
  hasRoom(topic: string, ownBytes: number): boolean {
    if (this.#unanswered > 0 || (this.awaitsAnswers && this.#mustLeave(topic))) return false
    if (this.#pause.isOn) return false
    const allBytes = this.connection.pendingBytes + this.#gathered.bytes
    return allBytes <= (ownBytes === 0 ? 2 : 1) * socketHighWaterBytes
  }

  #mustLeave(topic: string): boolean {
    const { isShared, isolation } = this.#options
    return isShared && isolation.isLeaving(topic, performance.now())
  }

  /** See {@link BrokerConnection.renewAtMs}. A topic that is set apart leaves the shared connection at once, and comes back when its time is over. */
  renewAtMs(topic: string): number {
    const { connection, isShared, isolation } = this.#options
    const nowMs = performance.now()
    const apartUntilMs = isolation.apartUntilMs(topic, nowMs)
    if (isShared) return apartUntilMs > 0 ? nowMs : connection.renewAtMs
    return apartUntilMs > 0 ? Math.min(apartUntilMs, connection.renewAtMs) : nowMs
  }

  /** See {@link BrokerConnection.throttle}. All topics wait. */
  throttle(throttleTimeMs: number): void {
    if (throttleTimeMs <= 0) return
    this.connection.throttle(throttleTimeMs)
    this.#pause.extend(throttleTimeMs)
    this.#pause.tellWhenOver()
  }

  /**
   * A topic needs its connection no more.
   * @param hasBytes a write of the topic may still be in this process. Its bytes may be used again once the topic is told of the end. So the
   * connection ends for all topics.
   */
  leave(topic: TopicConnection, cause: Error, hasBytes: boolean): void {
    if (this.#topics.size > 1 && !hasBytes) {
      this.#topics.delete(topic)
      topic.close(cause)
      return
    }
    this.#isEnding = true
    this.connection.destroy(cause)
  }

  #flushLater(): void {
    if (this.#isFlushSet) return
    this.#isFlushSet = true
    this.#options.turn.write(this.#flush)
  }

  readonly #flush = (): void => {
    this.#isFlushSet = false
    // The answer sets the next flush.
    if (this.#unanswered > 0) return
    this.#gathered.writeTo(this.awaitsAnswers ? this.#awaited : this.connection)
  }

  /** The connection, for writes that are awaited. */
  readonly #awaited: Pick<BrokerConnection, 'send' | 'call'> = {
    send: (request, onFlushed) => this.connection.send(request, onFlushed),
    call: (request, onResponse, onError) => {
      if (request.apiName !== 'Produce') return this.connection.call(request, onResponse, onError)
      this.#unanswered++
      this.connection.call(
        request,
        (payload) => {
          this.#unanswered--
          onResponse(payload)
          if (this.#unanswered > 0) return
          if (!this.#gathered.isEmpty) this.#flushLater()
          this.#wake()
        },
        (error) => {
          this.#unanswered--
          onError(error)
        },
      )
    },
  }

  #wake(): void {
    for (const topic of this.#topics) topic.wake()
  }

  #closed(cause: Error): void {
    const { broker, isShared, isolation } = this.#options
    this.#gathered.clear()
    this.#pause.stop()
    const topics = [...this.#topics]
    this.#topics.clear()
    if (!this.#isEnding) {
      const writing = topics.filter(({ isWriting }) => isWriting).map(({ topic }) => topic)
      isolation.cut(broker, [...new Set(writing)], isShared, performance.now())
    }
    for (const topic of topics) topic.close(cause)
  }
}

/** See {@link SharedConnection}. */
export interface SharedConnectionOptions {
  readonly connection: BrokerConnection
  /** `host:port`. */
  readonly broker: string
  /** False: it is the connection of one topic that is set apart. */
  readonly isShared: boolean
  readonly isolation: LinkIsolation
  readonly turn: TurnEnd
  /** The broker answers each write of the topics, when the replicas have the records. */
  readonly awaitsAnswers: boolean
}

/** One topic's part of a shared connection. For its owner it is like any other connection. */
class TopicConnection implements BrokerConnection {
  readonly topic: string
  readonly maxRequestBytes: number
  readonly #shared: SharedConnection
  /** Null: it is open. */
  #closeCause: Error | null = null
  readonly #closeListeners: ((cause: Error) => void)[] = []
  readonly #drainListeners: (() => void)[] = []
  /** Calls that are not answered. */
  readonly #calls = new Set<Call>()
  /** Bytes of requests without an answer that the kernel has not taken. */
  #unflushedBytes = 0
  /** Requests without an answer. */
  #sent = 0
  /** So many of them are proved by an answer to be handled. */
  #covered = 0
  /** The connection ended with a write on it that had no answer. */
  #isWriteLost = false
  /** The owner was told to wait. */
  #isWaiting = false

  constructor(topic: string, maxRequestBytes: number, shared: SharedConnection) {
    this.topic = topic
    this.maxRequestBytes = maxRequestBytes
    this.#shared = shared
  }

  get isOpen(): boolean {
    return this.#closeCause === null
  }

  get isShared(): boolean {
    return this.#shared.isShared
  }

  /** No answer shows yet that the broker has handled the last write. */
  get isWriting(): boolean {
    return this.#shared.awaitsAnswers ? this.#isWriteLost : this.#sent > this.#covered
  }

  /** Only the bytes of this topic. */
  get pendingBytes(): number {
    return this.#unflushedBytes
  }

  /** A no: this topic, the others, or the broker leave no room for this topic. */
  askForRoom(): boolean {
    this.#isWaiting = !this.#shared.hasRoom(this.topic, this.#unflushedBytes)
    return !this.#isWaiting
  }

  get renewAtMs(): number {
    return this.#shared.renewAtMs(this.topic)
  }

  lacks(needed: readonly RequestName[]): string | null {
    return this.#shared.connection.lacks(needed)
  }

  send(request: WireRequest, onFlushed: () => void): void {
    if (!this.isOpen) return
    const sizeBytes = sizeOf(request)
    this.#sent++
    this.#unflushedBytes += sizeBytes
    const flushed = (): void => {
      this.#unflushedBytes -= sizeBytes
      if (this.isOpen) onFlushed()
    }
    this.#shared.add({ owner: this, request, sizeBytes, onFlushed: flushed, onResponse: null, onError: null })
  }

  call(request: WireRequest, onResponse: (payload: Buffer) => void, onError: (error: Error) => void): void {
    const cause = this.#closeCause
    if (cause !== null) return queueMicrotask(() => onError(cause))
    const call: Call = { hasBatches: hasBatches(request), onError }
    const sentBefore = this.#sent
    this.#calls.add(call)
    this.#shared.add({
      owner: this,
      request,
      sizeBytes: sizeOf(request),
      onFlushed: null,
      onResponse: (payload) => {
        if (!this.#calls.delete(call)) return
        this.#covered = sentBefore
        onResponse(payload)
      },
      onError: (error) => {
        if (!this.#calls.delete(call)) return
        // The connection has ended, and is about to tell.
        this.#isWriteLost ||= call.hasBatches
        onError(error)
      },
    })
  }

  throttle(throttleTimeMs: number): void {
    this.#shared.throttle(throttleTimeMs)
  }

  onClose(listener: (cause: Error) => void): void {
    if (this.#closeCause !== null) listener(this.#closeCause)
    else this.#closeListeners.push(listener)
  }

  onDrain(listener: () => void): void {
    this.#drainListeners.push(listener)
  }

  destroy(cause: Error): void {
    // If the connection has ended, all topics are about to be told.
    if (!this.isOpen || !this.#shared.connection.isOpen) return
    // The socket tells of several turns at once. What an answer covers has left the process, whether the socket has told so or not.
    const isUnflushed = this.#unflushedBytes > 0 && this.#sent > this.#covered
    const hasBytes = isUnflushed || [...this.#calls].some((call) => call.hasBatches)
    this.#shared.leave(this, cause, hasBytes)
  }

  /** There may be room again. */
  wake(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    for (const listener of this.#drainListeners) listener()
  }

  /** The connection has ended for this topic. */
  close(cause: Error): void {
    if (this.#closeCause !== null) return
    this.#closeCause = cause
    const calls = [...this.#calls]
    this.#calls.clear()
    for (const { onError } of calls) onError(cause)
    for (const listener of this.#closeListeners.splice(0)) listener(cause)
  }
}

interface Call {
  readonly hasBatches: boolean
  readonly onError: (error: Error) => void
}

/** The bytes of batches are in the request, and must stay as they are. A produce request without a record cannot be joined. */
function hasBatches({ apiName, joinable }: WireRequest): boolean {
  return apiName === 'Produce' && joinable !== undefined
}

function sizeOf({ chunks }: WireRequest): number {
  let bytes = 0
  for (const { length } of chunks) bytes += length
  return bytes
}
