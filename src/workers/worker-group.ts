import cluster from 'node:cluster'
import { accountOf } from '../kafka/producer/account-log.ts'
import type { Config } from '../config/config.ts'
import type { Logger } from '../logger.ts'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import { mergeFamilies } from '../metrics/family.ts'
import { collectProcessMetrics } from '../metrics/process-metrics.ts'
import { GroupAccount } from './group-account.ts'
import { collectWorkerMetrics, groupReadiness, type WorkerState } from './group-readiness.ts'
import { Lookout } from './lookout.ts'
import { Member, type MemberEnd } from './member.ts'
import type { FromWorker, GroupView, ToWorker, ViewScope } from './messages.ts'
import { RequestCounts } from './request-counts.ts'
import { shareOf } from './worker-share.ts'

/**
 * The workers of a gateway: started together, added up, started again when they crash, and ended together. Lives in the
 * primary, which does nothing else.
 */
export class WorkerGroup {
  readonly #config: Config
  readonly #logger: Logger
  readonly #account = new GroupAccount()
  readonly #members = new Map<number, Member>()
  readonly #requests: RequestCounts | null
  readonly #views: Readonly<Record<ViewScope, Lookout<GroupView>>>
  /** Pauses before a start again, by worker. */
  readonly #backOff = new Map<number, { crashes: number; timer: NodeJS.Timeout }>()
  #onStart: StartListener | null = null
  #restarts = 0
  #lost = 0
  #phase: 'starting' | 'running' | 'ending' = 'starting'

