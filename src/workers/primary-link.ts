import cluster from 'node:cluster'
import type { Certificates } from '../config/certificates.ts'
import type { Config } from '../config/config.ts'
import type { PreparedReload } from '../config/reload.ts'
import { GatewayError } from '../errors.ts'
import type { Charge, RemoteLimitStore, Subject, Usage, Verdict } from '../limits/limit-counts.ts'
import { type LiveEvent, LiveFeed, type LiveSource } from '../live-events.ts'
import { SingleFlight } from './single-flight.ts'
import type { FromWorker, GroupView, ToWorker, ViewScope, WorkerReport } from './messages.ts'

/** The worker's end of the channel to its primary. */
export class PrimaryLink implements RemoteLimitStore {
  /** The worker's number and its configuration, once the primary has sent them. */
  readonly started: Promise<{ worker: number; config: Config; ticketSecret: string }>
  /** Resolves when the worker is to drain: `told` at once, `delayed` once a delay is over, `orphaned` as the primary is gone. */
  readonly drain: Promise<'told' | 'delayed' | 'orphaned'>
  /** Resolves at the end of the delay: to false if a second signal or the end of the primary cut it short. */
  readonly delayOver: Promise<boolean>
  /** Resolves when the worker is to take no more connections: to whether no other worker takes any. */
  readonly portTurn: Promise<boolean>
  /** Resolves when no worker takes connections, or when the primary is gone, and with it the port. */
  readonly portClosed: Promise<void>
  /** Resolves when the worker is to end at once. */
  readonly abort: Promise<void>
  /** Resolves when the primary is gone. */
  readonly orphaned: Promise<void>
  /** The events of all workers. */
  readonly events: LiveSource
  readonly #allEvents: LiveFeed
  #ownEvents: LiveSource | null = null
  /** Ends to send the events of this worker; null: the primary does not want them. */
  #stopTelling: (() => void) | null = null
  #isToTell = false
  readonly #report: (scope: ViewScope) => Promise<WorkerReport>
  /** This worker drains, or ends at once. */
  #isLeaving = false
  readonly #views = new Map<number, Waiter<GroupView>>()
  readonly #sharedViews: Readonly<Record<ViewScope, SingleFlight<GroupView>>> = {
    account: new SingleFlight(async () => await this.#requestView('account')),
    all: new SingleFlight(async () => await this.#requestView('all')),
  }
  readonly #charged = new Map<number, { waiting: readonly Uncharged[]; timer: NodeJS.Timeout }>()
  #uncharged: Uncharged[] = []
  /** What Redis told last in this turn, by the id of the subject. */
  readonly #adopted = new Map<string, { subject: Subject; usage: Usage }>()
  /** Charges without an answer in time. While there are some, no request waits for one more. */
  readonly #late = new Set<number>()
  #lastRequest = 0
  #on: Listeners | null = null
  #onCertificates: ((certificates: Certificates) => void) | null = null
  #certificates: Certificates | null = null
  /** Makes the gateway ready for another configuration. Messages of reloads wait until there is a gateway. */
  readonly #prepare: Promise<(config: Config) => Promise<PreparedReload>>
  /** Messages of reloads are taken one after the other. */
  #reloading: Promise<void> = Promise.resolve()
  #prepared: { readonly reload: number; readonly prepared: PreparedReload } | null = null

  /** @param report makes the report that the primary asks for. It is not called before the worker has sent a report by itself. */
  constructor(report: (scope: ViewScope) => Promise<WorkerReport>) {
    this.#report = report
    this.events = this.#allEvents = new LiveFeed((isWatched) => {
      // The primary sends what it has when somebody watches again.
      if (!isWatched) this.#allEvents.forget()
      void this.send({ type: 'watch-events', isWatched })
    })
    const on: Partial<Listeners> = {}
    this.started = new Promise((resolve) => (on.start = resolve))
    this.drain = new Promise((resolve) => (on.drain = resolve))
    this.delayOver = new Promise((resolve) => (on.delayOver = resolve))
    this.portTurn = new Promise((resolve) => (on.portTurn = resolve))
    this.portClosed = new Promise((resolve) => (on.portClosed = resolve))
    this.abort = new Promise((resolve) => (on.abort = resolve))
    this.orphaned = new Promise((resolve) => (on.orphaned = resolve))
    this.#prepare = new Promise((resolve) => (on.reload = resolve))
    this.#on = on as Listeners
    process.on('message', (message: ToWorker) => this.#receive(message))
    cluster.worker?.on('disconnect', () => this.#orphaned())
    void this.send({ type: 'hello' })
  }

  /** Calls `use` with the certificates that the primary sends, and at once if some came before. */
  onCertificates(use: (certificates: Certificates) => void): void {
    this.#onCertificates = use
    if (this.#certificates !== null) use(this.#certificates)
  }

  /** Sends these events to the primary while it wants them. */
  tellEvents(events: LiveSource): void {
    this.#ownEvents = events
    this.#tellEvents()
  }

  #tellEvents(): void {
    if (this.#isToTell && this.#stopTelling === null) {
      const send = (events: readonly LiveEvent[]): void => {
        if (events.length > 0) void this.send({ type: 'events', events })
      }
      this.#stopTelling = this.#ownEvents?.watch(send) ?? null
    } else if (!this.#isToTell) {
      this.#stopTelling?.()
      this.#stopTelling = null
    }
  }

  /** Has `prepare` get ready for the configurations that the primary sends, and for those that came before. */
  onReload(prepare: (config: Config) => Promise<PreparedReload>): void {
    this.#on?.reload(prepare)
  }

  /** @throws Error if a configuration that all workers take could not be prepared. Then this worker ends, and is started again with it. */
  async #reload(message: ReloadMessage): Promise<void> {
    const prepare = await this.#prepare
    const { reload } = message
    if (message.type === 'decide') {
      const known = this.#prepared?.reload === reload ? this.#prepared.prepared : null
      this.#prepared = null
      if (!message.commit) known?.discard()
      else if (known !== null) known.commit()
      // A worker that drains gets ready for no other configuration.
      else if (!this.#isLeaving)
        throw new Error('the configuration that all workers take could not be prepared')
      return
    }
    let failure: string | null = null
    this.#prepared?.prepared.discard()
    this.#prepared = null
    try {
      this.#prepared = { reload, prepared: await prepare(message.config) }
    } catch (error) {
      failure = (error as Error).message
    }
    void this.send({ type: 'prepared', reload, failure })
  }

  /** Sends a message. Resolves when the kernel has it, or when the primary is gone. */
  async send(message: FromWorker): Promise<void> {
    await new Promise<void>((resolve) => {
      if (process.connected) process.send!(message, undefined, {}, () => resolve())
      else resolve()
    })
  }

  /**
   * All workers as one gateway.
   * @throws GatewayError if the primary is gone or does not answer. The numbers of this worker alone would pass for the sum.
   */
  async view(scope: ViewScope): Promise<GroupView> {
    return await this.#sharedViews[scope].run()
  }

  async #requestView(scope: ViewScope): Promise<GroupView> {
    if (!process.connected) throw primaryIsGone()
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
   * Charges a request to the limits of all workers. All requests of one turn of the event loop go in one message. If the primary is gone or
   * does not answer in time, the worker counts by itself until the primary has answered.
   */
  charge({ subjects, cost }: Charge, done: (verdict: Verdict | null) => void): void {
    if (!process.connected || this.#late.size > 0) return done(null)
    const charge = { subjects: subjects.map(({ id, limit }) => ({ id, limit })), cost }
    this.#uncharged.push({ charge, done })
    if (this.#uncharged.length === 1) setImmediate(() => this.#sendCharges())
  }

  /** Tells the primary what Redis told, at most once a turn of the event loop, so that it goes on from that while Redis is away. */
  adopt({ subjects }: Charge, { usages }: Verdict): void {
    if (this.#adopted.size === 0) setImmediate(() => this.#sendAdopted())
    for (const [nth, { id, limit }] of subjects.entries())
      this.#adopted.set(id, { subject: { id, limit }, usage: usages[nth]! })
  }

  #sendAdopted(): void {
    const adopted = [...this.#adopted.values()]
    this.#adopted.clear()
    const [subjects, usages] = [adopted.map(({ subject }) => subject), adopted.map(({ usage }) => usage)]
    void this.send({ type: 'adopt', subjects, usages })
  }

  #sendCharges(): void {
    const waiting = this.#uncharged
    this.#uncharged = []
    const request = ++this.#lastRequest
    const timer = setTimeout(() => {
      this.#late.add(request)
      this.#answerCharges(request, [])
    }, chargedWithinMs)
    this.#charged.set(request, { waiting, timer })
    void this.send({ type: 'charge', request, charges: waiting.map(({ charge }) => charge) })
  }

  #answerCharges(request: number, verdicts: readonly Verdict[]): void {
    const asked = this.#charged.get(request)
    this.#charged.delete(request)
    clearTimeout(asked?.timer)
    for (const [index, { done }] of asked?.waiting.entries() ?? []) done(verdicts[index] ?? null)
  }

  #receive(message: ToWorker): void {
    switch (message.type) {
      case 'start':
        this.#on?.start(message)
        return
      case 'certificates':
        this.#certificates = message.certificates
        this.#onCertificates?.(message.certificates)
        return
      case 'prepare':
      case 'decide':
        this.#reloading = this.#reloading.then(async () => await this.#reload(message))
        return
      case 'drain':
        this.#isLeaving = true
        this.#on?.drain(message.delayed ? 'delayed' : 'told')
        return
      case 'delay-over':
        this.#on?.delayOver(message.whole)
        return
      case 'leave-port':
        this.#on?.portTurn(message.isLast)
        return
      case 'port-closed':
        this.#on?.portClosed()
        return
      case 'abort':
        this.#isLeaving = true
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
      case 'tell-events':
        this.#isToTell = message.isWatched
        this.#tellEvents()
        return
      case 'events':
        this.#allEvents.publish(message.events)
        return
      case 'charged':
        this.#late.delete(message.request)
        this.#answerCharges(message.request, message.verdicts)
        return
      default:
        message satisfies never
    }
  }

  #orphaned(): void {
    this.#isLeaving = true
    // Without this flag node:cluster ends the worker at once when its primary is gone.
    if (cluster.worker !== undefined) cluster.worker.exitedAfterDisconnect = true
    for (const { reject, timer } of this.#views.values()) {
      clearTimeout(timer)
      reject(primaryIsGone())
    }
    this.#views.clear()
    for (const request of this.#charged.keys()) this.#answerCharges(request, [])
    this.#on?.orphaned()
    this.#on?.drain('orphaned')
    this.#on?.delayOver(false)
    this.#on?.portTurn(true)
    this.#on?.portClosed()
  }
}

type ReloadMessage = Extract<ToWorker, { type: 'prepare' | 'decide' }>

interface Listeners {
  start: (start: { worker: number; config: Config; ticketSecret: string }) => void
  drain: (why: 'told' | 'delayed' | 'orphaned') => void
  delayOver: (whole: boolean) => void
  portTurn: (isLast: boolean) => void
  portClosed: () => void
  abort: () => void
  orphaned: () => void
  reload: (prepare: (config: Config) => Promise<PreparedReload>) => void
}

interface Uncharged {
  readonly charge: Charge
  readonly done: (verdict: Verdict | null) => void
}

interface Waiter<T> {
  readonly resolve: (value: T) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

function primaryIsGone(): GatewayError {
  const detail = 'the primary process is gone, and this worker drains'
  return new GatewayError('shutting_down', detail, { retryAfterSeconds: 5 })
}

/** A busy primary answers in some milliseconds. A request that waits longer than this would show in the latency of its client. */
const chargedWithinMs = 100
/** Longer than the primary waits for a report: `answerWithinMs` in worker-process.ts. */
const answerWithinMs = 3_000
