import type { PartitionProgress } from './producer.ts'

/**
 * Loss as the broker's log shows it: how far the leader's log has moved since the partition was first seen, compared with how many records
 * were written since then. The loss is exact while this producer is the only writer. Other writers make it an underestimate. So the
 * numbers of all gateways of a fleet have to be added up (docs/semantics.md).
 */
export class LogEndOffsets {
  readonly #partitions = new Map<number, PartitionLog>()

  /**
   * A partition was found, and its log goes at least to `offset`. Records that are written from now on are compared with this offset. A log
   * that is shorter than the first offset belongs to a topic that was made anew, and the comparison begins again.
   */
  found(partition: number, offset: bigint): void {
    const log = this.#partitions.get(partition)
    if (log !== undefined && !log.isOver && offset >= log.base) return
    this.#partitions.set(partition, { base: offset, end: offset, written: 0, expected: 0, isOver: false })
  }

  /** The topic was made anew: the comparison begins again with the next look at each log. */
  begunAnew(): void {
    for (const log of this.#partitions.values()) log.isOver = true
  }

  /** Records were handed to a connection. */
  written(partition: number, count: number): void {
    const log = this.#partitions.get(partition)
    if (log !== undefined) log.written += count
  }

  /** Records that were written to a partition so far. To be passed to {@link observe} with an offset that is asked for now. */
  writtenTo(partition: number): number {
    return this.#partitions.get(partition)?.written ?? 0
  }

  /** Records were written since the last look at the log, or the log is another one. */
  isBehind(partition: number): boolean {
    const log = this.#partitions.get(partition)
    return log !== undefined && (log.isOver || log.expected < log.written)
  }

  /**
   * Takes the end of the leader's own log. At that moment the broker had processed `writtenBefore` records. The high watermark would be
   * wrong here: records that the replicas do not have yet are not lost.
   */
  observe(partition: number, logEndOffset: bigint, writtenBefore: number): void {
    this.found(partition, logEndOffset)
    const log = this.#partitions.get(partition)!
    log.end = logEndOffset
    log.expected = Math.min(writtenBefore, log.written)
  }

  /** The first and the last log end offset of each partition, and the records that were written in between. */
  *[Symbol.iterator](): Generator<PartitionProgress> {
    for (const [partition, { base, end, expected }] of this.#partitions) {
      yield { partition, baseOffset: Number(base), logEndOffset: Number(end), written: expected }
    }
  }
}

interface PartitionLog {
  /** The first log end offset. */
  base: bigint
  end: bigint
  /** Records that were written since then. */
  written: number
  /** Records that were written before the last look. `end` is compared with this number. */
  expected: number
  /** The log belongs to a topic that is gone. */
  isOver: boolean
}
