import type { DedupeKey, DedupeStore, Found } from './dedupe-store.ts'

/**
 * The keys of one stream in the memory of this process: at most `maxEntries` of them. When there is no room, the oldest
 * is forgotten before its time, and counted. What is claimed is never forgotten.
 */
export class MemoryDedupeStore implements DedupeStore {
  readonly #maxEntries: number
  /** In the order in which they were kept, which is the order in which they run out. */
  readonly #kept = new Map<string, Entry>()
  readonly #claimed = new Map<string, string>()
  forgotten = 0

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries
  }

  get size(): number {
    this.#forgetOld()
    return this.#kept.size
  }

  /** @inheritdoc */
  claim(keys: readonly DedupeKey[], done: (error: null, found: readonly Found[]) => void): void {
    this.#forgetOld()
    const found = keys.map((key) => this.#find(key))
    if (!found.some((each) => each === 'busy' || each === 'reused')) {
      keys.forEach(({ name, fingerprint }, nth) => {
        if (found[nth] === 'new') this.#claimed.set(name, fingerprint)
      })
    }
    done(null, found)
  }

  /** @inheritdoc */
  keep(keys: readonly DedupeKey[], untilMs: number): void {
    for (const { name, fingerprint } of keys) {
      this.#claimed.delete(name)
      // Behind the others, also where it is there already.
      this.#kept.delete(name)
      this.#kept.set(name, { fingerprint, untilMs })
    }
    while (this.#kept.size > this.#maxEntries) {
      this.#kept.delete(this.#kept.keys().next().value!)
      this.forgotten++
    }
  }

  /** @inheritdoc */
  release(keys: readonly DedupeKey[]): void {
    for (const { name } of keys) {
      this.#claimed.delete(name)
      this.#kept.delete(name)
    }
  }

  #find({ name, fingerprint }: DedupeKey): Found {
    const claimed = this.#claimed.get(name)
    if (claimed !== undefined) return claimed === fingerprint ? 'busy' : 'reused'
    const kept = this.#kept.get(name)
    if (kept === undefined) return 'new'
    return kept.fingerprint === fingerprint ? 'seen' : 'reused'
  }

  #forgetOld(): void {
    const nowMs = Date.now()
    for (const [name, { untilMs }] of this.#kept) {
      if (untilMs > nowMs) return
      this.#kept.delete(name)
    }
  }
}

interface Entry {
  readonly fingerprint: string
  readonly untilMs: number
}
