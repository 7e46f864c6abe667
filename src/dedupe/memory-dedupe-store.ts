import { mayClaim, type ClaimListener, type DedupeKey, type DedupeStore, type Found } from './dedupe-store.ts'
import { StripedMap } from './striped-map.ts'

/**
 * The keys of one stream in the memory of this process: at most `maxEntries` kept ones. When there is no room, the oldest kept
 * key is forgotten before its time, and counted. A claimed key is never forgotten.
 */
export class MemoryDedupeStore implements DedupeStore {
  readonly #maxEntries: number
  readonly #kept = new StripedMap<KeptKey>()
  /**
   * Kept keys in the order in which they were kept. A key that is no longer in {@link #kept} is gone. The map alone is not enough:
   * finding its first entry goes over all deleted entries each time.
   */
  #queue: KeptKey[] = []
  /** Place of the oldest key in {@link #queue}. */
  #oldest = 0
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
      const key = { name, fingerprint, claim, untilMs }
      this.#kept.set(name, key)
      this.#queue.push(key)
    }
    while (this.#kept.size > this.#maxEntries) {
      if (this.#forget(this.#queue[this.#oldest]!)) this.forgotten++
    }
    this.#shorten()
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
    // A learned key can run out before keys that stand in front of it in the queue.
    if (kept === undefined || kept.untilMs <= performance.now()) return 'new'
    return kept.fingerprint === fingerprint ? 'seen' : 'reused'
  }

  #forgetOld(): void {
    const nowMs = performance.now()
    while (this.#oldest < this.#queue.length) {
      const key = this.#queue[this.#oldest]!
      if (key.untilMs > nowMs && this.#kept.get(key.name) === key) break
      this.#forget(key)
    }
    this.#shorten()
  }

  /** Takes the oldest key from the queue. @returns false if the key was gone before. */
  #forget(oldest: KeptKey): boolean {
    this.#oldest++
    return this.#kept.get(oldest.name) === oldest && this.#kept.delete(oldest.name)
  }

  #shorten(): void {
    if (this.#oldest <= this.#queue.length / 2) return
    this.#queue = this.#queue.slice(this.#oldest)
    this.#oldest = 0
  }
}

interface ClaimedKey {
  readonly fingerprint: string
  /** Number of the claim that got it. */
  readonly claim: number
}

interface KeptKey extends ClaimedKey {
  readonly name: string
  readonly untilMs: number
}

/** Stands in the place of a claim's number: an earlier process kept the key. */
const learned = -1
