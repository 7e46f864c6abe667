import type { StreamConfig } from '../../../config/config.ts'
import type { Account } from '../account.ts'
import type { Accumulator, PartitionQueue } from '../accumulator.ts'
import { AtMostOnceLink } from './link.ts'
import type { BatchJournal } from '../batch-journal.ts'
import type { ClusterMetadata } from '../../network/cluster-metadata.ts'
import { commonMode, configuredMode, type ConfirmationMode } from '../confirmation-mode.ts'
import type { LogEndOffsets } from '../log-end-offsets.ts'
import type { DropReason } from '../outcome.ts'
import { OutageLog } from '../../network/outage-log.ts'
import type { Logger } from '../../../logger.ts'
import type { ProducerTelemetry } from '../producer.ts'
import type { RecordBatch } from '../../protocol/record-batch.ts'
import type { Sender } from '../sender.ts'
import type { Transport } from '../../network/transport.ts'
import type { WriteRights } from '../../network/write-rights.ts'

/**
 * Brings the due batches of an at-most-once stream to the leaders of their partitions: over one connection a broker, in
 * order, as many as it takes, and each at most once. What can't be written yet stays in the accumulator.
 */
export class AtMostOnceSender implements Sender {
  readonly #options: SenderOptions
  readonly #links = new Map<number, AtMostOnceLink>()
  readonly #outageLog: OutageLog
  /** Where the next round begins: gateways do not begin all at the same partition. */
  #firstQueue = Math.floor(Math.random() * 1_000)
  #stopped = false

