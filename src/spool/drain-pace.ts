/**
 * How fast a backlog is read back while new events come. These share its disk and its event loop, and so wait longer the
 * faster it goes: it goes as fast as leaves their commits about as quick as they are without it, as a background transfer
 * does in a network (LEDBAT, RFC 6817: base delay and target). Where none come, it goes as fast as Kafka takes it.
 *
 * It always goes faster than new records come, whatever these wait for: otherwise it would never end.
 */
export class DrainPace {
  #bytesPerSecond = firstBytesPerSecond
  /** What may be read back now, in bytes; below 0: what went already of the time to come. */
  #allowance = 0
  #refilledAtMs = 0
  #windowStartMs = 0
  /** Of the window: commits, what they took together, records that they brought, records that were read back. */
  #commits = 0
  #tookMs = 0
  #cameRecords = 0
  #drainedRecords = 0
  /** New records of the last window. */
  #recordsBefore = 0
  /** What a commit takes while nothing is read back; before that was seen, the least that one took on average in a window. */
  #calmMs = Infinity
  #wasCalm = false

  /** A group of new records was committed. */
  committed(tookMs: number, recordCount: number, nowMs: number): void {
    this.#turnWindow(nowMs)
    this.#commits++
    this.#tookMs += tookMs
    this.#cameRecords += recordCount
  }

  /** Takes leave to read back one record. @returns whether it may go now; if not, it is to be asked again in some milliseconds. */
  take(sizeBytes: number, nowMs: number): boolean {
    this.#turnWindow(nowMs)
    this.#refill(nowMs)
    const mustGo = this.#drainedRecords < leastRatio * Math.max(this.#recordsBefore, this.#cameRecords)
    if (this.#allowance <= 0 && !mustGo) return false
    this.#allowance -= sizeBytes
    this.#drainedRecords++
    return true
  }

  #refill(nowMs: number): void {
    const passedMs = Math.min(nowMs - this.#refilledAtMs, longestBurstMs)
    this.#refilledAtMs = nowMs
    const most = (this.#bytesPerSecond * longestBurstMs) / 1_000
    this.#allowance = Math.min(most, this.#allowance + (this.#bytesPerSecond * passedMs) / 1_000)
  }

  #turnWindow(nowMs: number): void {
    if (nowMs - this.#windowStartMs < windowMs) return
    if (this.#commits > 0) this.#judge(this.#tookMs / this.#commits)
    else this.#bytesPerSecond = Math.min(mostBytesPerSecond, 2 * this.#bytesPerSecond)
    this.#recordsBefore = nowMs - this.#windowStartMs < 2 * windowMs ? this.#cameRecords : 0
    this.#windowStartMs = nowMs
    this.#commits = this.#tookMs = this.#cameRecords = this.#drainedRecords = 0
  }

  #judge(meanMs: number): void {
    if (this.#drainedRecords === 0) {
      this.#calmMs = this.#wasCalm ? this.#calmMs + (meanMs - this.#calmMs) / 10 : meanMs
      this.#wasCalm = true
      return
    }
    if (!this.#wasCalm) this.#calmMs = Math.min(this.#calmMs, meanMs)
    const factor = meanMs > tolerance * this.#calmMs ? 0.7 : 1.1
    const next = this.#bytesPerSecond * factor
    this.#bytesPerSecond = Math.max(leastBytesPerSecond, Math.min(mostBytesPerSecond, next))
  }
}

const windowMs = 100
/** How many times as long as without a backlog a commit may take. */
const tolerance = 1.5
/** Of records read back to records that come. */
const leastRatio = 1.5
const longestBurstMs = 5
const firstBytesPerSecond = 8 << 20
const leastBytesPerSecond = 1 << 20
const mostBytesPerSecond = 1 << 30
