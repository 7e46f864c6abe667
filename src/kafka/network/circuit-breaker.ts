/**
 * Says when a broker may be tried again. After each failure the pause grows, from 100 ms up, with full jitter, so that the
 * gateways of a fleet do not return at the same moment, and no gateway reconnects in a loop. The ceiling is 750 ms and not Kafka's
 * `reconnect.backoff.max.ms` of 1 s, since a stream has to be back within a second of its broker.
 */
export class CircuitBreaker {
  #failures = 0
  #retryAtMs = 0

  /** The last try failed, and the next one is not due. */
  get isOpen(): boolean {
    return this.#failures > 0 && performance.now() < this.#retryAtMs
  }

  /** Milliseconds until the next try, 0 if it is due. */
  get waitMs(): number {
    return this.#failures === 0 ? 0 : Math.max(0, Math.ceil(this.#retryAtMs - performance.now()))
  }

  /** Failures since the last success. */
  get failures(): number {
    return this.#failures
  }

  /** The broker did what it was asked: the next failure starts with the shortest pause. */
  succeeded(): void {
    this.#failures = 0
  }

  /** The broker could not be reached, or broke off. */
  failed(): void {
    const ceiling = Math.min(maxPauseMs, minPauseMs * 2 ** this.#failures)
    this.#failures++
    this.#retryAtMs = performance.now() + minPauseMs / 2 + Math.random() * (ceiling - minPauseMs / 2)
  }
}

const minPauseMs = 100
const maxPauseMs = 750
