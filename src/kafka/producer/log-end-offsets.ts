import type { PartitionProgress } from './producer.ts'

/**
 * Loss as the broker's log shows it: how far the leader's log moved against how many records were written, since each
 * partition was first seen. It is exact while this producer is the only writer; other writers make it an underestimate,
 * and a fleet has to be added up (docs/semantics.md).
 */
export class LogEndOffsets {
  readonly #partitions = new Map<number, PartitionLog>()

  /**
   * A partition was found, and its log goes to `offset` at the least. What is written from now on is held against that. So it
   * is again where the log is shorter than it ever was: the topic was made anew.
   */
  found(partition: number, offset: bigint): void {
    const log = this.#partitions.get(partition)
    if (log !== undefined && offset >= log.base) return
    this.#partitions.set(partition, { base: offset, end: offset, written: 0, expected: 0 })
  }

  /** Records were handed to a connection. */
  written(partition: number, count: number): void {
    const log = this.#partitions.get(partition)
    if (log !== undefined) log.written += count
  }

  /** What was written to a partition up to now: to be handed to {@link observe} with an offset that is asked for now. */
  writtenTo(partition: number): number {
    return this.#partitions.get(partition)?.written ?? 0
  }

  /** Records were written that no look has accounted for yet. */
  isBehind(partition: number): boolean {
    const log = this.#partitions.get(partition)
    return log !== undefined && log.expected < log.written
  }

  /**
   * The end of the leader's own log, as of a moment when `writtenBefore` records had been written and were processed. Not the
   * high watermark: replicas that are behind are no loss.
   */
  observe(partition: number, logEndOffset: bigint, writtenBefore: number): void {
    this.found(partition, logEndOffset)
    const log = this.#partitions.get(partition)!
    log.end = logEndOffset
    log.expected = Math.min(writtenBefore, log.written)
  }

  /** Each partition's log end offset as it was first and last seen, and the records written to it in between. */
  *[Symbol.iterator](): Generator<PartitionProgress> {
    for (const [partition, { base, end, expected }] of this.#partitions) {
      yield { partition, baseOffset: Number(base), logEndOffset: Number(end), written: expected }
    }
  }
}

interface PartitionLog {
  /** Log end offset when it was first seen. */
  base: bigint
  end: bigint
  /** Records written since then. */
  written: number
  /** The same at the moment of the last look: what `end` is held against. */
  expected: number
}
