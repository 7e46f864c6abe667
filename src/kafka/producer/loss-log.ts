import type { Account } from './account.ts'
import type { Logger } from './producer.ts'

/**
 * Tells an operator how many records of a stream were dropped, dead-lettered or are suspected lost, by reason: one line for all of them,
 * at most every 10 s, and none while nothing is lost.
 */
export class LossLog {
  readonly #stream: string
  readonly #account: Account
  readonly #logger: Logger
  #loggedAtMs = -Infinity
  #logged: Record<string, number> = {}

  constructor(stream: string, account: Account, logger: Logger) {
    this.#stream = stream
    this.#account = account
    this.#logger = logger
  }

  /** Is called every second. */
  tend(nowMs: number): void {
    if (nowMs - this.#loggedAtMs < intervalMs) return
    const total: Record<string, number> = {
      suspected_lost: this.#account.suspectedLost,
      dead_lettered: this.#account.deadLettered,
      ...this.#account.dropped,
    }
    const lost: Record<string, number> = {}
    for (const [reason, count] of Object.entries(total)) {
      const before = this.#logged[reason] ?? 0
      if (count > before) lost[reason] = count - before
    }
    if (Object.keys(lost).length === 0) return
    this.#loggedAtMs = nowMs
    this.#logged = total
    const isLost = Object.keys(lost).some((reason) => reason !== 'dead_lettered')
    this.#logger.warn(
      { stream: this.#stream, records: lost },
      isLost ? 'records were lost' : 'records went to the dead letters',
    )
  }
}

const intervalMs = 10_000
