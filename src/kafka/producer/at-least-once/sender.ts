import { crc32c } from '@node-rs/crc32'
import type { PartitionQueue } from '../accumulator.ts'
import type { BatchJournal, ResumedBatch } from '../batch-journal.ts'
import { AtLeastOnceLink } from './link.ts'
import { configuredMode, type ConfirmationMode } from '../outcome.ts'
import { PartitionFlight } from './partition-flight.ts'
import { isUnauthorized, kafkaErrors } from '../../protocol/kafka-error.ts'
import { LeaderLinks } from '../../network/leader-links.ts'
import { OutageLog } from '../../network/outage-log.ts'
import { remakeBatch } from './split-and-resume.ts'
import { IdentitySource } from './producer-identity.ts'
import { decodeProduce, encodeProduce, type ProduceResult } from '../../protocol/requests.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { Sender, SenderOptions } from '../sender.ts'
import { BatchCompletion } from './batch-completion.ts'
import type { TopicTransport } from '../../network/shared-connections.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * Read this file of the folder first. at-least-once/ knows producer/, network/ and protocol/, and nothing of the other delivery.
 *
 * Writes the due batches of an at-least-once stream to Kafka, with one batch in flight a partition. It writes the same bytes again until the
 * broker acknowledges them or refuses them for good (`batch-completion.ts`), or until `retries` or `delivery.timeout.ms` is used up. With
 * `enable.idempotence` a batch carries producer id, epoch and sequence (KIP-98), so a broker stores the batch once, however often it comes.
 * Each error of a broker leads to the same as in Kafka's own producer (`Sender.completeBatch`, `TransactionManager.canRetry`).
 *
 * If the stream has a journal, each batch is noted with its identity before its first write. Batches that an earlier process noted go before
 * all others.
 */
export class AtLeastOnceSender implements Sender {
  readonly #options: AtLeastOnceSenderOptions
  readonly #links: LeaderLinks<AtLeastOnceLink>
  readonly #identity: IdentitySource
  readonly #completion: BatchCompletion
  readonly #flights: PartitionFlight[] = []
  #journal: BatchJournal | null = null
  #retryTimer: NodeJS.Timeout | null = null
  /** The queue at which the next pump begins. It moves on, so that batches without keys go to each partition in turn. */
  #firstQueue = Math.floor(Math.random() * 1_000)
  #stopped = false

