import type { ConsumerConfig } from '../../config/consumer-config.ts'

/**
 * Commits the polled positions every `auto.commit.interval.ms`, as `enable.auto.commit` does. It does not know which records were processed,
 * so it promises nothing.
 *
 * One commit is under way at a time, and each is tried once, so that none can land behind a later one, or in an assignment that is not its own.
 * The next commit takes what one that failed has left.
 */
export class AutoCommit {
  readonly #commit: TryCommit
  readonly #timer: NodeJS.Timeout
  #moved = new Map<number, Moved>()
  /** What is on its way to the broker, unless it was forgotten since. */
  #sent = new Map<number, Moved>()
  #committing: Promise<void> | null = null
  #isWanted = false

  constructor(config: ConsumerConfig, commit: TryCommit) {
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
    this.#sent.delete(partition)
  }

  /** The member has another assignment. In it the group's committed offsets count, and other members may have moved them on. */
  forgetAll(): void {
    this.#moved.clear()
    this.#sent.clear()
  }

  /** Commits the positions that were not committed yet, and goes on. While a commit is under way, the next one begins at its end. */
  commitNow(): void {
    if (this.#committing !== null) this.#isWanted = true
    else if (this.#moved.size > 0) this.#committing = this.#run()
  }

  /** Commits the positions that were not committed yet: twice, if the first try fails. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#committing
    for (let tries = 0; tries < 2; tries++) {
      this.commitNow()
      await this.#committing
    }
  }

  async #run(): Promise<void> {
    do {
      this.#isWanted = false
      this.#sent = this.#moved
      this.#moved = new Map()
      const isCommitted = await this.#commit([...this.#sent.values()])
      if (isCommitted) continue
      for (const { partition, offset, count } of this.#sent.values()) {
        const newer = this.#moved.get(partition)
        this.#moved.set(partition, {
          partition,
          offset: newer?.offset ?? offset,
          count: count + (newer?.count ?? 0),
        })
      }
    } while (this.#isWanted && this.#moved.size > 0)
    this.#committing = null
  }
}

/** Tries once to commit positions. @returns whether they are committed. */
export type TryCommit = (partitions: readonly Moved[]) => Promise<boolean>

/** The polled position of a partition, and the number of records that were polled since the last commit. */
export interface Moved {
  readonly partition: number
  readonly offset: string
  readonly count: number
}
