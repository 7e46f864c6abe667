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
 * What a broker's answer leads to for the batch in flight: an outcome, another try, a split in halves, or the dead letters. The rules are
 * those of Kafka's own producer (`Sender.completeBatch`, `TransactionManager.canRetry`), except for errors that an operator can mend.
 */
export class BatchCompletion {
  readonly #options: BatchCompletionOptions

  constructor(options: BatchCompletionOptions) {
    this.#options = options
  }

  /**
   * A produce request was answered, or ended without an answer.
   * @param result what the broker said of the partition; null if there is no answer.
   * @param errorCode `networkException` if there is no answer.
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
    const { metadata, stream } = this.#options
    if (mayBeStored(errorCode, stream.producer.acks)) flight.mayBeStored = true
    if (isStaleMetadata(errorCode)) metadata.refresh()
    // The topic's size limit may be lower than it was, or the topic may be compacted by now.
    if (isBadContent(errorCode)) metadata.refreshSettings()
    if (isUnauthorized(errorCode)) this.#hold(flight, errorCode)
    else if (errorCode === kafkaErrors.unknownTopicOrPartition) this.#hold(flight, errorCode)
    else if (isBadContent(errorCode) && batch.recordCount > 1) this.#split(flight, errorCode)
    else if (isLostIdentity(errorCode)) this.#retry(flight, errorCode, true)
    else if (isRetriable(errorCode)) this.#retry(flight, errorCode, false)
    else this.refuse(flight, errorCode)
  }

  /**
   * An operator can mend the error, so it does not end the batch and uses up no retry. As in an outage, the batch waits until the broker
   * takes it, or until `delivery.timeout.ms` is used up.
   */
  #hold(flight: PartitionFlight, errorCode: number): void {
    const { rights, stream } = this.#options
    const batch = flight.batch!
    batch.attempts = Math.max(1, batch.attempts - 1)
    flight.heldFor = errorCode
    flight.retryAtMs = performance.now() + stream.producer.retryBackoffMs
    this.#options.wakeUpAt(flight.retryAtMs)
    if (!isUnauthorized(errorCode)) return
    // A new producer id shows whether the right is there again. The batch keeps its own id, since the broker may have stored it under that.
    if (errorCode !== kafkaErrors.topicAuthorizationFailed)
      this.#options.identity.discard(this.#options.identity.current)
    rights.answered(errorCode)
  }

  /**
   * Writes the batch again later, or refuses it if its retries are used up.
   * @param isIdentityLost the broker does not accept the sequence, since its state of this producer is gone (retention, an unclean election).
   * With one batch in flight a partition, a new identity is safe: only this batch can be stored twice, if it was stored and its answer was
   * lost.
   */
  #retry(flight: PartitionFlight, errorCode: number, isIdentityLost: boolean): void {
    const { retries, retryBackoffMs, deliveryTimeoutMs } = this.#options.stream.producer
    if (flight.batch!.attempts - flight.sparedTries > retries) return this.refuse(flight, errorCode)
    // Kafka's `Sender.canRetry` looks at the time, too. Where answers are always late, no second begins between two tries.
    if (performance.now() - flight.batch!.createdAtMs >= deliveryTimeoutMs) return this.expire(flight)
    if (isIdentityLost) {
      this.#renewIdentity(flight)
      this.#countPossibleRepeat(flight, errorCode)
    }
    flight.retryAtMs = performance.now() + retryBackoffMs
    this.#options.wakeUpAt(flight.retryAtMs)
  }

  /** Counts a batch that is sent again under another identity or in parts, and that the broker may have stored as it was. */
  #countPossibleRepeat(flight: PartitionFlight, errorCode: number): void {
    if (!flight.mayBeStored || flight.isRepeatCounted) return
    flight.isRepeatCounted = true
    const { account, stream, logger } = this.#options
    const { recordCount } = flight.batch!
    account.possiblyRepeated += recordCount
    const fields = { topic: stream.topic, partition: flight.partition, records: recordCount }
    logger.warn(
      { ...fields, kafkaError: kafkaErrorName(errorCode) },
      'the broker may have a batch and does not recognize it any more: the records are sent again, and may be stored twice',
    )
  }

  /**
   * The batch is larger than the topic takes, or the topic does not take a record in it. The halves of the batch are sent in its place, and
   * split again if need be, until only the records at fault are refused. Kafka's producer splits a batch that is too large, and fails a whole
   * batch for one bad record.
   */
  #split(flight: PartitionFlight, errorCode: number): void {
    const batch = flight.batch!
    // A broker looks at the content before it looks for the batch among those that it has.
    this.#countPossibleRepeat(flight, errorCode)
    const parts = splitBatch(batch)
    this.#options.account.split(batch, parts)
    flight.split(parts)
  }

  /** The broker refused the batch for good: the batch leaves the flight. */
  refuse(flight: PartitionFlight, errorCode: number): void {
    const { logger, stream, onRejected } = this.#options
    const fields = { topic: stream.topic, partition: flight.partition, records: flight.batch!.recordCount }
    logger.debug({ ...fields, kafkaError: kafkaErrorName(errorCode) }, 'the broker refused a batch for good')
    onRejected(flight.batch!, errorCode)
    this.#giveToRefused(flight, errorCode)
  }

  #giveToRefused(flight: PartitionFlight, errorCode: number): void {
    const batch = flight.take()!
    // The batch's sequence numbers may be missing from the log, and then the broker would refuse the next ones.
    this.#renewIdentity(flight)
    this.#options.onRefused(batch, {
      reason: dropReasonOf(errorCode),
      errorCode,
      mayBeStored: flight.mayBeStored,
    })
  }

  /**
   * `delivery.timeout.ms` has passed for all batches on their way to a partition. Where an operator had to mend something, the batches become
   * dead letters, as what waits behind them does. So do batches that got another error before, or none: no broker has refused these.
   */
  expire(flight: PartitionFlight): void {
    const errorCode = flight.heldFor ?? this.#options.heldFor()
    if (errorCode === null) return this.giveUpAll(flight, 'expired')
    while (!flight.isEmpty) {
      if (flight.batch === null) flight.nextPart()
      if (flight.heldFor === null) this.#giveToRefused(flight, errorCode)
      else this.refuse(flight, errorCode)
    }
  }

  /** Gives up all batches on their way to a partition, since a time limit of Chute's own has passed. */
  giveUpAll(flight: PartitionFlight, reason: DropReason): void {
    const { account } = this.#options
    const { batch: first } = flight
    // The parts behind the batch have doubts of their own.
    if (first !== null) first.isInDoubt = flight.mayBeStored || flight.connection !== null
    for (let batch = flight.take(); batch !== null; batch = flight.take()) {
      this.#renewIdentity(flight)
      if (batch.isInDoubt) account.settle(batch, 'suspected_lost')
      else account.settle(batch, 'dropped', reason)
    }
    flight.connection = null
  }

  /** The next batch of this partition gets another identity. The other partitions get it with their next batch, too. */
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
  /** See `SenderOptions.heldFor`. */
  readonly heldFor: () => number | null
  readonly identity: IdentitySource
  /** See `SenderOptions.onRejected`. */
  readonly onRejected: (batch: ProducerBatch, errorCode: number) => void
  /** See `SenderOptions.onRefused`. */
  readonly onRefused: (batch: ProducerBatch, refusal: Refusal) => void
  /** A batch can be written again at `atMs` (by `performance.now()`). */
  readonly wakeUpAt: (atMs: number) => void
}
