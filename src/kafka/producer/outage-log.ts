import type { Account } from './account.ts'
import type { Logger } from './producer.ts'

/** Tells an operator once that a broker is gone and once that it is back, with what that did to the stream. */
export class OutageLog {
  readonly #stream: string
  readonly #logger: Logger
  readonly #account: () => Account
  readonly #outages = new Map<number, Outage>()

  constructor(stream: string, logger: Logger, account: () => Account) {
    this.#stream = stream
    this.#logger = logger
    this.#account = account
  }

  /** A connection ended or could not be made. Only the first time of an outage is told. */
  down(nodeId: number, cause: Error, suspectedRecords: number): void {
    const outage = this.#outages.get(nodeId)
    if (outage !== undefined) {
      outage.suspectedRecords += suspectedRecords
      return
    }
    this.#outages.set(nodeId, { sinceMs: performance.now(), suspectedRecords })
    const fields = {
      stream: this.#stream,
      broker: nodeId,
      cause: cause.message,
      suspectedLost: suspectedRecords,
    }
    this.#logger.warn(fields, 'broker is away; records wait in the buffer')
  }

  /** A connection is open again. */
  up(nodeId: number): void {
    const outage = this.#outages.get(nodeId)
    if (outage === undefined) return
    this.#outages.delete(nodeId)
    const { buffered } = this.#account()
    const awayMs = Math.round(performance.now() - outage.sinceMs)
    this.#logger.info(
      { stream: this.#stream, broker: nodeId, awayMs, buffered, suspectedLost: outage.suspectedRecords },
      'broker is back',
    )
  }
}

interface Outage {
  readonly sinceMs: number
  suspectedRecords: number
}
