import { isStaleMetadata, kafkaErrors } from '../../protocol/kafka-error.ts'
import type { LogEndOffsets } from '../log-end-offsets.ts'
import { decodeListOffsets, encodeListOffsets, type PartitionOffset } from '../../protocol/requests.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * The partitions of a topic that may be written to over one connection: metadata says that the broker leads them, and the broker has
 * answered on this connection that they are online. A broker that has just started accepts connections before its partitions are online.
 * It closes an acks=0 connection on a write to a partition that is not online.
 */
export class OnlinePartitions {
  readonly #options: OnlinePartitionsOptions
  #connection: BrokerConnection | null = null
  #assigned = new Set<number>()
  readonly #online = new Set<number>()
  #probing = false
  #timer: NodeJS.Timeout | null = null

  constructor(options: OnlinePartitionsOptions) {
    this.#options = options
  }

  /** The broker leads the partition and said so on this connection. */
  has(partition: number): boolean {
    return this.#online.has(partition)
  }

  /** A partition that the broker leads, as metadata says; null if it leads none. */
  get anyAssigned(): number | null {
    for (const partition of this.#assigned) return partition
    return null
  }

  /** At least one partition is online here. */
  get hasAny(): boolean {
    return this.#online.size > 0
  }

  /** Sets the partitions that the broker leads, as metadata says. Asks the broker about partitions that are new here. */
  assign(partitions: readonly number[]): void {
    this.#assigned = new Set(partitions)
    for (const partition of this.#online) if (!this.#assigned.has(partition)) this.#online.delete(partition)
    this.#probe()
  }

  /** From now on the broker is asked over this connection. */
  attach(connection: BrokerConnection): void {
    this.#connection = connection
    this.#probe()
  }

  /** The connection has ended, and no partition counts as online any more. */
  detach(): void {
    this.#connection = null
    this.#probing = false
    this.#online.clear()
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** The broker said that it does not lead the partition. It is asked again until it leads the partition, or another broker does. */
  lost(partition: number): void {
    if (this.#online.delete(partition)) this.#probeLater()
  }

  /** Asks for the log ends of partitions that were written to, which show losses (`log-end-offsets.ts`). */
  look(): void {
    const { offsets } = this.#options
    const asked = [...this.#online].filter((partition) => offsets.isBehind(partition))
    if (this.#connection === null || asked.length === 0) return
    const written = asked.map((partition) => offsets.writtenTo(partition))
    this.#ask(this.#connection, asked, 'log_end', (found) => {
      for (const { partition, errorCode, offset } of found) {
        if (errorCode === kafkaErrors.none)
          offsets.observe(partition, offset, written[asked.indexOf(partition)]!)
        else if (isStaleMetadata(errorCode)) this.lost(partition)
      }
    })
  }

  #probe(): void {
    const connection = this.#connection
    const asked = [...this.#assigned].filter((partition) => !this.#online.has(partition))
    if (connection === null || this.#probing || asked.length === 0) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#probing = true
    this.#ask(connection, asked, 'high_watermark', (found) => {
      this.#probing = false
      for (const answer of found) {
        if (answer.errorCode !== kafkaErrors.none || !this.#assigned.has(answer.partition)) continue
        this.#options.offsets.found(answer.partition, answer.offset)
        this.#online.add(answer.partition)
        this.#options.onOnline(answer)
      }
      const missing = [...this.#assigned].filter((partition) => !this.#online.has(partition))
      // Partitions that were assigned in the meantime were not asked about.
      if (missing.some((partition) => !asked.includes(partition))) this.#probe()
      else if (missing.length > 0) this.#probeLater()
      this.#options.onReady()
    })
  }

  #probeLater(): void {
    this.#options.onStale()
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#probe()
    }, probeIntervalMs)
  }

  #ask(
    connection: BrokerConnection,
    asked: readonly number[],
    end: 'log_end' | 'high_watermark',
    onAnswer: (found: readonly PartitionOffset[]) => void,
  ): void {
    connection.call(
      encodeListOffsets(this.#options.topic, asked, end),
      (payload) => onAnswer(decodeListOffsets(payload)),
      (error) => connection.destroy(error),
    )
  }
}

/** See {@link OnlinePartitions}. */
export interface OnlinePartitionsOptions {
  readonly topic: string
  readonly offsets: LogEndOffsets
  /** A partition is online from now on. Nothing was written to it on this connection yet, or nothing since {@link OnlinePartitions.lost}. */
  readonly onOnline: (answer: PartitionOffset) => void
  /** Partitions may have come online. */
  readonly onReady: () => void
  /** The broker does not lead a partition that metadata says it leads. */
  readonly onStale: () => void
}

const probeIntervalMs = 100
