import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { MergeableFamily } from '../metrics/family.ts'
import { mergeFamilies } from '../metrics/family.ts'
import { mergeSnapshots, retireSnapshot, type MetricsSnapshot } from '../metrics/metrics.ts'
import type { Readiness } from '../readiness.ts'
import type { WorkerReport } from './messages.ts'

/**
 * What the workers said of themselves, added up. Each report holds in itself, so the sum holds: accepted = pending +
 * outcomes. No counter ever goes back: of a worker that is silent the last report stands, and of one that has ended what
 * remains of it.
 */
export class GroupAccount {
  readonly #reports = new Map<number, WorkerReport>()
  #retired: MetricsSnapshot[] = []
  #retiredProcesses: MergeableFamily[] = []

  /** Takes a report. One without the process's metrics leaves the last ones in force. */
  heard(worker: number, report: WorkerReport): void {
    const process = report.process ?? this.#reports.get(worker)?.process ?? null
    this.#reports.set(worker, { ...report, process })
  }

  /**
   * A worker has ended. What it had accepted since its last report nobody knows of; what it held then is suspected lost.
   * @returns its account as it is closed now, and the number of records that this cost.
   */
  retire(worker: number): { streams: readonly ProducerStats[]; lost: number } {
    const report = this.#reports.get(worker)
    if (report === undefined) return { streams: [], lost: 0 }
    this.#reports.delete(worker)
    const retired = retireSnapshot(report.account)
    this.#retired = [mergeSnapshots([...this.#retired, retired])]
    const counters = (report.process ?? []).filter(({ type }) => type !== 'gauge')
    this.#retiredProcesses = mergeFamilies([this.#retiredProcesses, counters])
    const lost = report.account.streams.reduce((sum, { buffered, inFlight }) => sum + buffered + inFlight, 0)
    return { streams: retired.streams, lost }
  }

  /** The sum of all that was ever reported; null before the first report. */
  sum(): MetricsSnapshot | null {
    const accounts = this.#accounts
    return accounts.length === 0 ? null : mergeSnapshots(accounts)
  }

  /** As {@link sum}, with a turn of the event loop for each worker: with hundreds of streams each takes milliseconds. */
  async sumInTurns(): Promise<MetricsSnapshot | null> {
    const [first, ...others] = this.#accounts
    let sum = first ?? null
    for (const account of others) {
      await nextTurn()
      sum = mergeSnapshots([sum!, account])
    }
    return sum
  }

  /** Reports are never changed, so these are of one instant however long they are worked on. */
  get #accounts(): MetricsSnapshot[] {
    return [...Array.from(this.#reports.values(), ({ account }) => account), ...this.#retired]
  }

  /** The metrics of the workers' processes and of `own`, the primary's. */
  processes(own: readonly MergeableFamily[]): MergeableFamily[] {
    const workers = Array.from(this.#reports.values(), ({ process }) => process ?? [])
    return mergeFamilies([own, ...workers, this.#retiredProcesses])
  }

  /** The last look of each worker that lives, in the order of their numbers. */
  get readiness(): ReadonlyMap<number, Readiness> {
    const sorted = [...this.#reports].toSorted(([one], [other]) => one - other)
    return new Map(sorted.map(([worker, { readiness }]) => [worker, readiness]))
  }
}
