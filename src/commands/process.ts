import { setTimeout as pause } from 'node:timers/promises'
import { type Logger, pino } from 'pino'
import type { Config } from '../config/config.ts'
import { formatOptions } from './log-format.ts'

/**
 * The log of a process: JSON lines on stdout, or on stderr where stdout has other uses. A line is written at once: a line in a
 * buffer would be lost with the process, and the last line matters most.
 * @param worker the number of the worker, where there are several. It stands in every line.
 */
export function createLogger(
  { logLevel, logFormat }: Pick<Config, 'logLevel' | 'logFormat'>,
  worker: number | null = null,
  output: 'stdout' | 'stderr' = 'stdout',
): Logger {
  return pino(
    { level: logLevel, ...formatOptions(logFormat, worker) },
    pino.destination({ dest: output === 'stdout' ? 1 : 2, sync: true }),
  )
}

/**
 * The SIGTERMs and SIGINTs that come from now on, in order. None is lost: one listener takes them all, since without a listener
 * Node ends the process at once.
 */
export class StopSignals {
  readonly #pending: NodeJS.Signals[] = []
  readonly #waiting: ((signal: NodeJS.Signals) => void)[] = []

  constructor() {
    const onSignal = (signal: NodeJS.Signals): void => {
      const next = this.#waiting.shift()
      if (next === undefined) this.#pending.push(signal)
      else next(signal)
    }
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  }

  /** The next signal. Each signal is given to one caller. */
  async next(): Promise<NodeJS.Signals> {
    const pending = this.#pending.shift()
    return pending ?? (await new Promise((resolve) => this.#waiting.push(resolve)))
  }

  /**
   * Waits for `delayMs`, or until the next signal comes. That signal is then given to no other caller.
   * @returns whether the wait ended without a signal.
   */
  async pauseUnlessNext(delayMs: number): Promise<boolean> {
    if (this.#pending.shift() !== undefined) return false
    const over = new AbortController()
    let take = (): void => {}
    const signalled = new Promise<boolean>((resolve) => {
      take = () => resolve(false)
      this.#waiting.unshift(take)
    })
    const waited = pause(delayMs, true, { signal: over.signal }).catch(() => false)
    const isOver = await Promise.race([waited, signalled])
    over.abort()
    if (isOver) this.#waiting.splice(this.#waiting.indexOf(take), 1)
    return isOver
  }
}

/**
 * For how long requests are taken after a signal, in milliseconds: `DRAIN_DELAY_MS`, where it is set. Otherwise 5 s after
 * SIGTERM: service managers and orchestrators send it while load balancers still send requests. And 0 after SIGINT, Ctrl-C.
 */
export function drainDelayMs(
  signal: NodeJS.Signals,
  config: { readonly drainDelayMs: number | null },
): number {
  return config.drainDelayMs ?? (signal === 'SIGTERM' ? 5_000 : 0)
}

/** Takes SIGHUP, which would end the process: a lost terminal is no reason to lose records. */
export function takeHangUps(): HangUps {
  let log = (): void => {}
  const listeners: (() => void)[] = []
  process.on('SIGHUP', () => {
    if (listeners.length === 0) log()
    for (const listener of listeners) listener()
  })
  return {
    logTo(logger) {
      log = () => logger.info({ signal: 'SIGHUP' }, 'SIGHUP is ignored; SIGTERM or SIGINT ends the process')
    },
    onHangUp: (listener) => void listeners.push(listener),
  }
}

/** The hang-ups of a process. */
export interface HangUps {
  /** Logs a line for each hang-up that nobody listens to. */
  logTo(logger: { info(fields: object, message: string): void }): void
  /** Calls `listener` at each hang-up from now on: files are to be read again. */
  onHangUp(listener: () => void): void
}

/**
 * Writes to standard output, and waits until a pipe has taken all of it: the process ends behind it. A reader that is gone is no failure.
 * @throws Error if it cannot be written, to a disk that is full, say.
 */
export async function writeOut(text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const end = (error?: NodeJS.ErrnoException | null): void => {
      if (error == null || error.code === 'EPIPE') resolve()
      else reject(error)
    }
    process.stdout.once('error', end)
    process.stdout.write(text, end)
  })
}
