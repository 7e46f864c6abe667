import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { type Certificates, withCertificates } from '../config/certificates.ts'
import type { Config, StreamConfig } from '../config/config.ts'
import { hashOfConfig } from '../config/reload.ts'
import { maxInt32 } from '../config/setting.ts'
import { accountOf } from '../kafka/producer/account-log.ts'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { Logger } from '../logger.ts'
import { mergeFamilies } from '../metrics/family.ts'
import { Reloads } from '../metrics/reload-metrics.ts'
import { collectProcessMetrics } from '../metrics/process-metrics.ts'
import { LimitCounts, type Cost } from '../limits/limit-counts.ts'
import { collectWorkerMetrics, GroupAccount, groupReadiness, type WorkerState } from './group-view.ts'
import { type GroupView, shareOf, type ToWorker, type ViewScope } from './messages.ts'
import { LiveFeed } from '../live-events.ts'
import { SingleFlight } from './single-flight.ts'
import { WorkerProcess, type OwnMessage, type ProcessEnd } from './worker-process.ts'

/**
 * The workers of a gateway, in the primary. It starts them together, adds up their reports, starts a worker again that
 * crashed, and ends them together.
 */
export class WorkerGroup {
  #config: Config
  /**
   * Durable streams that reloads have taken out. A worker can still have records of them on disk. So a worker that is started again starts with them, and
   * lets them go at once.
   */
  #gone: readonly StreamConfig[] = []
  readonly #logger: Logger
  /** The reloads of the configuration. They are counted by whoever reads the files. */
  readonly reloads: Reloads
  readonly #ticketSecret = randomBytes(32).toString('hex')
  readonly #account = new GroupAccount()
  /** By number. */
  readonly #processes = new Map<number, WorkerProcess>()
  /** What all workers have charged to the limits. */
  readonly #limits = new LimitCounts()
  /** The events of all workers. */
  readonly #events = new LiveFeed((isWatched) => this.#tellEvents(isWatched))
  /** By number: ends to send events to a worker that watches them. */
  readonly #watching = new Map<number, () => void>()
  readonly #views: Readonly<Record<ViewScope, SingleFlight<GroupView>>>
  /** Restarts that wait for their moment, by number. */
  readonly #restarting = new Map<number, { crashes: number; timer: NodeJS.Timeout }>()
  #onStart: StartListener | null = null
  #restarts = 0
  #lastReload = 0
  #lost = 0
  #phase: 'starting' | 'running' | 'ending' = 'starting'

