import { RollingSum } from '../../rolling-sum.ts'

/**
 * The account of one consumer: consumed = processed + lost + returned + pending at every moment, since each method moves
 * records from one term to another.
 */
export class ConsumerAccount {
  /** Records that were polled. */
  consumed = 0
  /** Handed to the processor, which did not fail. */
  processed = 0
  /** Committed, and not processed: nobody will see them again. */
  lost = 0
  /** Polled, and given up without commit and without being processed: the group polls them again. */
  returned = 0
  /** Polled, and none of the three yet. */
  pending = 0
  /** Of those handed out for processing, those that this member had handed out before. */
  repeated = 0
  /** Records whose offsets were committed. */
  committed = 0
  commits = 0
  commitErrors = 0
  readonly #recentCommits = new RollingSum(latencyWindowSeconds)
  readonly #recentLatencyMs = new RollingSum(latencyWindowSeconds)

  poll(count: number): void {
    this.consumed += count
    this.pending += count
  }

  process(count: number): void {
    this.pending -= count
    this.processed += count
  }

  lose(count: number): void {
    this.pending -= count
    this.lost += count
  }

  giveBack(count: number): void {
    this.pending -= count
    this.returned += count
  }

  commit(count: number, latencyMs: number): void {
    this.committed += count
    this.commits++
    this.#recentCommits.add(1)
    this.#recentLatencyMs.add(latencyMs)
  }

  /** All of it at this instant. `commitLatencyAvgMs`: of the commits of the last 30 s; 0 when there was none. */
  get counts() {
    const { consumed, processed, lost, returned, pending, repeated, committed, commits, commitErrors } = this
    const recent = this.#recentCommits.sum()
    const commitLatencyAvgMs = recent === 0 ? 0 : this.#recentLatencyMs.sum() / recent
    return {
      consumed,
      processed,
      lost,
      returned,
      pending,
      repeated,
      committed,
      commits,
      commitErrors,
      commitLatencyAvgMs,
    }
  }
}

const latencyWindowSeconds = 30
