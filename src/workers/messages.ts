import type { Certificates } from '../config/certificates.ts'
import type { Config, InvalidConfig } from '../config/config.ts'
import type { MergeableFamily } from '../metrics/family.ts'
import type { MetricsSnapshot } from '../metrics/metrics.ts'
import type { LiveEvent } from '../live-events.ts'
import type { Readiness } from '../readiness.ts'
import type { Charge, Subject, Usage, Verdict } from '../limits/limit-counts.ts'

/**
 * The messages between the primary and its workers. Read this file of the folder first.
 *
 * With `WORKERS` above 1 the process that was started is the primary. It takes no requests: it starts the workers, adds up
 * their reports, counts for the limits, and ends the workers. Each worker is a whole gateway with its
 * share of every buffer. Primary and worker talk over the IPC channel of node:cluster. A worker learns from the end of the
 * channel that its primary is gone.
 *
 * A message is copied by the structured clone algorithm (`serialization: 'advanced'`): JSON has neither NaN nor infinity. The
 * copy has no functions, and an instance of a class arrives as a plain object without its methods. {@link Plain} refuses both
 * at compile time.
 *
 * The folder knows the configuration, the plain numbers of `metrics/`, the events that are shown, and what readiness is. It knows neither HTTP nor Kafka.
 */
export type ToWorker = Plain<
  /** The worker's number, its configuration, and the secret that the TLS sessions of all workers go by. */
  | {
      readonly type: 'start'
      readonly worker: number
      readonly config: Config
      readonly ticketSecret: string
    }
  /** The worker is to use other certificates. */
  | { readonly type: 'certificates'; readonly certificates: Certificates }
  /** The worker is to get ready for another configuration, and to change nothing yet. */
  | { readonly type: 'prepare'; readonly reload: number; readonly config: Config }
  /** Every worker is ready, or one is not: the configuration is put in force, or forgotten. */
  | { readonly type: 'decide'; readonly reload: number; readonly commit: boolean }
  /** Asks for a report. */
  | { readonly type: 'report'; readonly request: number; readonly scope: ViewScope }
  /** Answers `view`. */
  | { readonly type: 'view'; readonly request: number; readonly view: GroupView }
  /** Whether the worker is to send its events: somebody watches the events of all workers. */
  | { readonly type: 'tell-events'; readonly isWatched: boolean }
  /** Events of all workers, for a worker that has sent `watch-events`. */
  | { readonly type: 'events'; readonly events: readonly LiveEvent[] }
  /** Answers `charge`, in its order. */
  | { readonly type: 'charged'; readonly request: number; readonly verdicts: readonly Verdict[] }
  /** The worker is to drain. `delayed`: it takes requests as before until `delay-over` comes. */
  | { readonly type: 'drain'; readonly delayed: boolean }
  /** `whole`: the delay was not cut short by a second signal. */
  | { readonly type: 'delay-over'; readonly whole: boolean }
  /** The worker is to take no more connections. `isLast`: no other worker takes any. */
  | { readonly type: 'leave-port'; readonly isLast: boolean }
  /** No worker takes connections: the port is closed. */
  | { readonly type: 'port-closed' }
  /** The worker is to end at once. */
  | { readonly type: 'abort' }
>

/** See {@link ToWorker}. */
export type FromWorker = Plain<
  /** The worker listens to its primary from now on. It does not listen to clients yet. */
  | { readonly type: 'hello' }
  /** The worker takes requests. */
  | { readonly type: 'listening'; readonly url: string; readonly adminUrl: string | null }
  /** Answers `prepare`. `failure`: why the worker cannot; null: it is ready. */
  | { readonly type: 'prepared'; readonly reload: number; readonly failure: string | null }
  /** Answers `leave-port`. */
  | { readonly type: 'port-left' }
  /** The worker cannot start. `message` is for the operator. */
  | { readonly type: 'failed'; readonly message: string }
  /** A report. `request` is null for the report that a worker sends by itself every second. */
  | { readonly type: 'report'; readonly request: number | null; readonly report: WorkerReport }
  /** Asks for the view of all workers. */
  | { readonly type: 'view'; readonly request: number; readonly scope: ViewScope }
  /** Asks for the events of all workers from now on, or for no more of them. */
  | { readonly type: 'watch-events'; readonly isWatched: boolean }
  /** Events of this worker, after `tell-events`. */
  | { readonly type: 'events'; readonly events: readonly LiveEvent[] }
  /** Asks to charge requests to the limits that all workers share. */
  | { readonly type: 'charge'; readonly request: number; readonly charges: readonly Charge[] }
  /** What Redis told of subjects of limits. The primary goes on from that while Redis is away. */
  | { readonly type: 'adopt'; readonly subjects: readonly Subject[]; readonly usages: readonly Usage[] }
  /** The last message: every record has its outcome. `lost`: the records that the shutdown cost. */
  | { readonly type: 'ended'; readonly report: WorkerReport; readonly lost: number }
>

/** `all` has the metrics of the processes too. Their event-loop lag is measured from one view to the next. */
export type ViewScope = 'account' | 'all'

/** The numbers of one worker, as of one turn of its event loop. */
export interface WorkerReport {
  readonly account: MetricsSnapshot
  readonly readiness: Readiness
  /** null where only the account was asked for. */
  readonly process: readonly MergeableFamily[] | null
}

/** All workers as one gateway. The admin routes show it, whichever worker serves them. */
export interface GroupView {
  readonly metrics: MetricsSnapshot
  readonly readiness: Readiness
  /** Workers that have been silent for so long that they count as stuck. */
  readonly stuckWorkers: readonly number[]
  readonly uptimeSeconds: number
}

/**
 * A type whose values survive a structured clone. A function anywhere in `T`, such as a method of a class, becomes `never`,
 * and then a message that has it does not compile. config.ts has the same rule for the configuration.
 */
type Plain<T> = T extends (...args: never) => unknown
  ? never
  : T extends object
    ? { readonly [K in keyof T]: Plain<T[K]> }
    : T

function shareOfInvalid({ topic, maxPerSecond, producer }: InvalidConfig, workers: number): InvalidConfig {
  return {
    topic,
    maxPerSecond: Math.max(1, Math.floor(maxPerSecond / workers)),
    producer: { ...producer, bufferMemoryBytes: Math.floor(producer.bufferMemoryBytes / workers) },
  }
}

/**
 * The configuration of one worker. `buffer.memory` and `spool.max.bytes` are promises for the whole gateway, so each worker has its part of them.
 * @param options.createTopics false once the workers have seen a topic: a topic that is missing after that was deleted on purpose.
 */
export function shareOf(config: Config, options: { createTopics: boolean }): Config {
  const { topics } = config.kafka
  const { bounds } = config.http
  const share = (all: number): number => Math.ceil(all / config.workers)
  return {
    ...config,
    http: {
      ...config.http,
      bounds: { ...bounds, connections: share(bounds.connections), bodies: share(bounds.bodies) },
    },
    kafka: { ...config.kafka, topics: { ...topics, create: topics.create && options.createTopics } },
    streams: config.streams.map((stream) => ({
      ...stream,
      producer: {
        ...stream.producer,
        bufferMemoryBytes: Math.floor(stream.producer.bufferMemoryBytes / config.workers),
      },
      spool: stream.spool && {
        ...stream.spool,
        maxBytes: Math.floor(stream.spool.maxBytes / config.workers),
      },
      invalid: stream.invalid && shareOfInvalid(stream.invalid, config.workers),
    })),
  }
}