  constructor(config: Config, logger: Logger) {
    this.#config = config
    this.reloads = new Reloads(hashOfConfig(config))
    this.#logger = logger
    this.#views = {
      account: new SingleFlight(async () => await this.#collectView('account')),
      all: new SingleFlight(async () => await this.#collectView('all')),
    }
    cluster.setupPrimary({ serialization: 'advanced' })
  }

  /**
   * Starts all workers, and returns when all of them listen.
   * @throws Error with a message for the operator, if a worker cannot. The caller then ends the others with {@link abort}.
   */
  async start(): Promise<Listening> {
    const started = new Promise<Listening>((resolve, reject) => {
      this.#onStart = { listening: resolve, failed: (message) => reject(new Error(message)) }
    })
    for (let worker = 1; worker <= this.#config.workers; worker++) this.#fork(worker)
    const listening = await started
    // A signal may have come meanwhile.
    if (this.#phase === 'starting') this.#phase = 'running'
    return listening
  }

  /** All workers use other certificates from now on, and so do those that start later. */
  renew(certificates: Certificates): void {
    this.#config = withCertificates(this.#config, certificates)
    for (const worker of this.#processes.values()) worker.renew(certificates)
  }

  /**
   * Puts a configuration in force in all workers, or in none: each worker gets ready, and then all are told. A worker that ends meanwhile
   * is started again with what is in force.
   * @throws Error with the reason why a worker cannot.
   */
  async reload(config: Config): Promise<void> {
    const reload = ++this.#lastReload
    const share = shareOf(config, { createTopics: true })
    const workers = [...this.#processes.values()]
    const answers = await Promise.all(workers.map(async (worker) => await worker.prepare(reload, share)))
    const failure =
      this.#phase === 'ending'
        ? 'the gateway shuts down'
        : (answers.find((answer) => answer !== null) ?? null)
    if (failure === null) {
      this.#gone = [...this.#gone, ...this.#config.streams].filter(
        ({ name, spool }) => spool !== null && config.streams.every((stream) => stream.name !== name),
      )
      this.#config = config
    }
    for (const worker of this.#processes.values()) worker.decide(reload, share, failure === null)
    if (failure !== null) throw new Error(failure)
  }

  /** The account of each stream over all workers, as of their last reports. */
  get stats(): readonly ProducerStats[] {
    return this.#account.sum()?.streams ?? []
  }

  /** The processes that there are now. */
  get workers(): { worker: number; pid: number | undefined }[] {
    return Array.from(this.#processes.values(), ({ number, pid }) => ({ worker: number, pid }))
  }

  /**
   * Lets all workers answer the requests that are under way and drain, at the same time, each within `shutdownTimeoutMs`, and before that
   * within `spoolDrainTimeoutMs` what is on disk. A worker that is still there {@link overtimeMs} after that is killed.
   * @param delay while it lasts, the workers take requests as before and `/readyz` answers 503. It resolves to false when it
   * was cut short. null: there is no delay.
   * @returns how many accepted records this cost: dropped, suspected lost, or gone with a worker that was killed.
   */
  async drain(delay: Promise<boolean> | null): Promise<{ lost: number }> {
    this.#phase = 'ending'
    this.#lost = 0
    for (const { timer } of this.#restarting.values()) clearTimeout(timer)
    const tell = (message: ToWorker): void => {
      for (const worker of this.#processes.values()) worker.send(message)
    }
    tell({ type: 'drain', delayed: delay !== null })
    if (delay !== null) {
      const whole = await delay
      tell({ type: 'delay-over', whole })
      // Nothing waits for this: workers that are late give up by themselves, or are killed.
      if (whole) void this.#leavePort()
    }
    const { shutdownTimeoutMs, spoolDrainTimeoutMs } = this.#config
    await this.#allEnded(shutdownTimeoutMs + spoolDrainTimeoutMs + overtimeMs)
    return { lost: this.#lost }
  }

  /**
   * Ends the listening of all workers without a lost connection. With node:cluster the primary listens and hands connections
   * over, and the port is closed when the last worker stops to listen. Connections that are on their way to the last worker
   * in that moment are reset. So all workers but one stop at once: a connection on its way to one of them comes back to the
   * primary and goes to the last one. The last worker then has every new connection. It can tell a quiet moment, and stops
   * in it. No worker sends its clients away before that, since clients that are sent away connect again.
   */
  async #leavePort(): Promise<void> {
    const workers = [...this.#processes.values()]
    const last = workers.find(({ state }) => state === 'running') ?? workers[0]
    const others = workers.filter((worker) => worker !== last)
    await Promise.all(others.map(async (worker) => await worker.leavePort(false)))
    await last?.leavePort(true)
    for (const worker of workers) worker.send({ type: 'port-closed' })
  }

  /** Ends all workers at once, and returns when they are gone. {@link stats} then has the records that this cost. */
  async abort(): Promise<void> {
    this.#phase = 'ending'
    for (const { timer } of this.#restarting.values()) clearTimeout(timer)
    for (const worker of this.#processes.values()) worker.send({ type: 'abort' })
    await this.#allEnded(abortWithinMs)
  }

  async #allEnded(limitMs: number): Promise<void> {
    const workers = [...this.#processes.values()]
    const limit = setTimeout(
      () => {
        for (const worker of workers) worker.kill()
      },
      Math.min(limitMs, maxInt32),
    )
    await Promise.all(workers.map(async ({ ended }) => await ended))
    clearTimeout(limit)
  }

  #fork(number: number): void {
    const createTopics = !this.stats.some(({ topicKnown }) => topicKnown)
    const config = shareOf(this.#config, { createTopics })
    const ticketSecret = this.#ticketSecret
    const gone = () => shareOf({ ...this.#config, streams: this.#gone }, { createTopics }).streams
    const options = { number, config, ticketSecret, gone, reload: ++this.#lastReload }
    const worker = new WorkerProcess(options, (message) => this.#receive(worker, message))
    this.#processes.set(number, worker)
    void worker.ended.then((end) => this.#ended(worker, end))
  }

  #receive(worker: WorkerProcess, message: OwnMessage): void {
    switch (message.type) {
      case 'listening':
        this.#listening(worker, message)
        return
      case 'failed':
        if (this.#phase === 'starting') this.#onStart?.failed(message.message)
        else this.#logger.error({ worker: worker.number, cause: message.message }, 'a worker could not start')
        return
      case 'report':
        this.#account.takeReport(worker.number, message.report)
        return
      case 'ended':
        this.#account.takeReport(worker.number, message.report)
        this.#lost += message.lost
        return
      case 'view':
        void this.#answerView(worker, message.request, message.scope)
        return
      case 'watch-events':
        this.#stopWatching(worker)
        if (!message.isWatched) return
        this.#watching.set(
          worker.number,
          this.#events.watch((events) => worker.send({ type: 'events', events })),
        )
        return
      case 'events':
        this.#events.publish(message.events)
        return
      case 'charge': {
        const nowMs = performance.now()
        const verdicts = message.charges.map((charge) => this.#limits.count(charge, nowMs))
        worker.send({ type: 'charged', request: message.request, verdicts })
        return
      }
      case 'adopt': {
        const { subjects, usages } = message
        this.#limits.adopt({ subjects, cost: noCost }, { refusedBy: -1, usages })
        return
      }
      default:
        message satisfies never
    }
  }

  #stopWatching({ number }: WorkerProcess): void {
    this.#watching.get(number)?.()
    this.#watching.delete(number)
  }

  /** Has all workers send their events, or no more of them. */
  #tellEvents(isWatched: boolean): void {
    if (!isWatched) this.#events.forget()
    for (const worker of this.#processes.values()) worker.send({ type: 'tell-events', isWatched })
  }

  async #answerView(worker: WorkerProcess, request: number, scope: ViewScope): Promise<void> {
    try {
      worker.send({ type: 'view', request, view: await this.#views[scope].run() })
    } catch (error) {
      this.#logger.error({ cause: String(error) }, 'the workers could not be added up')
    }
  }

  #listening(worker: WorkerProcess, { url, adminUrl }: Listening): void {
    worker.isListening = true
    if (this.#watching.size > 0) worker.send({ type: 'tell-events', isWatched: true })
    if (this.#phase === 'running')
      this.#logger.info({ worker: worker.number, pid: worker.pid }, 'a worker takes requests again')
    if ([...this.#processes.values()].every(({ isListening }) => isListening))
      this.#onStart?.listening({ url, adminUrl })
  }

  /** The process of a worker is gone, because it was told to end or by itself. */
  #ended(worker: WorkerProcess, { code, signal }: ProcessEnd): void {
    const { number, pid } = worker
    this.#stopWatching(worker)
    // The worker itself is down.
    const workers = [...this.#processes.values()]
    worker.giveBack(workers.some(({ state }) => state === 'running' || state === 'silent'))
    const { streams, lost } = this.#account.retire(number)
    this.#lost += lost
    if (this.#phase === 'starting')
      this.#onStart?.failed(`Worker ${number} ended before it listened (${signal ?? `exit code ${code}`}).`)
    if (this.#phase !== 'running') {
      if (lost > 0)
        this.#logger.error(
          { worker: number, pid, code, signal, account: accountOf(streams), lost },
          'a worker ended before it had drained',
        )
      return
    }
    const livedMs = performance.now() - worker.startedAtMs
    const crashes = livedMs > stableAfterMs ? 0 : (this.#restarting.get(number)?.crashes ?? 0)
    const restartMs = this.#forkLater(number, crashes)
    this.#logger.error(
      { worker: number, pid, code, signal, account: accountOf(streams), lost, restartMs },
      'a worker ended by itself; what it held in memory is suspected lost, and it is started again',
    )
  }

  /** Starts a worker again. @returns in how many milliseconds. */
  #forkLater(number: number, crashes: number): number {
    const restartMs = Math.min(longestPauseMs, firstPauseMs * 2 ** crashes)
    const timer = setTimeout(() => {
      try {
        this.#fork(number)
        this.#restarts++
      } catch (error) {
        // The kernel makes no process, for want of memory, say.
        const cause = (error as Error).message
        this.#logger.error({ worker: number, cause }, 'a worker could not be started; it is tried again')
        this.#forkLater(number, crashes + 1)
      }
    }, restartMs)
    this.#restarting.set(number, { crashes: crashes + 1, timer })
    return restartMs
  }

  async #collectView(scope: ViewScope): Promise<GroupView> {
    const workers = [...this.#processes.values()]
    await Promise.all(workers.map(async (worker) => await worker.requestReport(scope)))
    const ownProcess = scope === 'all' ? await collectProcessMetrics() : null
    const sum = await this.#account.sumInTurns()
    if (sum === null) throw new Error('a worker asked before it had reported')
    const states = new Map(
      Array.from(this.#processes.values(), ({ number, state }): [number, WorkerState] => [number, state]),
    )
    const processes = ownProcess === null ? [] : this.#account.processes(ownProcess)
    const own = [...collectWorkerMetrics(states, this.#restarts), ...this.reloads.collect()]
    const families = mergeFamilies([sum.families, own, processes])
    return {
      metrics: { ...sum, families },
      readiness: groupReadiness({
        workers: states,
        readiness: this.#account.readiness,
        draining: this.#phase === 'ending',
      }),
      stuckWorkers: workers.filter(({ isStuck }) => isStuck).map(({ number }) => number),
      uptimeSeconds: Math.round(process.uptime()),
    }
  }
}

/** Where a gateway listens. */
export interface Listening {
  readonly url: string
  readonly adminUrl: string | null
}

interface StartListener {
  listening(where: Listening): void
  failed(message: string): void
}

const firstPauseMs = 100
const longestPauseMs = 10_000
/** After a life of this length a worker is started again with the shortest pause. */
const stableAfterMs = 60_000
/**
 * What a worker has on top of `shutdownTimeoutMs` and `spoolDrainTimeoutMs` before it is killed, even in mid-drain. `stop()` in app.ts has to end within
 * it: the last scrapes take up to a second, the last spans take up to another one (`lastSpansMs` in app.ts), and `leave()` in disk-calls.ts waits up to
 * 300 ms for the disk.
 */
const overtimeMs = 3_000
const abortWithinMs = 1_000
const noCost: Cost = { requests: 0, events: 0, bytes: 0 }
