import { mayClaim, type ClaimListener, type DedupeKey, type DedupeStore, type Found } from './dedupe-store.ts'

/**
 * The keys of one stream in the memory of this process: at most `maxEntries` of them. When there is no room, the oldest
 * is forgotten before its time, and counted. What is claimed is never forgotten.
 */
export class MemoryDedupeStore implements DedupeStore {
  readonly #maxEntries: number
  /** In the order in which they were kept, which is the order in which they run out. */
  readonly #kept = new Map<string, KeptKey>()
  readonly #claimed = new Map<string, ClaimedKey>()
  #claims = 0
  forgotten = 0

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries
  }

  get size(): number {
    this.#forgetOld()
    return this.#kept.size
  }

  /** @inheritdoc */
  claim(keys: readonly DedupeKey[], done: ClaimListener, asked: readonly DedupeKey[] = []): void {
    this.#forgetOld()
    const claim = this.#claims++
    const found = keys.concat(asked).map((key) => this.#find(key))
    if (mayClaim(found, keys.length)) {
      keys.forEach(({ name, fingerprint }, nth) => {
        if (found[nth] === 'new') this.#claimed.set(name, { fingerprint, claim })
      })
    }
    done(null, found, claim)
  }

  /** @inheritdoc */
  keep(claim: number, keys: readonly DedupeKey[], untilMs: number): void {
    for (const { name, fingerprint } of keys) {
      this.#claimed.delete(name)
      // Behind the others, also where it is there already.
      this.#kept.delete(name)
      this.#kept.set(name, { fingerprint, claim, untilMs })
    }
    while (this.#kept.size > this.#maxEntries) {
      this.#kept.delete(this.#kept.keys().next().value!)
      this.forgotten++
    }
  }

  /** @inheritdoc */
  release(claim: number, keys: readonly DedupeKey[]): void {
    for (const { name } of keys) {
      for (const known of [this.#claimed, this.#kept]) {
        if (known.get(name)?.claim === claim) known.delete(name)
      }
    }
  }

  /** @inheritdoc */
  learn(key: DedupeKey, untilMs: number): void {
    this.keep(learned, [key], untilMs)
  }

  /** @inheritdoc */
  unlearn(name: string): void {
    this.#kept.delete(name)
  }

  #find({ name, fingerprint }: DedupeKey): Found {
    const claimed = this.#claimed.get(name)
    if (claimed !== undefined) return claimed.fingerprint === fingerprint ? 'busy' : 'contested'
    const kept = this.#kept.get(name)
    // One that was learned can run out before others that stand in front of it.
    if (kept === undefined || kept.untilMs <= performance.now()) return 'new'
    return kept.fingerprint === fingerprint ? 'seen' : 'reused'
  }

  #forgetOld(): void {
    const nowMs = performance.now()
    for (const [name, { untilMs }] of this.#kept) {
      if (untilMs > nowMs) return
      this.#kept.delete(name)
    }
  }
}

interface ClaimedKey {
  readonly fingerprint: string
  /** Number of the claim that got it. */
  readonly claim: number
}

interface KeptKey extends ClaimedKey {
  readonly untilMs: number
}

/** In the place of a claim's number: the key is an earlier process's. */
const learned = -1
