import type { Charge, LimitStore, RemoteLimitStore, Verdict } from './limit-counts.ts'

/**
 * Counts at a store that others use too, and goes on by itself while that store is away. It goes on from what the store has told last, so
 * that no client gets its whole limit once more.
 */
export class SharedLimits implements LimitStore {
  readonly #shared: RemoteLimitStore
  readonly #own: LimitStore

  constructor(shared: RemoteLimitStore, own: LimitStore) {
    this.#shared = shared
    this.#own = own
  }

  /** @inheritdoc */
  charge(charge: Charge, done: (verdict: Verdict) => void): void {
    this.#shared.charge(charge, (verdict) => {
      if (verdict === null) {
        this.#own.charge(charge, done)
        return
      }
      this.#own.adopt(charge, verdict)
      done(verdict)
    })
  }

  /** @inheritdoc */
  chargeNow(): null {
    return null
  }

  /** @inheritdoc */
  adopt(charge: Charge, verdict: Verdict): void {
    this.#shared.adopt?.(charge, verdict)
    this.#own.adopt(charge, verdict)
  }
}
