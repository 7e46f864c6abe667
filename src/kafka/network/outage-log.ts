import { UnservedError } from '../protocol/requests.ts'
import type { Logger } from '../../logger.ts'

/**
 * Logs one line when a broker is gone and one line when it is back, with the effect of the outage on the stream. If a broker comes and goes,
 * there is at most one such pair of lines in 10 s. An outage that lasts is logged in any case.
 */
export class OutageLog {
  readonly #stream: string
  readonly #logger: Logger
  readonly #buffered: () => number
  readonly #outages = new Map<number, Outage>()
  /** When the last line about the absence of a node was written, by node. */
  readonly #loggedAtMs = new Map<number, number>()

  /** @param buffered how many records of the stream wait in the buffer at this moment. */
  constructor(stream: string, logger: Logger, buffered: () => number) {
    this.#stream = stream
    this.#logger = logger
    this.#buffered = buffered
  }

  /** A connection ended or could not be made. */
  down(nodeId: number, cause: Error, suspectedRecords: number): void {
    const nowMs = performance.now()
    const outage = this.#outages.get(nodeId) ?? { sinceMs: nowMs, suspectedRecords: 0, isLogged: false }
    this.#outages.set(nodeId, outage)
    outage.suspectedRecords += suspectedRecords
    if (outage.isLogged || nowMs - (this.#loggedAtMs.get(nodeId) ?? -Infinity) < quietMs) return
    outage.isLogged = true
    this.#loggedAtMs.set(nodeId, nowMs)
    const fields = {
      stream: this.#stream,
      broker: nodeId,
      cause: cause.message,
      suspectedLost: outage.suspectedRecords,
    }
    const what = cause instanceof UnservedError ? 'broker does not serve what is needed' : 'broker is away'
    this.#logger.warn(fields, `${what}; records wait in the buffer`)
  }

  /** A connection is open again. */
  up(nodeId: number): void {
    const outage = this.#outages.get(nodeId)
    this.#outages.delete(nodeId)
    if (outage?.isLogged !== true) return
    const awayMs = Math.round(performance.now() - outage.sinceMs)
    this.#logger.info(
      {
        stream: this.#stream,
        broker: nodeId,
        awayMs,
        buffered: this.#buffered(),
        suspectedLost: outage.suspectedRecords,
      },
      'broker is back',
    )
  }
}

interface Outage {
  readonly sinceMs: number
  suspectedRecords: number
  isLogged: boolean
}

const quietMs = 10_000
