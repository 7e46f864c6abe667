import type { PartitionProgress } from './producer.ts'

/**
 * Loss as the broker's log shows it: how far the log end offsets moved against how many records were written, since each
 * partition was first seen. It is exact while this producer is the only writer; other writers make it an underestimate,
 * and a fleet has to be added up (docs/operations.md).
 */
export class LogEndOffsets {
  readonly #partitions = new Map<number, PartitionLog>()

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
   * The log end offset of a partition, as of a moment when `writtenBefore` records had been written and were processed.
   * The first look sets the base, and so does one that goes back: then the topic was made anew. An offset is held against
   * what was written before the look before: brokers tell consumers of a record only when its replicas have it.
   */
  observe(partition: number, logEndOffset: bigint, writtenBefore: number): void {
    const log = this.#partitions.get(partition)
    if (log === undefined || logEndOffset < log.base) {
      this.#partitions.set(partition, {
        base: logEndOffset,
        end: logEndOffset,
        written: 0,
        pending: 0,
        expected: 0,
      })
      return
    }
    log.end = logEndOffset
    log.expected = log.pending
    log.pending = writtenBefore
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
  /** The same at the moment of the last look. */
  pending: number
  /** The same at the moment of the look before: what `end` is held against. */
  expected: number
}