  constructor(options: AtLeastOnceSenderOptions) {
    const { stream, metadata, account, logger, rights, heldFor, onReady, onConnection } = options
    this.#options = options
    this.#links = new LeaderLinks({
      topic: stream.topic,
      metadata,
      outages: new OutageLog(stream.name, logger, () => account.buffered),
      open: (nodeId) => this.#open(nodeId),
      onFollowed: onReady,
      onConnection,
    })
    this.#links.follow()
    this.#identity = new IdentitySource({
      stream: stream.name,
      logger,
      retryBackoffMs: stream.producer.retryBackoffMs,
      onReady: () => {
        rights.identified()
        onReady()
      },
      onRefused: (errorCode, againAtMs) => {
        if (isUnauthorized(errorCode)) rights.answered(errorCode)
        this.#wakeUpAt(againAtMs)
      },
    })
    this.#completion = new BatchCompletion({
      stream,
      account,
      metadata,
      logger,
      rights,
      heldFor,
      identity: this.#identity,
      onRejected: options.onRejected,
      onRefused: options.onRefused,
      wakeUpAt: (atMs) => this.#wakeUpAt(atMs),
    })
  }

  /** @inheritdoc */
  get isConnected(): boolean {
    return this.#links.isConnected
  }

  /** @inheritdoc */
  get lacking(): string[] {
    return this.#links.lacking
  }

  /** @inheritdoc */
  get confirmationMode(): ConfirmationMode {
    return configuredMode(this.#options.stream.producer)
  }

  /** @inheritdoc */
  get isCircuitOpen(): boolean {
    return this.#links.isCircuitOpen
  }

  /** Gives back the batches in flight and the parts that wait. An answer that comes later finds no batch to settle. */
  leave(count: number): ProducerBatch[] {
    const batches: ProducerBatch[] = []
    for (const flight of this.#flights.splice(count)) {
      // The partition can come back with its log. Its leader would take a new sequence 0 of the same producer for the old one.
      this.#identity.discard(flight.identity)
      const { batch: first } = flight
      if (!flight.isEmpty) this.#journal?.left(flight.partition)
      // Kafka may have it, or get it yet, if the partition is only out of sight.
      const isInDoubt = flight.mayBeStored || (first?.state === 'written' && flight.connection !== null)
      if (first !== null && isInDoubt && !flight.isRepeatCounted)
        this.#options.account.possiblyRepeated += first.recordCount
      for (let batch = flight.take(); batch !== null; batch = flight.take()) batches.push(batch)
    }
    return batches
  }

  /** @inheritdoc */
  hurry(): void {
    this.pump()
  }

  /** At once: what has an outcome was answered. */
  async handled(): Promise<void> {}

  /**
   * Ends all connections. A batch that a broker may have stored is suspected lost, and so is a batch that waits for its note or for the others of its
   * request. Any other batch is dropped.
   */
  stop(): void {
    this.#stopped = true
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
    this.#links.stop()
    for (const flight of this.#flights) this.#completion.giveUpAll(flight, 'shutdown')
  }

  /** Ignores the journal without idempotent writes: a broker would not recognize a batch then. */
  keepJournal(journal: BatchJournal): void {
    if (this.#options.stream.producer.enableIdempotence) this.#journal = journal
  }

  /** @inheritdoc A broker that has the batch acknowledges it, and a broker that does not have it stores it. */
  resume(noted: ResumedBatch): ProducerBatch | null {
    const { partition, producerId, epoch, baseSequence } = noted
    const { accumulator, stream } = this.#options
    if (!stream.producer.enableIdempotence || noted.scope !== this.#scope) return null
    if (partition >= accumulator.partitionCount) return null
    const batch = remakeBatch(noted)
    if (batch === null) return null
    const flight = (this.#flights[partition] ??= new PartitionFlight(partition))
    if (!flight.isEmpty) throw new Error('what is resumed goes first')
    batch.close()
    flight.resume(batch, { errorCode: kafkaErrors.none, producerId, epoch }, baseSequence)
    return batch
  }

  /** Stands for the topic and the cluster in which the identities of batches hold. */
  get #scope(): number {
    const { metadata, stream } = this.#options
    return crc32c(`${metadata.clusterId}\n${stream.topic}`)
  }

  /** @inheritdoc */
  pump(): void {
    if (this.#stopped) return
    const { accumulator, metadata, rights, stream } = this.#options
    this.#identify()
    if (rights.missing !== null) return
    const { leaders } = metadata.topic(stream.topic)
    const nowMs = performance.now()
    const groups = new Map<BrokerConnection, PartitionFlight[]>()
    const rooms = new Map<BrokerConnection, boolean>()
    let isStale = false
    let isWritable = false
    /** A batch had no room in the request of its broker. The next round begins with its partition. Otherwise it could be last each time. */
    let isLeft = false
    const { queues } = accumulator
    const firstQueue = this.#firstQueue
    for (let i = 0; i < queues.length; i++) {
      const queue = queues[(firstQueue + i) % queues.length]!
      const flight = (this.#flights[queue.partition] ??= new PartitionFlight(queue.partition))
      if (flight.connection !== null) {
        isWritable = true
        continue
      }
      const hasOwn = !flight.isEmpty || !queue.isEmpty || queue.open !== null
      if (!hasOwn && !accumulator.hasUnkeyed) continue
      if (nowMs < flight.retryAtMs) {
        this.#wakeUpAt(flight.retryAtMs)
        continue
      }
      const link = this.#links.get(leaders[queue.partition] ?? -1)
      const connection = link?.connection ?? null
      isWritable ||= connection !== null
      if (link === undefined || connection === null) isStale ||= hasOwn
      else {
        const wasLeft = flight.isSequenced
        const isReady = this.#hasRoom(rooms, link, connection) && this.#load(flight, queue, nowMs)
        const isTaken = isReady && this.#group(groups, connection, flight)
        if (!isLeft && isTaken) this.#firstQueue = firstQueue + i + 1
        else if (!isLeft && (isReady || wasLeft)) {
          this.#firstQueue = firstQueue + i
          isLeft = true
        }
      }
    }
    if (isStale || (!isWritable && accumulator.hasUnkeyed)) metadata.refresh()
    for (const [connection, flights] of groups) this.#write(connection, flights)
  }

  /** @inheritdoc */
  everySecond(nowMs: number): void {
    const { stream } = this.#options
    for (const flight of this.#flights) {
      if (flight.connection !== null || flight.isEmpty) continue
      const { createdAtMs } = flight.batch ?? flight.parts[0]!
      if (nowMs - createdAtMs >= stream.producer.deliveryTimeoutMs) this.#completion.expire(flight)
    }
    const any = this.#anyLeader
    if (any !== null) this.#options.rights.ask(any.connection, any.partition)
    this.#links.everySecond(nowMs)
    this.#endReplaced()
  }

  /** Asks for a producer id if there is none, over any connection. It does not wait for a batch that needs one. */
  #identify(): void {
    if (!this.#options.stream.producer.enableIdempotence || this.#identity.current !== null) return
    const connection = this.#anyLeader?.connection
    if (connection !== undefined) this.#identity.ask(connection)
  }

  /** An open connection, and a partition that its broker leads; null if there is none. */
  get #anyLeader(): { connection: BrokerConnection; partition: number } | null {
    const { metadata, stream } = this.#options
    const { leaders } = metadata.topic(stream.topic)
    for (const [partition, leader] of leaders.entries()) {
      const connection = this.#links.get(leader)?.connection ?? null
      if (connection !== null) return { connection, partition }
    }
    return null
  }

  #open(nodeId: number): AtLeastOnceLink {
    const { metadata, stream, transport, onReady } = this.#options
    return new AtLeastOnceLink({
      transport,
      requestTimeoutMs: stream.producer.requestTimeoutMs,
      needs: ['Produce', 'Metadata', ...(stream.producer.enableIdempotence ? identityRequests : [])],
      address: () => metadata.broker(nodeId),
      onUp: () => this.#links.up(nodeId),
      onDown: (cause) => {
        if (this.#links.down(nodeId, cause, 0)) metadata.refresh()
      },
      onReady,
    })
  }

  /** Asks a connection once a pump. After a no the connection tells when there may be room, and the batches go on filling. */
  #hasRoom(
    rooms: Map<BrokerConnection, boolean>,
    link: AtLeastOnceLink,
    connection: BrokerConnection,
  ): boolean {
    let hasRoom = rooms.get(connection)
    if (hasRoom === undefined) {
      hasRoom = connection.askForRoom()
      rooms.set(connection, hasRoom)
      if (!hasRoom) link.renewAtOnce()
    }
    return hasRoom
  }

  #endReplaced(): void {
    const isBusy = (connection: BrokerConnection): boolean =>
      this.#flights.some((flight) => flight.connection === connection)
    for (const link of this.#links) link.endReplaced(isBusy)
  }

  /** Makes a batch of the partition ready to be written. @returns false if there is no batch, or if there is no producer id yet. */
  #load(flight: PartitionFlight, queue: PartitionQueue, nowMs: number): boolean {
    const { stream, accumulator } = this.#options
    if (flight.isSequenced) return true
    const identity = this.#identity.current
    if (stream.producer.enableIdempotence && identity === null) return false
    if (flight.batch === null) flight.nextPart()
    if (flight.batch === null) {
      flight.batch = accumulator.peek(queue, nowMs)
      if (flight.batch === null) return false
      flight.mayBeStored = false
      flight.isRepeatCounted = false
      accumulator.take(queue, flight.batch)
    }
    if (identity !== null) flight.sequence(identity)
    return true
  }

  /** Adds a batch to the request of its broker. @returns false if the request has no room for the batch. */
  #group(
    groups: Map<BrokerConnection, PartitionFlight[]>,
    connection: BrokerConnection,
    flight: PartitionFlight,
  ): boolean {
    const group = groups.get(connection)
    if (group === undefined) {
      groups.set(connection, [flight])
      return true
    }
    let sizeBytes = flight.batch!.sizeBytes
    for (const { batch } of group) sizeBytes += batch!.sizeBytes
    if (sizeBytes > this.#options.stream.producer.maxRequestSizeBytes) {
      this.#options.onReady()
      return false
    }
    group.push(flight)
    return true
  }

  /** Notes the batches that are not noted yet, if there is a journal, and then sends all. */
  #write(connection: BrokerConnection, flights: PartitionFlight[]): void {
    const journal = this.#journal
    for (const flight of flights) flight.connection = connection
    const unnoted =
      journal === null ? [] : flights.filter(({ isSequenced, isNoted }) => isSequenced && !isNoted)
    if (unnoted.length === 0) return this.#send(connection, flights)
    const batches = unnoted.map((flight) => flight.batch!)
    journal!.note(this.#scope, batches, () => {
      // A batch may have left its flight meanwhile, since its partition is gone.
      const here = flights.filter(({ batch }) => batch !== null)
      for (const flight of here) flight.isNoted = true
      if (!this.#stopped && here.length > 0) this.#send(connection, here)
    })
  }

  #send(connection: BrokerConnection, flights: readonly PartitionFlight[]): void {
    const { stream, account, offsets, telemetry } = this.#options
    const { acks, requestTimeoutMs } = stream.producer
    // The topic may have been set apart since its batches were given this connection.
    const { isShared } = connection
    const replicasTimeoutMs = Math.ceil(
      Math.min(0.9 * requestTimeoutMs, isShared ? sharedReplicasMs : Infinity),
    )
    const nowMs = performance.now()
    const batches = flights.map((flight) => flight.batch!)
    const request = encodeProduce(stream.topic, acks, replicasTimeoutMs, batches)
    for (const batch of batches) {
      if (batch.attempts++ === 0) {
        account.written(batch, nowMs)
        batch.writtenAtMs = nowMs
        offsets.written(batch.partition, batch.recordCount)
        telemetry.batchWritten(batch.sizeBytes, batch.recordCount, nowMs - batch.createdAtMs, nowMs)
      }
    }
    connection.call(
      request,
      (payload) => {
        telemetry.requestCompleted(performance.now() - nowMs)
        const { results, throttleTimeMs } = this.#decode(connection, flights, payload)
        connection.throttle(throttleTimeMs)
        this.#answered(connection, flights, results)
      },
      (error) => {
        connection.destroy(error)
        this.#unanswered(connection, flights)
      },
    )
  }

  /** An answer that ends too early is none. The connection ends for it: see `SocketConnection`. */
  #decode(
    connection: BrokerConnection,
    flights: readonly PartitionFlight[],
    payload: Buffer,
  ): ReturnType<typeof decodeProduce> {
    try {
      return decodeProduce(payload)
    } catch (cause) {
      this.#unanswered(connection, flights)
      throw cause
    }
  }

  /** Another stream may be the reason why a shared connection ends. So that try does not count. */
  #unanswered(connection: BrokerConnection, flights: readonly PartitionFlight[]): void {
    for (const flight of flights) {
      if (connection.isShared) flight.sparedTries++
      this.#completion.complete(flight, null, kafkaErrors.networkException)
    }
    this.#options.onReady()
  }

  #answered(
    connection: BrokerConnection,
    flights: readonly PartitionFlight[],
    results: readonly ProduceResult[],
  ): void {
    const byPartition = new Map(results.map((result) => [result.partition, result]))
    for (const flight of flights) {
      const result = byPartition.get(flight.partition) ?? null
      const errorCode = result?.errorCode ?? kafkaErrors.networkException
      if (result !== null && errorCode !== kafkaErrors.none) this.#options.transport.refused(errorCode)
      // A stream that shares gives its replicas less time for the sake of others, and goes on by itself. That try does not count.
      if (connection.isShared && errorCode === kafkaErrors.requestTimedOut) flight.sparedTries++
      this.#completion.complete(flight, result, errorCode)
    }
    for (const link of this.#links) if (link.connection === connection) link.succeeded()
    this.#endReplaced()
    this.#options.onReady()
  }

  /** One timer for all partitions. The pump that it starts sets it again if a batch has to wait longer. */
  #wakeUpAt(atMs: number): void {
    if (this.#stopped) return
    this.#retryTimer ??= setTimeout(
      () => {
        this.#retryTimer = null
        this.#options.onReady()
      },
      Math.ceil(atMs - performance.now()),
    )
  }
}

/** See {@link AtLeastOnceSender}. */
export interface AtLeastOnceSenderOptions extends Omit<SenderOptions, 'transport'> {
  readonly transport: TopicTransport
}

/**
 * How long the broker may wait for the replicas of a stream that shares its connection, in milliseconds. Then it answers REQUEST_TIMED_OUT
 * for the topics at fault, so that the others wait no longer. The topics at fault are written again over connections of their own, with more time:
 * nine tenths of `request.timeout.ms`, so that the answer comes before the connection is given up.
 */
const sharedReplicasMs = 2_000

const identityRequests = ['InitProducerId'] as const
