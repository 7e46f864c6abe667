import { setTimeout as pause } from 'node:timers/promises'

/**
 * The SIGTERMs and SIGINTs that come from now on, in order; none is lost. One listener serves all: between two listeners a
 * signal would meet Node's own way, which ends the process without a word.
 */
export class StopSignals {
  readonly #come: NodeJS.Signals[] = []
  readonly #waiting: ((signal: NodeJS.Signals) => void)[] = []

  constructor() {
    const onSignal = (signal: NodeJS.Signals): void => {
      const next = this.#waiting.shift()
      if (next === undefined) this.#come.push(signal)
      else next(signal)
    }
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  }

  /** The next signal that nobody was given yet. */
  async next(): Promise<NodeJS.Signals> {
    const come = this.#come.shift()
    return come ?? (await new Promise((resolve) => this.#waiting.push(resolve)))
  }

  /**
   * Waits for `delayMs`, or until the next signal comes, which is then given to nobody else.
   * @returns whether it waited to the end.
   */
  async pauseUnlessNext(delayMs: number): Promise<boolean> {
    if (this.#come.shift() !== undefined) return false
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
 * For how long requests are taken after a signal: as `DRAIN_DELAY_MS` says; unless it is set, for 5 s after SIGTERM, which
 * service managers and orchestrators send while load balancers still send requests, and not at all after SIGINT, which is
 * Ctrl-C.
 */
export function drainDelayMs(
  signal: NodeJS.Signals,
  config: { readonly drainDelayMs: number | null },
): number {
  return config.drainDelayMs ?? (signal === 'SIGTERM' ? 5_000 : 0)
}

/** Lets SIGHUP end nothing: Node's own way is to end the process without a word, and a lost terminal is no reason to. */
export function surviveHangUp(): HangUps {
  let log = (): void => {}
  process.on('SIGHUP', () => log())
  return {
    logTo(logger) {
      log = () => logger.info({ signal: 'SIGHUP' }, 'SIGHUP is ignored; SIGTERM or SIGINT ends the process')
    },
  }
}

/** See {@link surviveHangUp}. */
export interface HangUps {
  /** Logs a line for each from now on. */
  logTo(logger: { info(fields: object, message: string): void }): void
}
