import { RollingSum } from '../../rolling-sum.ts'

/**
 * The ledger of one stream's `buffer.memory`: what is queued, what a socket holds and what is written but not confirmed
 * never passes the limit, but for {@link take}. Room is taken before a record exists and given back when its outcome is known.
 */
export class BufferMemory {
  readonly totalBytes: number
  #usedBytes = 0
  readonly #drained = new RollingSum(drainWindowSeconds)
  #waiters: Waiter[] = []
  #waitingBytes = 0
  /** Since when there was no room for a request; null if there was for the last one. */
  #fullSinceMs: number | null = null
  /** Size of the last request, if there was no room for it. */
  #refusedBytes = 0

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes
  }

  /** Room that is left, in bytes. Never less than 0, also where {@link take} went beyond the limit. */
  get availableBytes(): number {
    return Math.max(0, this.totalBytes - this.#usedBytes)
  }

  /**
   * Takes room for a whole request, or none of it.
   * @returns false if the limit would be passed, or if others already wait for room: they come first.
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

  /** There is no room for a request as the last one was. */
  get isFull(): boolean {
    return this.#refusedBytes > this.availableBytes
  }

  /** Seconds after which room for a tenth of the buffer can be expected; with nothing draining, as long again as it is full. */
  get retryAfterSeconds(): number {
    const { drainBytesPerSecond } = this
    const fullForSeconds = this.#fullSinceMs === null ? 0 : (performance.now() - this.#fullSinceMs) / 1000
    const seconds = drainBytesPerSecond > 0 ? this.totalBytes / 10 / drainBytesPerSecond : fullForSeconds
    return Math.min(maxRetryAfterSeconds, Math.max(1, Math.ceil(seconds)))
  }

  /**
   * As {@link reserve}, but waits its turn (`max.block.ms`; as Kafka's `BufferPool.allocate`, first come, first served).
   * @returns false when the time ran out; and at once for more than there will ever be, since nobody has to wait behind that,
   * and where those who wait already hold as much again as the buffer: requests that wait are memory, too.
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
   * Takes room that is in use already, also beyond the limit. When a topic gets partitions while the buffer is full, the records
   * that wait are appended again, and need the header of one more batch (61 bytes) for each partition.
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

  /** Gives back room that turned out not to be needed: nothing has drained. */
  unreserve(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes
    if (this.#waiters.length > 0) this.#serveWaiters()
  }

  /** Bytes that outcomes set free a second, lately. */
  get drainBytesPerSecond(): number {
    return this.#drained.sum() / drainWindowSeconds
  }

  /** Sends everybody away who waits for room: the producer is closing. */
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
