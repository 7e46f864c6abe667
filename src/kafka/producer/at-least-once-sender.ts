import { BrokerSession } from './broker-session.ts'
import { dropReasonOf } from './at-most-once-link.ts'
import type { SenderOptions } from './at-most-once-sender.ts'
import type { PartitionQueue } from './accumulator.ts'
import { isRetriable, isStaleMetadata, kafkaErrorName, kafkaErrors, mayBeStored } from './kafka-error.ts'
import type { DropReason } from './outcome.ts'
import { OutageLog } from './outage-log.ts'
import type { RecordBatch } from './record-batch.ts'
import {
  decodeInitProducerId,
  decodeProduce,
  encodeInitProducerId,
  encodeProduce,
  type ProducerIdentity,
  type ProduceResult,
} from './requests.ts'
import type { Sender } from './sender.ts'
import type { BrokerConnection } from './transport.ts'

/**
 * Brings the due batches of an at-least-once stream to Kafka and keeps at it: one batch in flight a partition, and the
 * same bytes again until they are acknowledged, `retries` or `delivery.timeout.ms` is used up, or the broker refuses them
 * for good. With `enable.idempotence` the batch carries producer id, epoch and sequence (KIP-98), so a broker stores it
 * once however often it comes.
 */
export class AtLeastOnceSender implements Sender {
  readonly #options: SenderOptions
  readonly #sessions = new Map<number, BrokerSession>()
  readonly #flights: Flight[] = []
  readonly #outageLog: OutageLog
  #identity: ProducerIdentity | null = null
  #askingIdentity = false
  #retryTimer: NodeJS.Timeout | null = null
  #stopped = false

