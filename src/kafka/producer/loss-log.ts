import type { Account } from './account.ts'
import { countOf, keptOutcomes, outcomeTraits } from './outcome.ts'
import { kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import type { Logger } from '../../logger.ts'

/**
 * Logs how many records of a stream were dropped, were dead-lettered, or are suspected lost, by reason and by Kafka's name of the error.
 * There is at most one line in 10 s, and no line while none of these counts grows. A clock that the broker refuses has a line of its own,
 * at most once an hour.
 */
export class LossLog {
  readonly #stream: string
  readonly #account: Account
  readonly #logger: Logger
  #loggedAtMs = -Infinity
  #logged: Record<string, number> = {}
  #loggedErrors: Record<string, number> = {}
  #clockLoggedAtMs = -Infinity

  constructor(stream: string, account: Account, logger: Logger) {
    this.#stream = stream
    this.#account = account
    this.#logger = logger
  }

  /**
   * The broker refused a batch for its timestamps (INVALID_TIMESTAMP). A record's timestamp is the gateway's time of receipt. So usually
   * the clock of the gateway or of the broker is wrong, and then the broker refuses every record.
   */
  clockRefused(topic: string, recordTimeMs: number): void {
    const nowMs = performance.now()
    if (nowMs - this.#clockLoggedAtMs < clockQuietMs) return
    this.#clockLoggedAtMs = nowMs
    const fields = {
      stream: this.#stream,
      topic,
      kafkaError: kafkaErrorName(kafkaErrors.invalidTimestamp),
      recordTime: new Date(recordTimeMs).toISOString(),
      gatewayTime: new Date().toISOString(),
      remedy:
        'set the clocks of this machine and of the brokers (NTP), or widen message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic',
    }
    this.#logger.error(fields, "the broker refuses the time of this gateway's clock: records are refused")
  }

  /** Is called every second. */
  everySecond(nowMs: number): void {
    if (nowMs - this.#loggedAtMs < intervalMs) return
    const total: Record<string, number> = {}
    for (const outcome of loggedOutcomes) total[outcome] = countOf(this.#account, outcome)
    Object.assign(total, this.#account.dropped)
    const lost = growth(this.#logged, total)
    if (Object.keys(lost).length === 0) return
    const refused = growth(this.#loggedErrors, this.#account.refused)
    this.#loggedAtMs = nowMs
    this.#logged = total
    this.#loggedErrors = { ...this.#account.refused }
    const isLost = Object.keys(lost).some((name) => !notLost.has(name))
    const refusals = Object.keys(refused).length === 0 ? {} : { kafkaErrors: refused }
    this.#logger.warn(
      { stream: this.#stream, records: lost, ...refusals },
      isLost ? 'records were lost' : 'records went to the dead letters',
    )
  }
}

/** The counts that have grown, and by how much. */
function growth(
  before: Readonly<Record<string, number>>,
  now: Readonly<Record<string, number>>,
): Record<string, number> {
  const grown: Record<string, number> = {}
  for (const [name, count] of Object.entries(now)) {
    const since = count - (before[name] ?? 0)
    if (since > 0) grown[name] = since
  }
  return grown
}

/** The outcomes that are logged under their own name. Dropped records are logged by reason. */
const loggedOutcomes = keptOutcomes.filter((outcome) => !outcomeTraits[outcome].isDelivered)
const notLost = new Set<string>(loggedOutcomes.filter((outcome) => !outcomeTraits[outcome].isLoss))

const intervalMs = 10_000
const clockQuietMs = 3_600_000
