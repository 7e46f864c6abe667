import cluster from 'node:cluster'
import type { Config } from '../config/config.ts'
import { GatewayError } from '../errors.ts'
import type { RequestCount } from '../routes/policy/rate-limit.ts'
import { Lookout } from './lookout.ts'
import type { FromWorker, GroupView, ToWorker, ViewScope, WorkerReport } from './messages.ts'

/** A worker's end of the channel to its primary. */
export class PrimaryLink {
  /** What this worker is. */
  readonly started: Promise<{ worker: number; config: Config }>
  /** Why to drain: it was told to, at once or when a delay is over, or the primary is gone. */
  readonly drain: Promise<'told' | 'delayed' | 'orphaned'>
  /** Whether the delay went by, or was cut short: by a signal, or by the end of the primary. */
  readonly delayOver: Promise<boolean>
  readonly abort: Promise<void>
  readonly #report: (scope: ViewScope) => Promise<WorkerReport>
  readonly #views = new Map<number, Waiter<GroupView>>()
  /** A view of many streams takes milliseconds to read, so scrapes at the same time share one. */
  readonly #lookouts: Readonly<Record<ViewScope, Lookout<GroupView>>> = {
    account: new Lookout(async () => await this.#view('account')),
    all: new Lookout(async () => await this.#view('all')),
  }
  readonly #counts = new Map<number, { waiting: readonly Uncounted[]; timer: NodeJS.Timeout }>()
  #uncounted: Uncounted[] = []
  #lastRequest = 0
  #on: Listeners | null = null

  /** @param report is asked for reports, once the worker has sent one by itself. */
  constructor(report: (scope: ViewScope) => Promise<WorkerReport>) {
    this.#report = report
    const on: Partial<Listeners> = {}
    this.started = new Promise((resolve) => (on.start = resolve))
    this.drain = new Promise((resolve) => (on.drain = resolve))
    this.delayOver = new Promise((resolve) => (on.delayOver = resolve))
    this.abort = new Promise((resolve) => (on.abort = resolve))
    this.#on = on as Listeners
    process.on('message', (message: ToWorker) => this.#take(message))
    cluster.worker?.on('disconnect', () => this.#orphaned())
    void this.send({ type: 'hello' })
  }

  /** Sends a message; resolves when the kernel has it, or nobody is there to read it. */
  async send(message: FromWorker): Promise<void> {
    await new Promise<void>((resolve) => {
      if (process.connected) process.send!(message, undefined, {}, () => resolve())
      else resolve()
    })
  }

  /**
   * All workers as one gateway.
   * @throws GatewayError if the primary is gone or does not answer: this worker's own numbers would be taken for the sum.
   */
  async view(scope: ViewScope): Promise<GroupView> {
    return await this.#lookouts[scope].look()
  }

  async #view(scope: ViewScope): Promise<GroupView> {
    if (!process.connected) throw gone()
    const request = ++this.#lastRequest
    return await new Promise<GroupView>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#views.delete(request)
        reject(new GatewayError('internal', `the primary process did not answer within ${answerWithinMs} ms`))
      }, answerWithinMs)
      this.#views.set(request, { resolve, reject, timer })
      void this.send({ type: 'view', request, scope })
    })
  }

  /**
   * Counts a request of an address for all workers. What comes in within one turn of the event loop goes in one message.
   * A limit protects the gateway and is nothing that a client was promised: if the primary is gone, or does not answer, the
   * request goes on.
   */
  async countRequest(address: string): Promise<RequestCount> {
    if (!process.connected) return uncounted
    return await new Promise<RequestCount>((resolve) => {
      this.#uncounted.push({ address, resolve })
      if (this.#uncounted.length === 1) setImmediate(() => this.#count())
    })
  }

  #count(): void {
    const waiting = this.#uncounted
    this.#uncounted = []
    const request = ++this.#lastRequest
    const timer = setTimeout(() => this.#counted(request, []), answerWithinMs)
    this.#counts.set(request, { waiting, timer })
    void this.send({ type: 'count', request, addresses: waiting.map(({ address }) => address) })
  }

  #counted(request: number, counts: readonly RequestCount[]): void {
    const asked = this.#counts.get(request)
    this.#counts.delete(request)
    clearTimeout(asked?.timer)
    for (const [index, { resolve }] of asked?.waiting.entries() ?? []) resolve(counts[index] ?? uncounted)
  }

  #take(message: ToWorker): void {
    switch (message.type) {
      case 'start':
        this.#on?.start(message)
        return
      case 'drain':
        this.#on?.drain(message.delayed ? 'delayed' : 'told')
        return
      case 'delay-over':
        this.#on?.delayOver(message.whole)
        return
      case 'abort':
        this.#on?.abort()
        return
      case 'report':
        void this.#report(message.scope).then(
          async (report) => await this.send({ type: 'report', request: message.request, report }),
        )
        return
      case 'view': {
        const waiter = this.#views.get(message.request)
        this.#views.delete(message.request)
        clearTimeout(waiter?.timer)
        waiter?.resolve(message.view)
        return
      }
      case 'counted':
        this.#counted(message.request, message.counts)
    }
  }

  #orphaned(): void {
    // node:cluster ends a worker on the spot whose primary is gone, unless the worker seems to have asked for it.
    if (cluster.worker !== undefined) cluster.worker.exitedAfterDisconnect = true
    for (const { reject, timer } of this.#views.values()) {
      clearTimeout(timer)
      reject(gone())
    }
    this.#views.clear()
    for (const request of this.#counts.keys()) this.#counted(request, [])
    this.#on?.drain('orphaned')
    this.#on?.delayOver(false)
  }
}

interface Listeners {
  start: (start: { worker: number; config: Config }) => void
  drain: (why: 'told' | 'delayed' | 'orphaned') => void
  delayOver: (whole: boolean) => void
  abort: () => void
}

interface Uncounted {
  readonly address: string
  readonly resolve: (count: RequestCount) => void
}

interface Waiter<T> {
  readonly resolve: (value: T) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

function gone(): GatewayError {
  return new GatewayError('shutting_down', 'the primary process is gone, and this worker drains')
}

const uncounted: RequestCount = { current: 0, ttl: 0 }
/** Longer than a primary waits for its workers. */
const answerWithinMs = 3_000
