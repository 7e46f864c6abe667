import { RollingSum } from '../../rolling-sum.ts'

/**
 * The account of one consumer. At every moment consumed = processed + lost + returned + pending. Each method moves records from one term to
 * another.
 */
export class ConsumerAccount {
  /** Records that were polled. */
  consumed = 0
  /** Records that were processed without a failure. */
  processed = 0
  /** Records whose offsets were committed, and that were not processed. No member will poll them again. */
  lost = 0
  /** Records that were given up, neither committed nor processed. The group polls them again. */
  returned = 0
  /** Records that were polled and that are none of the three yet. */
  pending = 0
  /** Records that this member handed out for processing a second time. */
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

  /** All counts at this moment. `commitLatencyAvgMs`: mean time of the commits of the last 30 s; 0 if there was none. */
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
