/**
 * Says when a server may be tried again: a broker (`kafka/network/`) or a Redis (`dedupe/`). The pause is random, from
 * 50 ms to a ceiling, so that the gateways of a fleet do not return at the same moment. The ceiling is 100 ms after the first failure, and
 * doubles with each failure, up to 750 ms. Kafka's `reconnect.backoff.max.ms` is 1 s, but a stream has to be back within a second of its
 * broker.
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

  /** The server did what it was asked. The next failure begins with the shortest pause. */
  succeeded(): void {
    this.#failures = 0
  }

  /** The server could not be reached, or ended the connection. */
  failed(): void {
    const ceiling = Math.min(maxPauseMs, minPauseMs * 2 ** this.#failures)
    this.#failures++
    this.#retryAtMs = performance.now() + minPauseMs / 2 + Math.random() * (ceiling - minPauseMs / 2)
  }
}

const minPauseMs = 100
const maxPauseMs = 750
