import { kafkaErrorName, kafkaErrors } from '../../protocol/kafka-error.ts'
import type { Logger } from '../../../logger.ts'
import { decodeInitProducerId, encodeInitProducerId, type ProducerIdentity } from '../../protocol/requests.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * The producer id of one stream (KIP-98). It is asked for when it is first needed, and kept until a broker no longer knows it. Then a new id
 * takes its place. Kafka's producer raises the epoch of the old id instead (KIP-360). To the broker both mean that sequences start at 0.
 */
export class IdentitySource {
  readonly #options: IdentitySourceOptions
  #asking = false
  #refusals = 0
  #nextAskAtMs = 0
  /** The identity that new batches get; null while there is none. */
  current: ProducerIdentity | null = null

  constructor(options: IdentitySourceOptions) {
    this.#options = options
  }

  /** New batches do not get this identity any more. */
  discard(identity: ProducerIdentity | null): void {
    if (identity === this.current) this.current = null
  }

  /** Asks over a connection for the next identity. Calls that come before the answer do nothing. */
  ask(connection: BrokerConnection): void {
    if (this.#asking || performance.now() < this.#nextAskAtMs) return
    this.#asking = true
    connection.call(
      encodeInitProducerId(),
      (payload) => {
        this.#asking = false
        const identity = decodeInitProducerId(payload)
        if (identity.errorCode === kafkaErrors.none) {
          this.current = identity
          this.#refusals = 0
          this.#options.onReady()
        } else {
          this.#refused(identity.errorCode)
        }
      },
      (error) => {
        this.#asking = false
        connection.destroy(error)
      },
    )
  }

  /**
   * The broker gave no producer id. A broker that has just started gives none for a while. If the credentials may not write, an operator
   * has to mend that. So the broker is asked again, with pauses that grow.
   */
  #refused(errorCode: number): void {
    const { logger, retryBackoffMs, stream, onRefused } = this.#options
    const pauseMs = Math.min(retryBackoffMs * 2 ** this.#refusals++, Math.max(retryBackoffMs, maxPauseMs))
    this.#nextAskAtMs = performance.now() + pauseMs
    logger.debug({ stream, kafkaError: kafkaErrorName(errorCode) }, 'no producer id yet')
    onRefused(errorCode, this.#nextAskAtMs)
  }
}

/** See {@link IdentitySource}. */
export interface IdentitySourceOptions {
  readonly stream: string
  readonly logger: Logger
  /** There is an identity now. */
  readonly onReady: () => void
  /** The broker gave none. It may be asked again at `againAtMs` (by `performance.now()`). */
  readonly onRefused: (errorCode: number, againAtMs: number) => void
  /** `retry.backoff.ms`. */
  readonly retryBackoffMs: number
}

/** `retry.backoff.max.ms` of Kafka's clients. */
const maxPauseMs = 1_000
