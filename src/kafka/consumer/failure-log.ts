import type { ConsumerDelivery } from '../../config/config.ts'
import type { Logger } from '../../logger.ts'

/** Logs failures that come in numbers: the first at once, then at most a line every ten seconds, with the count. */
export class FailureLog {
  readonly #logger: Logger
  readonly #message: string
  #records = 0
  #lastMs = Number.NEGATIVE_INFINITY

  constructor(logger: Logger, delivery: ConsumerDelivery) {
    this.#logger = logger
    this.#message = messages[delivery]
  }

  add(error: unknown, records: number): void {
    this.#records += records
    const nowMs = performance.now()
    if (nowMs - this.#lastMs < pauseMs) return
    this.#lastMs = nowMs
    this.#logger.error({ cause: (error as Error).message, records: this.#records }, this.#message)
    this.#records = 0
  }
}

const messages: Readonly<Record<ConsumerDelivery, string>> = {
  'at-most-once': 'records were committed and not processed: they are lost',
  'at-least-once': 'records could not be processed; trying again',
  'auto-commit': 'records could not be processed: they are lost',
}

const pauseMs = 10_000
