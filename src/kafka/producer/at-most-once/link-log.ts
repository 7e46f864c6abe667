import type { Logger } from '../../../logger.ts'
import type { BrokerAddress } from '../../network/cluster-metadata.ts'

/** The log lines about one broker of an at-most-once stream, besides outages (`network/outage-log.ts`). */
export class LinkLog {
  readonly #logger: Logger
  readonly #topic: string
  readonly #nodeId: number
  #isStandstillLogged = false

  constructor(logger: Logger, topic: string, nodeId: number) {
    this.#logger = logger
    this.#topic = topic
    this.#nodeId = nodeId
  }

  /**
   * The broker does not tell where its log ends. To be called once for each address of the broker.
   * @param address null: the broker is not in the cluster now.
   */
  noLogEnd(address: BrokerAddress | null): void {
    const broker = address === null ? `broker ${this.#nodeId}` : `${address.host}:${address.port}`
    this.#logger.warn(
      { topic: this.#topic, broker, confirmation: 'acks_1' },
      'the broker does not tell where its log ends; from now on each write is answered by it (acks=1)',
    )
  }

  /** Is called every second. Logs one line for each standstill of replicas. With too few in-sync replicas a standstill may last for hours. */
  standstill(partitions: readonly number[]): void {
    const isStanding = partitions.length > 0
    if (isStanding && !this.#isStandstillLogged) {
      const fields = { topic: this.#topic, broker: this.#nodeId, partitions: partitions.slice(0, 20) }
      this.#logger.warn(fields, 'replicas do not fetch what was written; records wait in the buffer')
    }
    this.#isStandstillLogged = isStanding
  }
}
