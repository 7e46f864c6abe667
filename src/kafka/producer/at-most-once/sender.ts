import type { PartitionQueue } from '../accumulator.ts'
import { AtMostOnceLink } from './link.ts'
import { commonMode, configuredMode, type ConfirmationMode } from '../outcome.ts'
import { OutageLog } from '../../network/outage-log.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { Sender, SenderOptions } from '../sender.ts'
import { LeaderLinks } from '../../network/leader-links.ts'
import type { TopicTransport } from '../../network/shared-connections.ts'

/**
 * Read this file of the folder first. at-most-once/ knows producer/, network/ and protocol/, and nothing of the other delivery.
 *
 * Writes the due batches of an at-most-once stream to the leaders of their partitions: over one connection a broker, in order, and each
 * batch at most once. Other streams may share the connection (`network/shared-connections.ts`), and nothing here depends on that. A batch
 * that cannot be written yet stays in the accumulator.
 */
export class AtMostOnceSender implements Sender {
  readonly #options: AtMostOnceSenderOptions
  readonly #links: LeaderLinks<AtMostOnceLink>
  /** The queue at which the next round begins. The first one is random, so that the gateways of a fleet begin at different partitions. */
  #firstQueue = Math.floor(Math.random() * 1_000)
  /** The requests of a round, by broker. Empty between rounds. */
  readonly #requests = new Map<number, RequestInMaking>()
  #isHurried = false
  #stopped = false

