import type { DropReason } from '../kafka/producer/outcome.ts'
import type { ProducerStats, SpoolStats } from '../kafka/producer/producer.ts'
import { withRatios } from '../kafka/producer/producer-stats.ts'

/** What a spool counts beside the producer behind it. At every moment the sum of `ProducerStats.accepted` holds. */
export class SpoolAccount {
  /** Records that were committed, or dropped when they came. */
  accepted = 0
  /** Records that an earlier process accepted and left on disk. */
  readonly recovered: number
  /** Records that got an outcome and are done. */
  drained = 0
  /** Reads of the log that failed. */
  readFailures = 0
  /** Records that go again though Kafka may have them. The producer counts others by itself. */
  possiblyRepeated = 0
  /** Records that were on disk and never get to the producer. */
  readonly #dropped: Partial<Record<DropReason, number>> = {}
  /** Records that the producer suspected lost before the process began to end; null: it has not begun to. */
  #suspectedBeforeEnd: number | null = null

  constructor(recovered: number) {
    this.recovered = recovered
  }

  /** Books records that were on disk and never get to the producer. */
  drop(reason: DropReason, count: number): void {
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + count
  }

  /**
   * The process begins to end. Records that the producer suspected lost so far have this outcome. Records that it gives up or
   * suspects lost from now on are on disk, and the next process sends them.
   */
  beginEnd(inner: ProducerStats): void {
    this.#suspectedBeforeEnd ??= inner.suspectedLost
  }

  /** The numbers of the durable stream, from those of the producer and those of the spool. */
  stats(inner: ProducerStats, spool: SpoolStats): ProducerStats {
    const dropped = { ...inner.dropped }
    let droppedHere = 0
    for (const [reason, count] of Object.entries(this.#dropped)) {
      dropped[reason as DropReason] += count
      droppedHere += count
    }
    const suspectedLost = this.#suspectedBeforeEnd ?? inner.suspectedLost
    const droppedAtEnd = dropped.shutdown
    const leftOnDisk = droppedAtEnd + inner.suspectedLost - suspectedLost
    dropped.shutdown = 0
    return withRatios({
      ...inner,
      accepted: this.accepted,
      recovered: this.recovered,
      spooled: this.accepted + this.recovered - inner.accepted - droppedHere + leftOnDisk,
      suspectedLost,
      possiblyRepeated: inner.possiblyRepeated + this.possiblyRepeated,
      dropped,
      recordSendTotal: inner.recordSendTotal + droppedHere,
      recordErrorTotal: inner.recordErrorTotal + droppedHere - leftOnDisk,
      localErrorTotal: inner.localErrorTotal + droppedHere - droppedAtEnd,
      spool,
    })
  }
}
