import type { Config } from '../config/config.ts'
import type { MergeableFamily } from '../metrics/family.ts'
import type { MetricsSnapshot } from '../metrics/metrics.ts'
import type { Readiness } from '../readiness.ts'
import type { RequestCount } from '../routes/policy/rate-limit.ts'

/**
 * What the primary and its workers tell each other. Read this file of the folder first.
 *
 * With `WORKERS` above 1 the first process, the primary, takes no requests: it starts the workers, adds up what they
 * report, counts requests where there is a rate limit, and ends them. Each worker is a whole gateway with its share of
 * every buffer. All of it goes over the IPC channel, whose end is also how a worker learns that its primary is gone.
 * Messages are cloned (`serialization: 'advanced'`), since JSON has neither NaN nor infinity.
 */
export type ToWorker =
  | { readonly type: 'start'; readonly worker: number; readonly config: Config }
  | { readonly type: 'report'; readonly request: number; readonly scope: ViewScope }
  | { readonly type: 'view'; readonly request: number; readonly view: GroupView }
  | { readonly type: 'counted'; readonly request: number; readonly counts: readonly RequestCount[] }
  /** `delayed`: requests are taken as before until the end of the delay is told. */
  | { readonly type: 'drain'; readonly delayed: boolean }
  /** `whole`: it was not cut short. */
  | { readonly type: 'delay-over'; readonly whole: boolean }
  | { readonly type: 'abort' }

/** See {@link ToWorker}. */
export type FromWorker =
  /** It listens to its primary, and to nobody else yet. */
  | { readonly type: 'hello' }
  | { readonly type: 'listening'; readonly url: string; readonly adminUrl: string | null }
  /** It cannot start; `message` is for the operator. */
  | { readonly type: 'failed'; readonly message: string }
  /** Its report: asked for, or (`request` null) by itself every second. */
  | { readonly type: 'report'; readonly request: number | null; readonly report: WorkerReport }
  | { readonly type: 'view'; readonly request: number; readonly scope: ViewScope }
  | { readonly type: 'count'; readonly request: number; readonly addresses: readonly string[] }
  /** Its last word: every record has its outcome. `lost`: what the shutdown cost. */
  | { readonly type: 'ended'; readonly report: WorkerReport; readonly lost: number }

/** `all` has the metrics of the process too, whose lag is measured from one look to the next. */
export type ViewScope = 'account' | 'all'

/** What a worker says of itself, as of one turn of its event loop. */
export interface WorkerReport {
  readonly account: MetricsSnapshot
  readonly readiness: Readiness
  /** null where only the account was asked for. */
  readonly process: readonly MergeableFamily[] | null
}

/** All workers as one gateway: what the admin routes show, whichever worker was asked. */
export interface GroupView {
  readonly metrics: MetricsSnapshot
  readonly readiness: Readiness
  /** Workers that have been silent for so long that they must be taken for stuck. */
  readonly stuckWorkers: readonly number[]
  readonly uptimeSeconds: number
}