  constructor(config: Config, logger: Logger) {
    this.#config = config
    this.#logger = logger
    this.#requests = config.http.rateLimit === null ? null : new RequestCounts(config.http.rateLimit.windowMs)
    this.#views = {
      account: new Lookout(async () => await this.#look('account')),
      all: new Lookout(async () => await this.#look('all')),
    }
    cluster.setupPrimary({ serialization: 'advanced' })
  }

  /**
   * Starts all workers, and returns when each listens.
   * @throws Error with a message for the operator, if one cannot; the others are to be ended with {@link abort}.
   */
  async start(): Promise<Listening> {
    const started = new Promise<Listening>((resolve, reject) => {
      this.#onStart = { listening: resolve, failed: (message) => reject(new Error(message)) }
    })
    for (let worker = 1; worker <= this.#config.workers; worker++) this.#fork(worker)
    const listening = await started
    this.#phase = 'running'
    return listening
  }

  /** Every stream's account over all workers, as of their last reports. */
  get stats(): readonly ProducerStats[] {
    return this.#account.sum()?.streams ?? []
  }

  /** The processes that serve now. */
  get workers(): { worker: number; pid: number | undefined }[] {
    return Array.from(this.#members.values(), ({ number, pid }) => ({ worker: number, pid }))
  }

  /**
   * Lets every worker answer what is under way and drain, side by side, each within `shutdownTimeoutMs`. One that is not
   * gone a while after that is killed.
   * @param delay while it lasts, they take requests as before and nobody is ready; null: there is none. It resolves to whether
   * it was not cut short.
   * @returns how many accepted records this cost: dropped, suspected lost, or gone with a worker that was killed.
   */
  async drain(delay: Promise<boolean> | null): Promise<{ lost: number }> {
    this.#phase = 'ending'
    this.#lost = 0
    for (const { timer } of this.#backOff.values()) clearTimeout(timer)
    const tell = (message: ToWorker): void => {
      for (const member of this.#members.values()) member.send(message)
    }
    tell({ type: 'drain', delayed: delay !== null })
    if (delay !== null) tell({ type: 'delay-over', whole: await delay })
    await this.#allEnded(this.#config.shutdownTimeoutMs + overtimeMs)
    return { lost: this.#lost }
  }

  /** Ends all workers at once; returns when they are gone. The accounts say what that cost. */
  async abort(): Promise<void> {
    this.#phase = 'ending'
    for (const { timer } of this.#backOff.values()) clearTimeout(timer)
    for (const member of this.#members.values()) member.send({ type: 'abort' })
    await this.#allEnded(abortWithinMs)
  }

  async #allEnded(limitMs: number): Promise<void> {
    const members = [...this.#members.values()]
    const limit = setTimeout(() => {
      for (const member of members) member.kill()
    }, limitMs)
    await Promise.all(members.map(async ({ ended }) => await ended))
    clearTimeout(limit)
  }

  #fork(worker: number): void {
    const createTopics = !this.stats.some(({ topicKnown }) => topicKnown)
    const config = shareOf(this.#config, { createTopics })
    const member = new Member({ number: worker, config }, (message) => this.#take(member, message))
    this.#members.set(worker, member)
    void member.ended.then((end) => this.#ended(member, end))
  }

  #take(member: Member, message: Exclude<FromWorker, { type: 'hello' }>): void {
    switch (message.type) {
      case 'listening':
        this.#listening(member, message)
        return
      case 'failed':
        if (this.#phase === 'starting') this.#onStart?.failed(message.message)
        else this.#logger.error({ worker: member.number, cause: message.message }, 'a worker could not start')
        return
      case 'report':
        this.#account.heard(member.number, message.report)
        return
      case 'ended':
        this.#account.heard(member.number, message.report)
        this.#lost += message.lost
        return
      case 'view':
        void this.#answerView(member, message.request, message.scope)
        return
      case 'count': {
        const nowMs = performance.now()
        const counts = message.addresses.map(
          (address) => this.#requests?.count(address, nowMs) ?? { current: 0, ttl: 0 },
        )
        member.send({ type: 'counted', request: message.request, counts })
      }
    }
  }

  async #answerView(member: Member, request: number, scope: ViewScope): Promise<void> {
    try {
      member.send({ type: 'view', request, view: await this.#views[scope].look() })
    } catch (error) {
      this.#logger.error({ cause: String(error) }, 'the workers could not be added up')
    }
  }

  #listening(member: Member, { url, adminUrl }: Listening): void {
    member.isListening = true
    if (this.#phase === 'running')
      this.#logger.info({ worker: member.number, pid: member.pid }, 'a worker takes requests again')
    if ([...this.#members.values()].every(({ isListening }) => isListening))
      this.#onStart?.listening({ url, adminUrl })
  }

  /** A worker's process is gone: as it was told to, or by itself. */
  #ended(member: Member, { code, signal }: MemberEnd): void {
    const { number: worker, pid } = member
    const { streams, lost } = this.#account.retire(worker)
    this.#lost += lost
    if (this.#phase === 'starting')
      this.#onStart?.failed(`Worker ${worker} ended before it listened (${signal ?? `exit code ${code}`}).`)
    if (this.#phase !== 'running') {
      if (lost > 0)
        this.#logger.error(
          { worker, pid, code, signal, account: accountOf(streams), lost },
          'a worker ended before it had drained',
        )
      return
    }
    const livedMs = performance.now() - member.startedAtMs
    const crashes = livedMs > stableAfterMs ? 0 : (this.#backOff.get(worker)?.crashes ?? 0)
    const restartMs = Math.min(longestPauseMs, firstPauseMs * 2 ** crashes)
    const timer = setTimeout(() => {
      this.#restarts++
      this.#fork(worker)
    }, restartMs)
    this.#backOff.set(worker, { crashes: crashes + 1, timer })
    this.#logger.error(
      { worker, pid, code, signal, account: accountOf(streams), lost, restartMs },
      'a worker ended by itself; what it held is suspected lost, and it is started again',
    )
  }

  async #look(scope: ViewScope): Promise<GroupView> {
    const members = [...this.#members.values()]
    await Promise.all(members.map(async (member) => await member.report(scope)))
    const own = scope === 'all' ? await collectProcessMetrics() : null
    const sum = await this.#account.sumInTurns()
    if (sum === null) throw new Error('a worker asked before it had reported')
    const workers = new Map(
      Array.from(this.#members.values(), ({ number, state }): [number, WorkerState] => [number, state]),
    )
    const processes = own === null ? [] : this.#account.processes(own)
    const families = mergeFamilies([sum.families, collectWorkerMetrics(workers, this.#restarts), processes])
    return {
      metrics: { ...sum, families },
      readiness: groupReadiness({
        workers,
        readiness: this.#account.readiness,
        draining: this.#phase === 'ending',
      }),
      stuckWorkers: members.filter(({ isStuck }) => isStuck).map(({ number }) => number),
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
/** A worker that lived for so long begins with the shortest pause again. */
const stableAfterMs = 60_000
/** On top of `shutdownTimeoutMs`: a worker has a second for its last scrapes, and then to leave. */
const overtimeMs = 3_000
const abortWithinMs = 1_000
