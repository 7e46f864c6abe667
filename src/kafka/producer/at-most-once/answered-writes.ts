import type { Logger } from '../../../logger.ts'
import type { BrokerConnection } from '../../network/transport.ts'
import type { WriteRights } from '../../network/write-rights.ts'
import {
  isBadContent,
  isStaleMetadata,
  isUnauthorized,
  kafkaErrorName,
  kafkaErrors,
  mayBeStored,
} from '../../protocol/kafka-error.ts'
import { decodeProduce, type ProduceResult } from '../../protocol/requests.ts'
import type { WireRequest } from '../../protocol/wire.ts'
import type { Account } from '../account.ts'
import { dropReasonOf } from '../outcome.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { ProducerTelemetry } from '../producer.ts'

/** The writes of one link that the broker answers (acks=1 and acks=all), and what their answers mean for their batches. */
export class AnsweredWrites {
  readonly #options: AnsweredWritesOptions
  /** Writes that are not answered yet, the oldest first, and the time of each. */
  readonly #writtenAtMs = new Map<ProducerBatch[], number>()
  #usualMs = 0

  constructor(options: AnsweredWritesOptions) {
    this.#options = options
  }

  /** Writes that are not answered yet. */
  get count(): number {
    return this.#writtenAtMs.size
  }

  /** Smoothed time that an answer takes, in milliseconds; 0 before the first answer. */
  get usualMs(): number {
    return this.#usualMs
  }

  /** The time of the oldest write that is not answered; null if all writes are answered. */
  get oldestAtMs(): number | null {
    for (const atMs of this.#writtenAtMs.values()) return atMs
    return null
  }

  /** Writes a produce request that the broker answers. */
  write(connection: BrokerConnection, request: WireRequest, batches: ProducerBatch[]): void {
    const { telemetry, onThrottled, onAnswered } = this.#options
    const nowMs = performance.now()
    this.#writtenAtMs.set(batches, nowMs)
    connection.call(
      request,
      (payload) => {
        const tookMs = performance.now() - nowMs
        telemetry.requestCompleted(tookMs)
        // An answer that ends too early ends the connection, which then takes the batches (`takeAll`).
        const { results, throttleTimeMs } = decodeProduce(payload)
        if (!this.#writtenAtMs.delete(batches)) return
        this.#usualMs = this.#usualMs === 0 ? tookMs : this.#usualMs * 0.8 + tookMs * 0.2
        onThrottled(connection, throttleTimeMs)
        this.#settle(batches, results)
        onAnswered()
      },
      (error) => connection.destroy(error),
    )
  }

  /** The connection has ended. Gives back the batches without an answer, in the order of writing. */
  takeAll(): ProducerBatch[] {
    const batches = [...this.#writtenAtMs.keys()].flat()
    this.#writtenAtMs.clear()
    return batches
  }

  #settle(batches: readonly ProducerBatch[], results: readonly ProduceResult[]): void {
    const { account, onStored } = this.#options
    const byPartition = new Map(results.map((result) => [result.partition, result]))
    for (const batch of batches) {
      const result = byPartition.get(batch.partition)
      if (result === undefined) account.settle(batch, 'suspected_lost')
      else if (result.errorCode === kafkaErrors.none) onStored(batch, result.baseOffset)
      else this.#rejected(batch, result.errorCode)
    }
  }

  /** The broker refused a batch. At most once, a batch is not sent again even if the broker did not store it. */
  #rejected(batch: ProducerBatch, errorCode: number): void {
    const { account, acks, logger, topic, rights, onStale, onBadContent, onNotLed, onRejected } =
      this.#options
    const { partition, recordCount: records } = batch
    onRejected(batch, errorCode)
    if (mayBeStored(errorCode, acks)) account.settle(batch, 'suspected_lost')
    else account.settle(batch, 'dropped', dropReasonOf(errorCode))
    if (isBadContent(errorCode)) onBadContent()
    const kafkaError = kafkaErrorName(errorCode)
    logger.debug({ topic, partition, records, kafkaError }, 'the broker refused a batch')
    if (isStaleMetadata(errorCode)) onNotLed(partition)
    if (isUnauthorized(errorCode)) rights.answered(errorCode)
    onStale()
  }
}

/** See {@link AnsweredWrites}. */
export interface AnsweredWritesOptions {
  readonly topic: string
  /** `acks` of the stream. With 0, writes that are answered have 1. */
  readonly acks: 0 | 1 | -1
  readonly account: Account
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  readonly rights: WriteRights
  /** The leader has the batch. The owner gives the batch its outcome. */
  readonly onStored: (batch: ProducerBatch, baseOffset: bigint) => void
  /** See `SenderOptions.onRejected`. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  /** The broker does not lead the partition, or not any more. */
  readonly onNotLed: (partition: number) => void
  /** Metadata may be out of date. */
  readonly onStale: () => void
  /** The topic's size limit may be lower than was known, or the topic may be compacted by now. */
  readonly onBadContent: () => void
  /** How long the broker wants no requests (KIP-219); 0: it takes requests now. */
  readonly onThrottled: (connection: BrokerConnection, throttleTimeMs: number) => void
  /** The answer to a write was read, for all of its batches. */
  readonly onAnswered: () => void
}
