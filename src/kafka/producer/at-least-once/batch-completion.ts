import type { StreamConfig } from '../../../config/config.ts'
import type { Logger } from '../../../logger.ts'
import type { ClusterMetadata } from '../../network/cluster-metadata.ts'
import type { WriteRights } from '../../network/write-rights.ts'
import {
  isBadContent,
  isLostIdentity,
  isRetriable,
  isStaleMetadata,
  isUnauthorized,
  kafkaErrorName,
  kafkaErrors,
  mayBeStored,
} from '../../protocol/kafka-error.ts'
import type { ProduceResult } from '../../protocol/requests.ts'
import type { Account } from '../account.ts'
import { dropReasonOf, type DropReason } from '../outcome.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { Refusal } from '../sender.ts'
import type { PartitionFlight } from './partition-flight.ts'
import type { IdentitySource } from './producer-identity.ts'
import { splitBatch } from './split-and-resume.ts'

/**
 * What a broker's answer leads to for the batch in flight: an outcome, another try, its halves in its place, or the dead letters. It is
 * what Kafka's own producer does (`Sender.completeBatch`, `TransactionManager.canRetry`), but for what an operator can mend.
 */
export class BatchCompletion {
  readonly #options: BatchCompletionOptions

  constructor(options: BatchCompletionOptions) {
    this.#options = options
  }

  /**
   * A produce request was answered, or ended without an answer.
   * @param result what the broker said of the partition; null where there is no answer.
   * @param errorCode `networkException` where there is no answer.
   */
  complete(flight: PartitionFlight, result: ProduceResult | null, errorCode: number): void {
    flight.connection = null
    flight.heldFor = null
    const { batch } = flight
    if (batch === null) return
    if (errorCode === kafkaErrors.none || errorCode === kafkaErrors.duplicateSequenceNumber) {
      flight.batch = null
      const { baseOffset } = result!
      this.#options.account.settle(batch, 'acked', null, baseOffset < 0n ? null : baseOffset)
      return
    }
    const { metadata } = this.#options
    if (mayBeStored(errorCode)) flight.mayBeStored = true
    if (isStaleMetadata(errorCode)) metadata.refresh()
    // The topic takes less than it did, or is compacted by now.
    if (isBadContent(errorCode)) metadata.refreshSettings()
    if (isUnauthorized(errorCode)) this.#hold(flight, errorCode)
    else if (errorCode === kafkaErrors.unknownTopicOrPartition) this.#hold(flight, errorCode)
    else if (isBadContent(errorCode) && batch.recordCount > 1) this.#split(flight)
    else if (isLostIdentity(errorCode)) this.#retry(flight, errorCode, true)
    else if (isRetriable(errorCode)) this.#retry(flight, errorCode, false)
    else this.refuse(flight, errorCode)
  }

  /**
   * What an operator can take back is no end, and costs no try: the batch waits until the broker takes it, or
   * `delivery.timeout.ms` is used up, as in an outage.
   */
  #hold(flight: PartitionFlight, errorCode: number): void {
    const { rights, stream } = this.#options
    const batch = flight.batch!
    batch.attempts = Math.max(1, batch.attempts - 1)
    flight.heldFor = errorCode
    flight.retryAtMs = performance.now() + stream.producer.retryBackoffMs
    this.#options.wakeUpAt(flight.retryAtMs)
    if (!isUnauthorized(errorCode)) return
    // Whether the broker takes a producer id is told with another one; the batch keeps its own, since it may be stored under it.
    if (errorCode !== kafkaErrors.topicAuthorizationFailed)
      this.#options.identity.discard(this.#options.identity.current)
    rights.answered(errorCode)
  }

  /**
   * @param isIdentityLost the broker does not know the sequence that it is given: its state of this producer is gone
   * (retention, an unclean election). With one batch in flight a partition, a new identity is safe; only this batch can
   * come twice, if it was stored and its answer lost.
   */
  #retry(flight: PartitionFlight, errorCode: number, isIdentityLost: boolean): void {
    const { retries, retryBackoffMs } = this.#options.stream.producer
    if (isIdentityLost) {
      this.#renewIdentity(flight)
      this.#countPossibleRepeat(flight, errorCode)
    }
    if (flight.batch!.attempts > retries) return this.refuse(flight, errorCode)
    flight.retryAtMs = performance.now() + retryBackoffMs
    this.#options.wakeUpAt(flight.retryAtMs)
  }

  /** The batch goes again under another identity. If the broker had stored it, nobody can tell any more. */
  #countPossibleRepeat(flight: PartitionFlight, errorCode: number): void {
    if (!flight.mayBeStored || flight.isRepeatCounted) return
    flight.isRepeatCounted = true
    const { account, stream, logger } = this.#options
    const { recordCount } = flight.batch!
    account.possiblyRepeated += recordCount
    const fields = { topic: stream.topic, partition: flight.partition, records: recordCount }
    logger.warn(
      { ...fields, kafkaError: kafkaErrorName(errorCode) },
      'the broker no longer knows the producer of a batch that it may have: its records go again, and can be there twice',
    )
  }

  /**
   * The batch is larger than the topic takes by now, or a record in it is not what the topic wants: its halves go instead,
   * until only what is wrong is refused. Kafka's producer does so with what is too large, and fails a whole batch for one
   * bad record.
   */
  #split(flight: PartitionFlight): void {
    const batch = flight.batch!
    const parts = splitBatch(batch)
    this.#options.account.split(batch, parts)
    flight.split(parts)
  }

  /** The broker refused the batch for good. */
  refuse(flight: PartitionFlight, errorCode: number): void {
    const { logger, stream, onRejected, onRefused } = this.#options
    const fields = { topic: stream.topic, partition: flight.partition, records: flight.batch!.recordCount }
    logger.debug({ ...fields, kafkaError: kafkaErrorName(errorCode) }, 'the broker refused a batch for good')
    onRejected(flight.batch!, errorCode)
    const batch = flight.take()!
    // Its sequence numbers may be missing from the log now, and the broker would refuse the next ones.
    this.#renewIdentity(flight)
    onRefused(batch, { reason: dropReasonOf(errorCode), errorCode, mayBeStored: flight.mayBeStored })
  }

  /** Ends what is on its way to a partition because of a limit of our own. */
  giveUpAll(flight: PartitionFlight, reason: DropReason): void {
    for (let batch = flight.take(); batch !== null; batch = flight.take()) {
      this.#renewIdentity(flight)
      if (flight.mayBeStored || flight.connection !== null)
        this.#options.account.settle(batch, 'suspected_lost')
      else this.#options.account.settle(batch, 'dropped', reason)
    }
    flight.connection = null
  }

  /** The next batch of the partition gets another identity, as do those of others, once they are done with what they have. */
  #renewIdentity(flight: PartitionFlight): void {
    flight.forgetSequence()
    this.#options.identity.discard(flight.identity)
  }
}

/** See {@link BatchCompletion}. */
export interface BatchCompletionOptions {
  readonly stream: StreamConfig
  readonly account: Account
  readonly metadata: ClusterMetadata
  readonly logger: Logger
  readonly rights: WriteRights
  readonly identity: IdentitySource
  /** See `SenderOptions.onRejected`. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  /** See `SenderOptions.onRefused`. */
  readonly onRefused: (batch: ProducerBatch, refusal: Refusal) => void
  /** A batch can go again then (by `performance.now()`). */
  readonly wakeUpAt: (atMs: number) => void
}