  constructor(options: SenderOptions) {
    this.#options = options
    this.#outageLog = new OutageLog(options.stream.name, options.logger, () => options.account)
    options.metadata.onChange(() => this.#follow())
    this.#follow()
  }

  /** @inheritdoc */
  get isConnected(): boolean {
    return [...this.#sessions.values()].some((session) => session.connection !== null)
  }

  /** @inheritdoc */
  get isCircuitOpen(): boolean {
    return [...this.#sessions.values()].some((session) => session.isCircuitOpen)
  }

  /** @inheritdoc */
  hurry(): void {
    this.pump()
  }

  /** Ends all connections. A batch that was written and has no acknowledgment is suspected lost: it may have been stored. */
  stop(): void {
    this.#stopped = true
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
    for (const session of this.#sessions.values()) session.stop(new Error('the gateway stopped'))
    for (const flight of this.#flights) {
      const { batch } = flight
      flight.batch = null
      if (batch === null) continue
      if (flight.mayBeStored) this.#options.account.settle(batch, 'suspected_lost')
      else this.#options.account.settle(batch, 'dropped', 'shutdown')
    }
  }

  /** @inheritdoc */
  pump(): void {
    if (this.#stopped) return
    const { accumulator, metadata, stream } = this.#options
    const { leaders } = metadata.topic(stream.topic)
    const nowMs = performance.now()
    const groups = new Map<BrokerConnection, Flight[]>()
    let isStale = false
    for (const queue of accumulator.queues) {
      const flight = this.#flight(queue)
      if (flight.isOut || (flight.batch === null && queue.isEmpty && queue.open === null)) continue
      if (nowMs < flight.retryAtMs) {
        this.#wakeUpAt(flight.retryAtMs)
        continue
      }
      const connection = this.#sessions.get(leaders[queue.partition] ?? -1)?.connection ?? null
      if (connection === null) isStale = true
      else if (!connection.isExpiring && this.#load(flight, queue, connection, nowMs))
        this.#group(groups, connection, flight)
    }
    if (isStale) metadata.refresh()
    for (const [connection, flights] of groups) this.#write(connection, flights)
  }

  /** @inheritdoc */
  tend(nowMs: number): void {
    const { stream, accumulator } = this.#options
    for (const flight of this.#flights) {
      const { batch, isOut, partition } = flight
      if (batch === null || isOut) continue
      if (partition >= accumulator.partitionCount) this.#giveUp(flight, 'unknown_topic')
      else if (nowMs - batch.createdAtMs >= stream.producer.deliveryTimeoutMs) this.#giveUp(flight, 'expired')
    }
    for (const session of this.#sessions.values()) {
      const { connection } = session
      if (
        connection?.isExpiring === true &&
        !this.#flights.some((flight) => flight.connection === connection)
      ) {
        session.fail(new Error('the SASL session expires'))
      }
    }
  }

  /** Makes a batch of the partition ready to go. @returns false if there is none, or if it has to wait for a producer id. */
  #load(flight: Flight, queue: PartitionQueue, connection: BrokerConnection, nowMs: number): boolean {
    const { stream, accumulator } = this.#options
    if (stream.producer.enableIdempotence && this.#identity === null) {
      this.#askIdentity(connection)
      return false
    }
    if (flight.batch === null) {
      flight.batch = accumulator.peek(queue, nowMs)
      if (flight.batch === null) return false
      flight.mayBeStored = false
      queue.take()
    }
    const identity = this.#identity
    // A batch that is sent again keeps its sequence and the identity that goes with it, or it could be stored twice.
    if (identity !== null && flight.sequenced !== flight.batch) {
      if (flight.identity !== identity) flight.nextSequence = 0
      flight.identity = identity
      flight.batch.setProducer(identity.producerId, identity.epoch, flight.nextSequence)
      flight.nextSequence = (flight.nextSequence + flight.batch.recordCount) % 2 ** 31
      flight.sequenced = flight.batch
    }
    return true
  }

  #group(groups: Map<BrokerConnection, Flight[]>, connection: BrokerConnection, flight: Flight): void {
    const group = groups.get(connection)
    if (group === undefined) {
      groups.set(connection, [flight])
      return
    }
    let sizeBytes = flight.batch!.sizeBytes
    for (const { batch } of group) sizeBytes += batch!.sizeBytes
    if (sizeBytes > this.#options.stream.producer.maxRequestSizeBytes) this.#options.onWritable()
    else group.push(flight)
  }

  #write(connection: BrokerConnection, flights: Flight[]): void {
    const { stream, account, offsets, telemetry } = this.#options
    const { acks, requestTimeoutMs } = stream.producer
    const nowMs = performance.now()
    const batches = flights.map((flight) => flight.batch!)
    const request = encodeProduce(stream.topic, acks, requestTimeoutMs, batches)
    for (const flight of flights) {
      const batch = flight.batch!
      if (batch.attempts++ === 0) {
        account.written(batch)
        offsets.written(batch.partition, batch.recordCount)
        telemetry.batchWritten(batch.sizeBytes, batch.recordCount, nowMs - batch.createdAtMs)
      }
      flight.isOut = true
      flight.connection = connection
    }
    connection.call(
      request,
      (payload) => {
        telemetry.requestCompleted(performance.now() - nowMs)
        const { results, throttleTimeMs } = decodeProduce(payload)
        connection.throttle(throttleTimeMs)
        this.#answered(connection, flights, results)
      },
      (error) => {
        connection.destroy(error)
        for (const flight of flights) this.#landed(flight, null, kafkaErrors.networkException)
        this.#options.onWritable()
      },
    )
  }

  #answered(
    connection: BrokerConnection,
    flights: readonly Flight[],
    results: readonly ProduceResult[],
  ): void {
    const byPartition = new Map(results.map((result) => [result.partition, result]))
    for (const flight of flights) {
      const result = byPartition.get(flight.partition)
      this.#landed(flight, result ?? null, result?.errorCode ?? kafkaErrors.networkException)
    }
    for (const session of this.#sessions.values()) if (session.connection === connection) session.succeeded()
    this.#options.onWritable()
  }

  #landed(flight: Flight, result: ProduceResult | null, errorCode: number): void {
    flight.isOut = false
    flight.connection = null
    const { batch } = flight
    if (batch === null) return
    if (errorCode === kafkaErrors.none || errorCode === kafkaErrors.duplicateSequenceNumber) {
      flight.batch = null
      const { baseOffset } = result!
      this.#options.account.settle(batch, 'acked', null, baseOffset < 0n ? null : baseOffset)
      return
    }
    if (mayBeStored(errorCode)) flight.mayBeStored = true
    if (isStaleMetadata(errorCode)) this.#options.metadata.refresh()
    if (this.#lostIdentity(errorCode)) this.#renewIdentity(flight)
    else if (!isRetriable(errorCode)) return this.#refused(flight, errorCode)
    if (batch.attempts > this.#options.stream.producer.retries) return this.#refused(flight, errorCode)
    this.#retryLater(flight)
  }

  /**
   * The broker does not know the sequence that it is given: its state of this producer is gone (retention, an unclean
   * election). With one batch in flight a partition, a new identity is safe; a batch that was stored in between can come twice.
   */
  #lostIdentity(errorCode: number): boolean {
    return (
      errorCode === kafkaErrors.outOfOrderSequenceNumber ||
      errorCode === kafkaErrors.unknownProducerId ||
      errorCode === kafkaErrors.invalidProducerEpoch ||
      errorCode === kafkaErrors.producerFenced
    )
  }

  #refused(flight: Flight, errorCode: number): void {
    const { logger, stream, onForbidden } = this.#options
    const fields = { topic: stream.topic, partition: flight.partition, records: flight.batch!.recordCount }
    logger.debug({ ...fields, kafkaError: kafkaErrorName(errorCode) }, 'the broker refused a batch for good')
    if (errorCode === kafkaErrors.topicAuthorizationFailed) onForbidden()
    this.#giveUp(flight, dropReasonOf(errorCode))
  }

  #giveUp(flight: Flight, reason: DropReason): void {
    const batch = flight.batch!
    flight.batch = null
    // Its sequence numbers may be missing from the log now, and the broker would refuse the next ones.
    if (batch.attempts > 0) this.#renewIdentity(flight)
    if (flight.mayBeStored) this.#options.account.settle(batch, 'suspected_lost')
    else this.#options.account.settle(batch, 'dropped', reason)
  }

  /** The next batch of the partition gets another identity, as do those of others, once they are done with what they have. */
  #renewIdentity(flight: Flight): void {
    flight.sequenced = null
    if (flight.identity === this.#identity) this.#identity = null
  }

  #retryLater(flight: Flight): void {
    flight.retryAtMs = performance.now() + this.#options.stream.producer.retryBackoffMs
    this.#wakeUpAt(flight.retryAtMs)
  }

  /** One timer for all: it is set again while it finds somebody who has longer to wait. */
  #wakeUpAt(atMs: number): void {
    if (this.#stopped) return
    this.#retryTimer ??= setTimeout(
      () => {
        this.#retryTimer = null
        this.#options.onWritable()
      },
      Math.ceil(atMs - performance.now()),
    )
  }

