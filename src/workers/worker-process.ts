import { setTimeout as pause } from 'node:timers/promises'
import cluster, { type Worker } from 'node:cluster'
import { type Certificates, withCertificates } from '../config/certificates.ts'
import type { Config, StreamConfig } from '../config/config.ts'
import type { WorkerState } from './group-view.ts'
import { HandOver } from './hand-over.ts'
import type { FromWorker, ToWorker, ViewScope } from './messages.ts'

/** The messages of a worker that are for the group. */
export type OwnMessage = Exclude<FromWorker, { type: 'hello' | 'port-left' | 'prepared' }>

/** How the process of a worker ended. */
export interface ProcessEnd {
  readonly code: number | null
  readonly signal: string | null
}

/** The process of one worker, as its primary sees it. A worker that is started again gets a new process and keeps its number. */
export class WorkerProcess {
  readonly number: number
  readonly startedAtMs = performance.now()
  /** Resolves when the process is gone and all of its messages were read. */
  readonly ended: Promise<ProcessEnd>
  isListening = false
  readonly #process: Worker
  readonly #handOver: HandOver
  /** What the worker starts with. */
  #config: Config
  #hasConfig = false
  readonly #answers = new Map<number, () => void>()
  #onPortLeft: (() => void) | null = null
  #onPrepared: ((answer: { readonly reload: number; readonly failure: string | null }) => void) | null = null
  /** The last reload that the worker was asked to get ready for. */
  #preparing = 0
  #lastRequest = 0
  #lastMessageAtMs = performance.now()
  #isSilent = false
  #isConnected = true

  /**
   * @param options.gone streams that are in use no more, of which the worker may have records on disk. The worker starts with them, and with `config` as its
   * first reload, of the number `reload`. So they leave as in a worker that has had them before.
   */
  constructor(
    options: {
      number: number
      config: Config
      ticketSecret: string
      gone: () => readonly StreamConfig[]
      reload: number
    },
    onMessage: (message: OwnMessage) => void,
  ) {
    const { number, config, ticketSecret, gone, reload } = options
    this.number = number
    this.#config = config
    this.#process = cluster.fork()
    this.#handOver = new HandOver(this.#process)
    // A message cannot be sent to a worker that is ending. `ended` tells of its end.
    this.#process.on('error', () => {})
    this.#process.on('message', (message: FromWorker) => {
      this.#lastMessageAtMs = performance.now()
      this.#isSilent = false
      // A worker reads no message before it has sent `hello`.
      if (message.type === 'hello') {
        this.#hasConfig = true
        this.#start(ticketSecret, gone(), reload)
      } else if (message.type === 'port-left') this.#onPortLeft?.()
      else if (message.type === 'prepared') this.#onPrepared?.(message)
      else onMessage(message)
      if (message.type === 'report' && message.request !== null) this.#answers.get(message.request)?.()
    })
    this.ended = this.#whenEnded()
  }

  #start(ticketSecret: string, gone: readonly StreamConfig[], reload: number): void {
    const config = this.#config
    const streams = [...config.streams, ...gone]
    this.send({ type: 'start', worker: this.number, config: { ...config, streams }, ticketSecret })
    if (gone.length > 0) this.decide(reload, config, true)
  }

  get pid(): number | undefined {
    return this.#process.process.pid
  }

  get state(): WorkerState {
    if (!this.#isConnected) return 'down'
    if (!this.isListening) return 'starting'
    return this.#isSilent ? 'silent' : 'running'
  }

  /** Whether the worker has sent nothing for so long that it cannot be merely busy. It sends a report every second. */
  get isStuck(): boolean {
    return this.isListening && this.#isConnected && performance.now() - this.#lastMessageAtMs > stuckAfterMs
  }

  send(message: ToWorker): void {
    if (this.#process.isConnected()) this.#process.send(message, () => {})
  }

  /** Gives the worker other certificates, at its start if it has not started. */
  renew(certificates: Certificates): void {
    if (this.#hasConfig) this.send({ type: 'certificates', certificates })
    else this.#config = withCertificates(this.#config, certificates)
  }

  /**
   * Has the worker get ready for another configuration. A worker that does not listen yet is not asked, since it can take long to start:
   * it may wait for its folder, or read a spool. {@link decide} tells it.
   * @returns why it cannot; null: it is ready, or it was not asked.
   */
  async prepare(reload: number, config: Config): Promise<string | null> {
    if (!this.isListening || !this.#isConnected) return null
    this.#preparing = reload
    const answered = new Promise<string | null>((resolve) => {
      this.#onPrepared = (answer) => {
        if (answer.reload === reload) resolve(answer.failure)
      }
    })
    this.send({ type: 'prepare', reload, config })
    const ended = this.ended.then(() => null)
    const late = pause(
      preparedWithinMs,
      `worker ${this.number} did not answer within ${preparedWithinMs / 1_000} s. SIGHUP tries again`,
      { ref: false },
    )
    return await Promise.race([answered, ended, late])
  }

  /**
   * Puts the configuration of {@link prepare} in force, or has it forgotten. A worker that was not asked starts with it, or is asked and told
   * in one go, and takes both when it has a gateway. If it then cannot get ready, it ends, and is started again with that configuration.
   */
  decide(reload: number, config: Config, commit: boolean): void {
    if (!this.#hasConfig) {
      // Whether this worker creates topics was decided at its fork: a topic that is gone since the start stays away.
      const { topics } = this.#config.kafka
      if (commit) this.#config = { ...config, kafka: { ...config.kafka, topics } }
      return
    }
    if (this.#preparing !== reload) {
      if (!commit) return
      this.send({ type: 'prepare', reload, config })
    }
    this.send({ type: 'decide', reload, commit })
  }

  /** Of a worker that has {@link ended}: see {@link HandOver.giveBack}. */
  giveBack(toOthers: boolean): void {
    this.#handOver.giveBack(toOthers)
  }

  kill(): void {
    this.#process.process.kill('SIGKILL')
  }

  /**
   * Asks for a report, and returns when `onMessage` had it, or after a second. A worker that does not answer in time is
   * `silent`, and is not asked again before it has sent a message.
   */
  async requestReport(scope: ViewScope): Promise<void> {
    if (this.state !== 'running') return
    const request = ++this.#lastRequest
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#isSilent = true
        this.#answers.get(request)?.()
      }, answerWithinMs)
      this.#answers.set(request, () => {
        clearTimeout(timer)
        this.#answers.delete(request)
        resolve()
      })
      this.send({ type: 'report', request, scope })
    })
  }

  /** Tells the worker to take no more connections. Resolves when the worker takes none, or is gone. */
  async leavePort(isLast: boolean): Promise<void> {
    const left = new Promise<void>((resolve) => (this.#onPortLeft = resolve))
    this.send({ type: 'leave-port', isLast })
    await Promise.race([left, this.ended])
  }

  /**
   * `close` comes when the process is gone and its channel was read to the end. Node can emit `exit` before the last message,
   * and emits no `disconnect` for a worker that was handed a connection and ended before it answered.
   */
  async #whenEnded(): Promise<ProcessEnd> {
    const end = await new Promise<ProcessEnd>((resolve) =>
      this.#process.process.once('close', (code: number | null, signal: string | null) =>
        resolve({ code, signal }),
      ),
    )
    this.#isConnected = false
    for (const answer of this.#answers.values()) answer()
    return end
  }
}

/** A worker waits longer for its primary: `answerWithinMs` in primary-link.ts. */
const answerWithinMs = 1_000
const stuckAfterMs = 30_000
/** Longest wait until a worker has compiled the JSON Schemas of a new configuration. */
const preparedWithinMs = 10_000
