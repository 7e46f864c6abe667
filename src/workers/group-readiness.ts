import type { MergeableFamily } from '../metrics/family.ts'
import type { Readiness } from '../readiness.ts'

/** What a worker is to its primary. `silent`: it did not answer in time, and its last report stands. */
export const workerStates = ['running', 'silent', 'starting', 'down'] as const

/** See {@link workerStates}. */
export type WorkerState = (typeof workerStates)[number]

/** What readiness of the whole is made of. */
export interface GroupState {
  /** By number. */
  readonly workers: ReadonlyMap<number, WorkerState>
  /** What each running worker saw, by number. */
  readonly readiness: ReadonlyMap<number, Readiness>
  readonly draining: boolean
}

/**
 * Ready means that every worker is: they share the port, so a request can meet any of them. A check that fails names the
 * workers that it fails in; one that is well in all says what each worker says, once.
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

/** `chute_workers` and `chute_worker_restarts_total`: there only where there are workers. */
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
