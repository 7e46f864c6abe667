import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import { isOnDisk, leaveOnDisk, mergeStats, succeedStats } from '../kafka/producer/producer-stats.ts'
import { type MergeableFamily, mergeFamilies } from '../metrics/family.ts'
import { mergeSnapshots, type MetricsSnapshot, retireSnapshot } from '../metrics/metrics.ts'
import type { Readiness } from '../readiness.ts'
import type { WorkerReport } from './messages.ts'

/**
 * The reports of all workers, added up. In each report accepted = pending + outcomes, so this holds for the sum too. No counter
 * ever goes back: a worker that is silent counts with its last report, and a worker that has ended with its counters.
 */
export class GroupAccount {
  readonly #reports = new Map<number, WorkerReport>()
  /** What workers that have ended left on disk, by their number, until the next process of the worker reports. */
  readonly #onDisk = new Map<number, readonly ProducerStats[]>()
  #retired: MetricsSnapshot[] = []
  #retiredProcesses: MergeableFamily[] = []

  /** Takes a report of a worker. The last metrics of its process stay in force if the report has none. */
  takeReport(worker: number, report: WorkerReport): void {
    const process = report.process ?? this.#reports.get(worker)?.process ?? null
    this.#reports.set(worker, { ...report, process })
    const left = this.#onDisk.get(worker)
    if (left === undefined) return
    const next = new Map(report.account.streams.map((stats) => [`${stats.stream} ${stats.topic}`, stats]))
    const foundBy = ({ stream, topic }: ProducerStats): ProducerStats | undefined => {
      const stats = next.get(`${stream} ${topic}`)
      return stats !== undefined && isOnDisk(stats) ? stats : undefined
    }
    const found = left.filter((stats) => foundBy(stats) !== undefined)
    this.#onDisk.set(
      worker,
      left.filter((stats) => !found.includes(stats)),
    )
    this.#retired = this.#retired.map((retired) => ({
      ...retired,
      streams: mergeStats([
        retired.streams,
        found.map((stats) => succeedStats(stats, foundBy(stats)!.recovered)),
      ]),
    }))
  }

  /**
   * Closes the account of a worker that has ended. The records that it held in memory at its last report are suspected lost. Those of
   * durable streams are on disk: they stay in the account as they are until the next process of the worker has found them. The account
   * lacks whatever the worker accepted after that report.
   * @returns the closed account, and how many records the end cost.
   */
  retire(worker: number): { streams: readonly ProducerStats[]; lost: number } {
    const report = this.#reports.get(worker)
    if (report === undefined) return { streams: [], lost: 0 }
    this.#reports.delete(worker)
    const { streams } = report.account
    const onDisk = streams.filter(isOnDisk).map(leaveOnDisk)
    const inMemory = streams.filter((stats) => !isOnDisk(stats))
    this.#onDisk.set(worker, [...(this.#onDisk.get(worker) ?? []), ...onDisk])
    const retired = retireSnapshot({ ...report.account, streams: inMemory })
    this.#retired = [mergeSnapshots([...this.#retired, retired])]
    const counters = (report.process ?? []).filter(({ type }) => type !== 'gauge')
    this.#retiredProcesses = mergeFamilies([this.#retiredProcesses, counters])
    const lost = inMemory.reduce((sum, { buffered, inFlight }) => sum + buffered + inFlight, 0)
    return { streams: [...onDisk, ...retired.streams], lost }
  }

  /** The sum over all workers that there were; null before the first report. */
  sum(): MetricsSnapshot | null {
    const accounts = this.#accounts
    return accounts.length === 0 ? null : mergeSnapshots(accounts)
  }

  /** As {@link sum}, in one turn of the event loop a worker: with hundreds of streams each addition takes milliseconds. */
  async sumInTurns(): Promise<MetricsSnapshot | null> {
    const [first, ...others] = this.#accounts
    let sum = first ?? null
    for (const account of others) {
      await nextTurn()
      sum = mergeSnapshots([sum!, account])
    }
    return sum
  }

  /** Reports never change, so the accounts are of one instant, however long the caller works on them. */
  get #accounts(): MetricsSnapshot[] {
    const onDisk = [...this.#onDisk.values()]
    const ended = this.#retired.map((retired) => ({
      ...retired,
      streams: mergeStats([retired.streams, ...onDisk]),
    }))
    return [...Array.from(this.#reports.values(), ({ account }) => account), ...ended]
  }

  /** The metrics of all processes: of the workers, and `own`, those of the primary. */
  processes(own: readonly MergeableFamily[]): MergeableFamily[] {
    const workers = Array.from(this.#reports.values(), ({ process }) => process ?? [])
    return mergeFamilies([own, ...workers, this.#retiredProcesses])
  }

  /** The last readiness of each worker that has not ended, in the order of their numbers. */
  get readiness(): ReadonlyMap<number, Readiness> {
    const sorted = [...this.#reports].toSorted(([one], [other]) => one - other)
    return new Map(sorted.map(([worker, { readiness }]) => [worker, readiness]))
  }
}

/** See {@link WorkerState}. The metrics' label `state` has these values. */
export const workerStates = ['running', 'silent', 'starting', 'down'] as const

/** The state of a worker as the primary sees it. `silent`: it did not answer in time, and its last report stands. */
export type WorkerState = (typeof workerStates)[number]

/** The readiness of a group is made of this. */
export interface GroupState {
  /** By number. */
  readonly workers: ReadonlyMap<number, WorkerState>
  /** The last readiness of each worker, by number. */
  readonly readiness: ReadonlyMap<number, Readiness>
  readonly draining: boolean
}

/**
 * The group is ready when every worker is ready: the workers share the port, so a request can reach any of them. A check that
 * fails names the workers in which it fails. A check that is well in all workers has the text of the workers, without repetition.
 */
export function groupReadiness({ workers, readiness, draining }: GroupState): Readiness {
  const checks = mergeChecks(readiness).map((check) =>
    check.name === 'draining' && draining
      ? { name: 'draining', ok: false, detail: 'the gateway is shutting down' }
      : check,
  )
  const away = [...workers].filter(([, state]) => state !== 'running')
  checks.push({
    name: 'workers',
    ok: away.length === 0,
    detail:
      away.length === 0
        ? `${workers.size} workers take requests`
        : away.map(([worker, state]) => `worker ${worker} is ${state}`).join('; '),
  })
  return { ready: checks.every(({ ok }) => ok), checks }
}

function mergeChecks(readiness: ReadonlyMap<number, Readiness>): Readiness['checks'][number][] {
  const merged = new Map<string, Readiness['checks'][number]>()
  for (const [worker, { checks }] of readiness) {
    for (const { name, ok, detail } of checks) {
      const known = merged.get(name)
      if (ok && known === undefined) merged.set(name, { name, ok, detail })
      else if (ok && known!.ok && !known!.detail.includes(detail))
        merged.set(name, { name, ok, detail: `${known!.detail}; worker ${worker}: ${detail}` })
      if (ok) continue
      const found = `worker ${worker}: ${detail}`
      merged.set(name, { name, ok, detail: known?.ok === false ? `${known.detail}; ${found}` : found })
    }
  }
  return [...merged.values()]
}

/** `chute_workers` and `chute_worker_restarts_total`. A gateway of one process does not have them. */
export function collectWorkerMetrics(
  workers: ReadonlyMap<number, WorkerState>,
  restarts: number,
): MergeableFamily[] {
  const states = [...workers.values()]
  return [
    {
      name: 'chute_workers',
      help: 'Workers by state. Of one that is silent (no answer to a scrape) the last numbers stand in all other metrics.',
      type: 'gauge',
      merge: 'sum',
      samples: workerStates.map((state) => ({
        suffix: '',
        labels: { state },
        value: states.filter((each) => each === state).length,
      })),
    },
    {
      name: 'chute_worker_restarts_total',
      help: 'Workers that ended by themselves and were started again.',
      type: 'counter',
      samples: [{ suffix: '', labels: {}, value: restarts }],
    },
  ]
}