  constructor(options: AtMostOnceSenderOptions) {
    this.#options = options
    const { stream, metadata, account, logger, onConnection } = options
    this.#links = new LeaderLinks({
      topic: stream.topic,
      metadata,
      outages: new OutageLog(stream.name, logger, () => account.buffered),
      open: (nodeId) => this.#open(nodeId),
      onFollowed: () => this.pump(),
      onConnection,
    })
    this.#links.follow()
  }

  /** @inheritdoc */
  get isConnected(): boolean {
    return this.#links.isConnected
  }

  /** @inheritdoc */
  get isCircuitOpen(): boolean {
    return this.#links.isCircuitOpen
  }

  /** @inheritdoc */
  get lacking(): string[] {
    return this.#links.lacking
  }

  /** @inheritdoc */
  get confirmationMode(): ConfirmationMode {
    let mode = configuredMode(this.#options.stream.producer)
    for (const link of this.#links) mode = commonMode(mode, link.confirmationMode)
    return mode
  }

  /** @inheritdoc */
  pump(): void {
    if (this.#stopped) return
    while (this.#round()) {
      // A partition can have more than one due batch, so there is another round if something is left there.
    }
  }

  /** No batches: a batch that was written is never written again. */
  leave(): ProducerBatch[] {
    return []
  }

  /** Ignores the journal: no batch is ever written again. */
  keepJournal(): void {}

  /** null: no batch is ever written again. */
  resume(): null {
    return null
  }

  /** @inheritdoc */
  hurry(): void {
    this.#isHurried = true
    for (const link of this.#links) link.hurry()
  }

  /** @inheritdoc */
  async handled(): Promise<void> {
    await Promise.all(Array.from(this.#links, async (link) => await link.handled()))
  }

  /** @inheritdoc */
  stop(): void {
    this.#stopped = true
    this.#links.stop()
  }

  /** @inheritdoc */
  everySecond(nowMs: number): void {
    this.#links.everySecond(nowMs)
  }

  /** Writes at most one batch of each partition, in one request a broker. @returns whether something was written, and something is left. */
  #round(): boolean {
    const { accumulator, metadata, rights, stream } = this.#options
    if (rights.missing !== null || !accumulator.mayBeDue) return false
    accumulator.mayBeDue = false
    const { leaders } = metadata.topic(stream.topic)
    const { queues } = accumulator
    const nowMs = performance.now()
    const requests = this.#requests
    const firstQueue = this.#firstQueue
    const usualAnswerMs = accumulator.hasUnkeyed ? this.#usualAnswerMs(nowMs) : Infinity
    let isStale = false
    let isWritable = false
    let isLeft = false
    /** A batch may be due that cannot be written now. */
    let isHeldUp = false
    let isWritten = false
    for (let i = 0; i < queues.length; i++) {
      const queue = queues[(firstQueue + i) % queues.length]!
      const hasOwn = !queue.isEmpty || queue.open !== null
      if (!hasOwn && !accumulator.hasUnkeyed) continue
      const nodeId = leaders[queue.partition] ?? -1
      const request = requests.get(nodeId) ?? this.#begin(nodeId, nowMs, usualAnswerMs)
      if (request === null) {
        isStale ||= hasOwn
        isHeldUp = true
        continue
      }
      const { link } = request
      if (!request.canWrite || !link.isOnline(queue.partition)) {
        // Another broker may lead by now. Only metadata can tell.
        isStale ||= hasOwn && link.isSilent(nowMs)
        isHeldUp = true
        continue
      }
      isWritable = true
      if (link.isHeldBack(queue.partition)) {
        isHeldUp = true
        continue
      }
      isHeldUp ||= !request.takesUnkeyed || !request.hurriesAwaited
      // The next round begins behind a partition that took a batch without keys, so that the next such batch goes to another partition.
      if (this.#take(queue, request, nowMs)) this.#firstQueue = firstQueue + i + 1
      isLeft ||= !queue.isEmpty || queue.open !== null
    }
    for (const { link, batches } of requests.values()) {
      if (batches.length === 0) continue
      isWritten = true
      link.write(batches)
    }
    requests.clear()
    if (isWritten && this.#firstQueue === firstQueue) this.#firstQueue++
    if (isStale || (!isWritable && accumulator.hasUnkeyed)) metadata.refresh()
    isLeft ||= accumulator.hasUnkeyed
    if (isHeldUp || (isWritten && isLeft)) accumulator.mayBeDue = true
    return isWritten && isLeft
  }

  /** Looks once a round whether a broker can be written to. @returns null if there is no link to it. */
  #begin(nodeId: number, nowMs: number, usualAnswerMs: number): RequestInMaking | null {
    const link = this.#links.get(nodeId)
    if (link === undefined) return null
    const request: RequestInMaking = {
      link,
      canWrite: link.canWrite(nowMs),
      takesUnkeyed: !link.isBehind(nowMs, usualAnswerMs),
      hurriesAwaited: link.hurriesAwaited,
      batches: [],
      sizeBytes: 0,
    }
    this.#requests.set(nodeId, request)
    return request
  }

  /**
   * How long the quickest broker takes to answer, in milliseconds. Records without a key do not go to a broker that has been silent for
   * much longer (`isBehind`). Infinity if that would leave no broker for them.
   */
  #usualAnswerMs(nowMs: number): number {
    let usualMs = Infinity
    for (const link of this.#links) {
      const { usualAnswerMs } = link
      if (usualAnswerMs > 0 && usualAnswerMs < usualMs && link.isUsable(nowMs)) usualMs = usualAnswerMs
    }
    for (const link of this.#links) if (link.isUsable(nowMs) && !link.isBehind(nowMs, usualMs)) return usualMs
    return Infinity
  }

  /** @returns whether the partition got a batch without keys. */
  #take(queue: PartitionQueue, request: RequestInMaking, nowMs: number): boolean {
    const { accumulator, stream } = this.#options
    const batch = accumulator.peek(queue, nowMs, request.hurriesAwaited, request.takesUnkeyed)
    if (batch === null) return false
    // A batch that does not fit goes with the request of the next round.
    const sizeBytes = request.sizeBytes + batch.sizeBytes
    if (request.batches.length > 0 && sizeBytes > stream.producer.maxRequestSizeBytes) return false
    request.batches.push(batch)
    request.sizeBytes = sizeBytes
    const isUnkeyed = queue.head !== batch
    accumulator.take(queue, batch)
    return isUnkeyed
  }

  #open(nodeId: number): AtMostOnceLink {
    const { stream, metadata, transport, account, offsets, telemetry, logger } = this.#options
    const { rights, onReady, onRejected } = this.#options
    const link = new AtMostOnceLink(nodeId, {
      topic: stream.topic,
      config: stream.producer,
      transport,
      account,
      offsets,
      telemetry,
      logger,
      rights,
      address: () => metadata.broker(nodeId),
      isReplicated: () => metadata.topic(stream.topic).isReplicated,
      onReady,
      onRejected,
      onStale: () => metadata.refresh(),
      onBadContent: () => metadata.refreshSettings(),
      onUp: () => this.#links.up(nodeId),
      onDown: (cause, suspectedRecords) => {
        if (!this.#links.down(nodeId, cause, suspectedRecords)) return
        // A batch that the topic no longer takes may have ended the connection.
        metadata.refreshSettings()
        onReady()
      },
    })
    // The leader of a partition can move while the stream shuts down.
    if (this.#isHurried) link.hurry()
    return link
  }
}

/** See {@link AtMostOnceSender}. */
export interface AtMostOnceSenderOptions extends Omit<SenderOptions, 'onRefused' | 'transport'> {
  readonly transport: TopicTransport
}

/** What goes to one broker in one round. */
interface RequestInMaking {
  readonly link: AtMostOnceLink
  readonly canWrite: boolean
  /** The broker is not behind the others, so it may get records without a key. */
  readonly takesUnkeyed: boolean
  readonly hurriesAwaited: boolean
  readonly batches: ProducerBatch[]
  sizeBytes: number
}
