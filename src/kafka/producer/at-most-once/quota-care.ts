import { ThrottlePause } from '../../network/throttle-pause.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * Care for a broker's quotas (KIP-219) with acks=0. A broker that throttles stops reading for seconds, and with acks=0 it does not say so.
 * If the authenticated session ends meanwhile, everything behind the first write is lost. So writing is careful if the session has an end,
 * and the broker throttles or the session is short. Careful means: each write is answered before the next one is written, and the answer
 * says how long the broker wants no requests.
 */
export class QuotaCare {
  /** Nothing is written before its end. The batches stay in the buffer, from where any connection can take them. */
  readonly #pause: ThrottlePause
  #carefulUntilMs = 0
  #isShortSession = false

  /** @param onReady is called when the pause that the broker asked for is over. */
  constructor(onReady: () => void) {
    this.#pause = new ThrottlePause(onReady)
  }

  /** Writes go over this connection from now on. */
  attach(connection: BrokerConnection): void {
    this.#isShortSession = connection.renewAtMs - performance.now() < shortSessionMs
  }

  /** The broker wants no requests now. */
  get isThrottled(): boolean {
    return this.#pause.isOn
  }

  /** Each write has to be answered before the next one is written. */
  isCareful(nowMs: number): boolean {
    return this.#isShortSession || nowMs < this.#carefulUntilMs
  }

  /** A barrier was answered. If the answer took long, the next writes are answered, and their answers tell whether there is a quota. */
  barrierTook(connection: BrokerConnection | null, tookMs: number): void {
    if (tookMs <= throttleSuspicionMs || connection === null || connection.renewAtMs === Infinity) return
    this.#carefulUntilMs = Math.max(this.#carefulUntilMs, performance.now() + carefulForMs)
  }

  /** A broker answered a write. @param throttleTimeMs the pause that the broker asks for; 0: none. */
  throttle(connection: BrokerConnection, throttleTimeMs: number): void {
    if (throttleTimeMs <= 0) return
    connection.throttle(throttleTimeMs)
    this.#pause.extend(throttleTimeMs)
    this.#pause.tellWhenOver()
    if (connection.renewAtMs === Infinity) return
    this.#carefulUntilMs = Math.max(this.#carefulUntilMs, performance.now() + throttleTimeMs + carefulForMs)
  }
}

/** If a barrier takes longer, a quota may be the cause. */
const throttleSuspicionMs = 200
/** Longer than the window over which a broker measures a quota (`quota.window.num` times `quota.window.size.seconds`). */
const carefulForMs = 15_000
/** A session is short if there is less time than this until its connection is renewed. In a longer session a throttled broker can catch up. */
const shortSessionMs = 50_000