  constructor(options: SenderOptions) {
    this.#options = options
    this.#outageLog = new OutageLog(options.stream.name, options.logger, () => options.account.buffered)
    options.metadata.onChange(() => this.#follow())
    this.#follow()
  }

  /** @inheritdoc */
  get isConnected(): boolean {
    return [...this.#links.values()].some((link) => link.isConnected)
  }

  /** @inheritdoc */
  get isCircuitOpen(): boolean {
    return [...this.#links.values()].some((link) => link.isCircuitOpen)
  }

  /** @inheritdoc */
  get lacking(): string[] {
    return [...this.#links.values()].flatMap(({ lacking }) => lacking ?? [])
  }

  /** @inheritdoc */
  get confirmationMode(): ConfirmationMode {
    let mode = configuredMode(this.#options.stream.producer)
    for (const link of this.#links.values()) mode = commonMode(mode, link.confirmationMode)
    return mode
  }

  /** @inheritdoc */
  pump(): void {
    if (this.#stopped) return
    while (this.#round()) {
      // again: a partition can have more than one batch that is due
    }
  }

  /** Nothing: what was written is never written again. */
  leave(): RecordBatch[] {
    return []
  }

  /** @inheritdoc */
  hurry(): void {
    for (const link of this.#links.values()) link.hurry()
  }

  /** @inheritdoc */
  stop(): void {
    this.#stopped = true
    for (const link of this.#links.values()) link.stop(new Error('the gateway stopped'))
    this.#links.clear()
  }

  /** @inheritdoc */
  tend(nowMs: number): void {
    for (const link of this.#links.values()) link.tend(nowMs)
  }

  /** One batch of each partition at most, in one request a broker. @returns whether anything was written. */
  #round(): boolean {
    const { accumulator, metadata, rights, stream } = this.#options
    if (rights.missing !== null) return false
    const { leaders } = metadata.topic(stream.topic)
    const { queues } = accumulator
    const nowMs = performance.now()
    const groups = new Map<AtMostOnceLink, RequestInMaking>()
    const firstQueue = this.#firstQueue
    const usualAnswerMs = accumulator.hasUnkeyed ? this.#usualAnswerMs(nowMs) : Infinity
    let isStale = false
    let isWritable = false
    for (let i = 0; i < queues.length; i++) {
      const queue = queues[(firstQueue + i) % queues.length]!
      const hasOwn = !queue.isEmpty || queue.open !== null
      if (!hasOwn && !accumulator.hasUnkeyed) continue
      const link = this.#links.get(leaders[queue.partition] ?? -1)
      if (link === undefined) {
        isStale ||= hasOwn
        continue
      }
      if (!link.isOnline(queue.partition) || !link.canWrite(nowMs)) {
        // Another may lead by now; that this one is gone for good, nobody tells.
        isStale ||= hasOwn && link.isSilent(nowMs)
        continue
      }
      isWritable = true
      if (link.isHeldBack(queue.partition)) continue
      // The next batch without keys goes to the partition behind this one.
      const takesUnkeyed = !link.isBehind(nowMs, usualAnswerMs)
      if (this.#take(queue, link, groups, nowMs, takesUnkeyed)) this.#firstQueue = firstQueue + i + 1
    }
    if (groups.size > 0 && this.#firstQueue === firstQueue) this.#firstQueue++
    if (isStale || (!isWritable && accumulator.hasUnkeyed)) metadata.refresh()
    for (const [link, { batches }] of groups) link.write(batches)
    return groups.size > 0
  }

  /**
   * How long the quickest broker takes to answer: those that take longer are left out while records without a key can go to
   * another one. Infinite where they cannot.
   */
  #usualAnswerMs(nowMs: number): number {
    let usualMs = Infinity
    for (const link of this.#links.values()) {
      const { usualAnswerMs } = link
      if (usualAnswerMs > 0 && usualAnswerMs < usualMs && link.isUsable(nowMs)) usualMs = usualAnswerMs
    }
    for (const link of this.#links.values())
      if (link.isUsable(nowMs) && !link.isBehind(nowMs, usualMs)) return usualMs
    return Infinity
  }

  /** @returns whether the partition got a batch without keys. */
  #take(
    queue: PartitionQueue,
    link: AtMostOnceLink,
    groups: Map<AtMostOnceLink, RequestInMaking>,
    nowMs: number,
    takesUnkeyed: boolean,
  ): boolean {
    const { accumulator, stream } = this.#options
    const batch = accumulator.peek(queue, nowMs, link.hurriesAwaited, takesUnkeyed)
    if (batch === null) return false
    const group = groups.get(link)
    if (group === undefined) {
      groups.set(link, { batches: [batch], sizeBytes: batch.sizeBytes })
    } else {
      // What does not fit goes with the next round's request.
      if (group.sizeBytes + batch.sizeBytes > stream.producer.maxRequestSizeBytes) return false
      group.batches.push(batch)
      group.sizeBytes += batch.sizeBytes
    }
    const isUnkeyed = queue.head !== batch
    accumulator.take(queue, batch)
    return isUnkeyed
  }

  /** Follows the metadata: a link to each broker that leads a partition, and none to others once they have settled. */
  #follow(): void {
    if (this.#stopped) return
    const { metadata, stream } = this.#options
    const byLeader = new Map<number, number[]>()
    metadata.topic(stream.topic).leaders.forEach((leader, partition) => {
      if (leader < 0) return
      const led = byLeader.get(leader)
      if (led === undefined) byLeader.set(leader, [partition])
      else led.push(partition)
    })
    for (const [nodeId, link] of this.#links) {
      if (byLeader.has(nodeId)) continue
      link.assign([])
      if (link.hasPending || metadata.broker(nodeId) !== null) continue
      link.stop(new Error('the broker left the cluster'))
      this.#links.delete(nodeId)
    }
    for (const [nodeId, partitions] of byLeader) {
      let link = this.#links.get(nodeId)
      if (link === undefined) {
        link = this.#link(nodeId)
        this.#links.set(nodeId, link)
      }
      link.assign(partitions)
    }
    this.pump()
  }

  #link(nodeId: number): AtMostOnceLink {
    const { metadata, stream, rights, onWritable, onRejected, onConnection } = this.#options
    return new AtMostOnceLink(nodeId, {
      ...this.#options,
      topic: stream.topic,
      config: stream.producer,
      address: () => metadata.broker(nodeId),
      isReplicated: () => metadata.topic(stream.topic).isReplicated,
      onWritable,
      rights,
      onRejected,
      onStale: () => metadata.refresh(),
      onBadContent: () => metadata.refreshSettings(),
      onUp: () => {
        this.#outageLog.up(nodeId)
        onConnection(null)
      },
      onDown: (_link, cause, suspectedRecords) => {
        if (this.#stopped) return
        this.#outageLog.down(nodeId, cause, suspectedRecords)
        if (!this.isConnected) onConnection(cause)
        // What ended it may have been a batch that the topic takes no more.
        metadata.refreshSettings()
        onWritable()
      },
    })
  }
}

interface RequestInMaking {
  readonly batches: RecordBatch[]
  sizeBytes: number
}

/** What a sender is made of. */
export interface SenderOptions {
  readonly stream: StreamConfig
  readonly accumulator: Accumulator
  readonly account: Account
  readonly metadata: ClusterMetadata
  readonly transport: Transport
  readonly offsets: LogEndOffsets
  readonly telemetry: ProducerTelemetry
  readonly logger: Logger
  /** Something that kept batches from being written is gone: pump soon. */
  readonly onWritable: () => void
  /** What the credentials may do: while a right is missing, nothing is written. */
  readonly rights: WriteRights
  /** A connection to a leader is open (null), or the last one is gone or could not be made. */
  readonly onConnection: (failure: Error | null) => void
  /** A broker refused a batch for good; what becomes of the batch is told besides. */
  readonly onRejected: (batch: RecordBatch, errorCode: number) => void
  /** Where an at-least-once stream notes the batches that it is about to write; null: nowhere. */
  readonly journal: () => BatchJournal | null
  /** What the identities of batches are good for: this topic, of this cluster. */
  readonly scope: () => number
  /** An at-least-once batch was refused for good, and is to get its outcome. */
  readonly onRefused: (batch: RecordBatch, refusal: Refusal) => void
}

/** Why a broker does not have a batch of an at-least-once stream, and is not going to get it. */
export interface Refusal {
  readonly reason: DropReason
  /** Kafka's error code; null where it was not a broker's answer. */
  readonly errorCode: number | null
  /** A broker may have the batch all the same. */
  readonly mayBeStored: boolean
}
