import type { ConsumerConfig } from '../../config/consumer-config.ts'

/**
 * Commits the polled positions every `auto.commit.interval.ms`, as `enable.auto.commit` does. It does not know which records were processed,
 * so it promises nothing.
 */
export class AutoCommit {
  readonly #commit: (partitions: readonly Moved[]) => Promise<void>
  readonly #timer: NodeJS.Timeout
  #moved = new Map<number, Moved>()
  #committing: Promise<void> = Promise.resolve()

  constructor(config: ConsumerConfig, commit: (partitions: readonly Moved[]) => Promise<void>) {
    this.#commit = commit
    this.#timer = setInterval(() => this.commitNow(), config.autoCommitIntervalMs)
  }

  /** The member has polled up to `offset`. */
  moved(partition: number, offset: number, count: number): void {
    const before = this.#moved.get(partition)?.count ?? 0
    this.#moved.set(partition, { partition, offset: String(offset), count: before + count })
  }

  /** The member goes on at another offset of the partition, which is committed. */
  forget(partition: number): void {
    this.#moved.delete(partition)
  }

  /** The member has another assignment. In it the group's committed offsets count, and other members may have moved them on. */
  forgetAll(): void {
    this.#moved.clear()
  }

  /** Commits the positions that were not committed yet, and goes on. */
  commitNow(): void {
    if (this.#moved.size === 0) return
    const partitions = [...this.#moved.values()]
    this.#moved = new Map()
    this.#committing = this.#commit(partitions)
  }

  /** Commits the positions that were not committed yet. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.commitNow()
    await this.#committing
  }
}

/** The polled position of a partition, and the number of records that were polled since the last commit. */
export interface Moved {
  readonly partition: number
  readonly offset: string
  readonly count: number
}
