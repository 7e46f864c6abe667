import cluster, { type Worker } from 'node:cluster'
import type { Config } from '../config/config.ts'
import type { WorkerState } from './group-readiness.ts'
import type { FromWorker, ToWorker, ViewScope } from './messages.ts'

/** How a worker's process ended. */
export interface MemberEnd {
  readonly code: number | null
  readonly signal: string | null
}

/** One worker's process, as its primary sees it. A worker that was started again is another member of the same number. */
export class Member {
  readonly number: number
  readonly startedAtMs = performance.now()
  /** Resolves when the process is gone and all that it said was heard. */
  readonly ended: Promise<MemberEnd>
  isListening = false
  readonly #process: Worker
  readonly #answers = new Map<number, () => void>()
  #lastRequest = 0
  #heardAtMs = performance.now()
  #isSilent = false
  #isConnected = true

  constructor(
    { number, config }: { number: number; config: Config },
    onMessage: (message: Exclude<FromWorker, { type: 'hello' }>) => void,
  ) {
    this.number = number
    this.#process = cluster.fork()
    // A message that can't be sent any more concerns a worker that is ending, which is noticed by itself.
    this.#process.on('error', () => {})
    this.#process.on('message', (message: FromWorker) => {
      this.#heardAtMs = performance.now()
      this.#isSilent = false
      // What is sent before the worker has said something, nobody reads.
      if (message.type === 'hello') this.send({ type: 'start', worker: number, config })
      else onMessage(message)
      if (message.type === 'report' && message.request !== null) this.#answers.get(message.request)?.()
    })
    this.ended = this.#whenEnded()
  }

  get pid(): number | undefined {
    return this.#process.process.pid
  }

  get state(): WorkerState {
    if (!this.#isConnected) return 'down'
    if (!this.isListening) return 'starting'
    return this.#isSilent ? 'silent' : 'running'
  }

  /** It has said nothing for so long that it can't be merely busy. */
  get isStuck(): boolean {
    return this.isListening && this.#isConnected && performance.now() - this.#heardAtMs > stuckAfterMs
  }

  send(message: ToWorker): void {
    if (this.#process.isConnected()) this.#process.send(message, () => {})
  }

  kill(): void {
    this.#process.process.kill('SIGKILL')
  }

  /** Asks for a report and returns when it was heard, or in a second: a worker that is silent is not waited for again. */
  async report(scope: ViewScope): Promise<void> {
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

  /**
   * `exit` can be told before the last that the process said, and `disconnect` is never told of a worker that was handed a
   * connection and left without a word on it. `close` comes once the process is gone and its channel read to the end.
   */
  async #whenEnded(): Promise<MemberEnd> {
    const end = await new Promise<MemberEnd>((resolve) =>
      this.#process.process.once('close', (code: number | null, signal: string | null) =>
        resolve({ code, signal }),
      ),
    )
    this.#isConnected = false
    for (const answer of this.#answers.values()) answer()
    return end
  }
}

const answerWithinMs = 1_000
const stuckAfterMs = 30_000
