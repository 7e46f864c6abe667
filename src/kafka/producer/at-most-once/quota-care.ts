import type { BrokerConnection } from '../../network/transport.ts'

/**
 * What a broker's quotas (KIP-219) demand of acks=0 writes. A broker that throttles stops reading, for seconds, and with acks=0 it does
 * not say so. If the authenticated session ends meanwhile, everything behind the first write is lost. So where a session ends, and the
 * broker throttles or the session is short, writing is careful: nothing is written before the last write is answered, and the answer
 * tells for how long the broker wants to be left alone.
 */
export class QuotaCare {
  readonly #onReady: () => void
  /** What waits for this moment stays in the buffer, from where any connection can take it. */
  #throttledUntilMs = 0
  #carefulUntilMs = 0
  #isShortSession = false

  /** @param onReady the time that the broker asked for is over. */
  constructor(onReady: () => void) {
    this.#onReady = onReady
  }

  /** Writes go over this connection from now on. */
  attach(connection: BrokerConnection): void {
    this.#isShortSession = connection.renewAtMs - performance.now() < shortSessionMs
  }

  /** The broker asked to be left alone until later. */
  isThrottled(nowMs: number): boolean {
    return nowMs < this.#throttledUntilMs
  }

  /** Each write is answered before the next one is written. */
  isCareful(nowMs: number): boolean {
    return this.#isShortSession || nowMs < this.#carefulUntilMs
  }

  /** A barrier was answered. If that took long, the next write is answered, and tells whether it was a quota. */
  barrierTook(connection: BrokerConnection | null, tookMs: number): void {
    if (tookMs <= throttleSuspicionMs || connection === null || connection.renewAtMs === Infinity) return
    this.#carefulUntilMs = Math.max(this.#carefulUntilMs, performance.now() + carefulForMs)
  }

  /** An answer asked for a pause; 0: it did not. */
  throttle(connection: BrokerConnection, throttleTimeMs: number): void {
    if (throttleTimeMs <= 0) return
    connection.throttle(throttleTimeMs)
    this.#throttledUntilMs = performance.now() + throttleTimeMs
    if (connection.renewAtMs < Infinity) this.#carefulUntilMs = this.#throttledUntilMs + carefulForMs
    setTimeout(this.#onReady, throttleTimeMs)
  }
}

/** A barrier that took longer may have been behind a quota. */
const throttleSuspicionMs = 200
/** Longer than the window in which a broker adds up what a quota is about (`quota.window.num` and `quota.window.size.seconds`). */
const carefulForMs = 15_000
/** To the time of renewal. The rest of a longer session is enough for what a broker can be behind. */
const shortSessionMs = 50_000
