import { RollingSum } from '../../rolling-sum.ts'

/**
 * The ledger of one stream's `buffer.memory`. Records that are queued, that a socket holds, or that are written and not confirmed never
 * pass the limit together, except by {@link take}. A record's room is taken before the record exists, and given back when its outcome is
 * known.
 */
export class BufferMemory {
  readonly totalBytes: number
  #usedBytes = 0
  readonly #drained = new RollingSum(drainWindowSeconds)
  #waiters: Waiter[] = []
  #waitingBytes = 0
  /** When the buffer began to have no room for requests. null: the last request got its room at once. */
  #fullSinceMs: number | null = null
  /** Size of the last request if there was no room for that request; else 0. */
  #refusedBytes = 0

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes
  }

  /** Room that is left, in bytes. 0 also where {@link take} went beyond the limit. */
  get availableBytes(): number {
    return Math.max(0, this.totalBytes - this.#usedBytes)
  }

  /**
   * Takes room for a whole request, or none of it.
   * @returns false if the limit would be passed, or if other requests already wait for room: they come first.
   */
  reserve(sizeBytes: number): boolean {
    if (this.#waiters.length > 0 || this.#usedBytes + sizeBytes > this.totalBytes) {
      this.#fullSinceMs ??= performance.now()
      this.#refusedBytes = sizeBytes
      return false
    }
    this.#fullSinceMs = null
    this.#refusedBytes = 0
    this.#usedBytes += sizeBytes
    return true
  }

  /** There is no room for a request of the size of the last one. */
  get isFull(): boolean {
    return this.#refusedBytes > this.availableBytes
  }

  /**
   * Seconds after which room for a tenth of the buffer can be expected, from 1 to 60. While nothing drains, the seconds that the buffer
   * has been full.
   */
  get retryAfterSeconds(): number {
    const { drainBytesPerSecond } = this
    const fullForSeconds = this.#fullSinceMs === null ? 0 : (performance.now() - this.#fullSinceMs) / 1000
    const seconds = drainBytesPerSecond > 0 ? this.totalBytes / 10 / drainBytesPerSecond : fullForSeconds
    return Math.min(maxRetryAfterSeconds, Math.max(1, Math.ceil(seconds)))
  }

  /**
   * As {@link reserve}, but waits for room, first come, first served (as Kafka's `BufferPool.allocate`).
   * @param maxBlockMs `max.block.ms`.
   * @returns false when the time ran out. false at once for a request that is larger than the whole buffer: no other request has to wait
   * behind it. false at once, too, where the requests that wait would be larger together than the buffer: their bodies are in memory.
   */
  async reserveOrWait(sizeBytes: number, maxBlockMs: number): Promise<boolean> {
    if (this.reserve(sizeBytes)) return true
    if (this.#waitingBytes + sizeBytes > this.totalBytes) return false
    this.#waitingBytes += sizeBytes
    return await new Promise<boolean>((resolve) => {
      const waiter: Waiter = { sizeBytes, resolve, timer: setTimeout(() => this.#giveUp(waiter), maxBlockMs) }
      this.#waiters.push(waiter)
    })
  }

  /**
   * Takes room for bytes that are in memory already, also beyond the limit. When a topic gets another number of
   * partitions while the buffer is full, the records that wait are appended again. DESIGN.md says how much more they can be.
   */
  take(sizeBytes: number): void {
    this.#usedBytes += sizeBytes
  }

  /** Gives back the room of records that have their outcome. */
  release(sizeBytes: number): void {
    if (sizeBytes === 0) return
    this.#drained.add(sizeBytes)
    this.unreserve(sizeBytes)
  }

  /** Gives back room that no record needed. Does not count as drained. */
  unreserve(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes
    if (this.#waiters.length > 0) this.#serveWaiters()
  }

  /** Bytes a second that {@link release} gave back in the last 5 s. */
  get drainBytesPerSecond(): number {
    return this.#drained.sum() / drainWindowSeconds
  }

  /** Ends all waits for room with false: the producer is closing. */
  close(): void {
    this.#waitingBytes = 0
    for (const waiter of this.#waiters.splice(0)) {
      clearTimeout(waiter.timer)
      waiter.resolve(false)
    }
  }

  #serveWaiters(): void {
    let next = this.#waiters[0]
    while (next !== undefined && this.#usedBytes + next.sizeBytes <= this.totalBytes) {
      this.#waiters.shift()
      clearTimeout(next.timer)
      this.#waitingBytes -= next.sizeBytes
      this.#usedBytes += next.sizeBytes
      next.resolve(true)
      next = this.#waiters[0]
    }
  }

  #giveUp(waiter: Waiter): void {
    this.#waiters = this.#waiters.filter((other) => other !== waiter)
    this.#waitingBytes -= waiter.sizeBytes
    waiter.resolve(false)
    this.#serveWaiters()
  }
}

interface Waiter {
  readonly sizeBytes: number
  readonly resolve: (granted: boolean) => void
  readonly timer: NodeJS.Timeout
}

/** Long enough to smooth batches, short enough to follow an outage. */
const drainWindowSeconds = 5
const maxRetryAfterSeconds = 60