  #askIdentity(connection: BrokerConnection): void {
    if (this.#askingIdentity) return
    this.#askingIdentity = true
    connection.call(
      encodeInitProducerId(),
      (payload) => {
        this.#askingIdentity = false
        const identity = decodeInitProducerId(payload)
        if (identity.errorCode === kafkaErrors.none) {
          this.#identity = identity
          this.#options.onWritable()
        } else {
          // A broker that has just started says so for a while; the next pump asks again.
          this.#options.logger.debug({ kafkaError: kafkaErrorName(identity.errorCode) }, 'no producer id yet')
          this.#wakeUpAt(performance.now() + this.#options.stream.producer.retryBackoffMs)
        }
      },
      (error) => {
        this.#askingIdentity = false
        connection.destroy(error)
      },
    )
  }

  #flight(queue: PartitionQueue): Flight {
    return (this.#flights[queue.partition] ??= {
      partition: queue.partition,
      batch: null,
      isOut: false,
      mayBeStored: false,
      connection: null,
      retryAtMs: 0,
      identity: null,
      nextSequence: 0,
      sequenced: null,
    })
  }

  /** Follows the metadata: a connection to each broker that leads a partition. */
  #follow(): void {
    if (this.#stopped) return
    const { metadata, stream, transport, onWritable } = this.#options
    const leaders = new Set(metadata.topic(stream.topic).leaders.filter((leader) => leader >= 0))
    for (const [nodeId, session] of this.#sessions) {
      if (leaders.has(nodeId) || metadata.broker(nodeId) !== null) continue
      session.stop(new Error('the broker left the cluster'))
      this.#sessions.delete(nodeId)
    }
    for (const nodeId of leaders) {
      if (this.#sessions.has(nodeId)) continue
      const session = new BrokerSession({
        transport,
        requestTimeoutMs: stream.producer.requestTimeoutMs,
        address: () => metadata.broker(nodeId),
        onUp: () => {
          this.#outageLog.up(nodeId)
          onWritable()
        },
        onDown: (cause) => {
          if (this.#stopped) return
          this.#outageLog.down(nodeId, cause, 0)
          metadata.refresh()
        },
      })
      this.#sessions.set(nodeId, session)
    }
    onWritable()
  }
}

/** What is on its way to one partition: at most one batch. */
interface Flight {
  readonly partition: number
  batch: RecordBatch | null
  /** It is written and not answered. */
  isOut: boolean
  /** A broker may have the batch, though it did not say so. */
  mayBeStored: boolean
  connection: BrokerConnection | null
  retryAtMs: number
  /** The identity that the sequence below belongs to. */
  identity: ProducerIdentity | null
  nextSequence: number
  /** The batch that has its sequence already. */
  sequenced: RecordBatch | null
}
