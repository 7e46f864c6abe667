import { hash } from 'node:crypto'
import { maxKeyLength, type DedupeKey, type DedupeStore, type Found } from './dedupe-store.ts'

/** Where keys are written beside the records that they stand for, so that a crash takes both or neither. */
export interface DedupeJournal {
  note(key: string, value: Buffer, untilMs: number): void
  noteLater(key: string, value: Buffer, untilMs: number): void
  readNotes(windowMs: number, each: (key: string, value: Buffer, untilMs: number) => void): void
}

/** A request, as it is told from others. */
export interface DedupeRequest {
  /** `Idempotency-Key`; null: it has none. */
  readonly key: string | null
  readonly body: Buffer
  /** The `id` of each event, null for one without; null: no event has one. */
  readonly ids: readonly (string | null)[] | null
}

/**
 * Tells of one stream what was accepted before, within the window. Three answers: the request as a whole was, some of its
 * events were, or it must not go on (`busy`, `reused`).
 */
export class Deduplicator {
  readonly #options: DeduplicatorOptions
  constructor(options: DeduplicatorOptions) {
    this.#options = options
    const { journal, windowMs, store } = options
    journal?.readNotes(windowMs, (name, value, untilMs) => {
      // Between two processes only the wall clock goes on; where it was set back, nothing is kept for longer than a window.
      const leftMs = Math.min(untilMs - Date.now(), windowMs)
      if (leftMs <= 0) return
      const fingerprint = value.toString('latin1')
      if (fingerprint === released) store.unlearn(name)
      else store.learn({ name, fingerprint }, performance.now() + leftMs)
    })
  }

  /** Keys that are known (null where only the store knows), and keys that were forgotten before their time. */
  get stats(): { readonly entries: number | null; readonly forgotten: number } {
    const { size, forgotten } = this.#options.store
    return { entries: size, forgotten }
  }

  /**
   * Claims what is new in a request.
   * @param done is called once: with the claim, whose end the caller must tell; or with what keeps it from being one.
   */
  claim(request: DedupeRequest, done: (error: Error | null, verdict: Verdict | null) => void): void {
    const { store } = this.#options
    const names = request.ids?.map((id) => (id === null ? null : nameOf('i', id))) ?? null
    const keys: DedupeKey[] = []
    if (request.key !== null)
      keys.push({ name: nameOf('k', request.key), fingerprint: fingerprintOf(request.body) })
    for (const name of new Set(names)) if (name !== null) keys.push({ name, fingerprint: '' })
    store.claim(keys, (error, found, number) => {
      if (error !== null) return done(error, null)
      if (found.includes('reused')) return done(null, { kind: 'reused' })
      if (found.includes('busy')) return done(null, { kind: 'busy' })
      const claimed = keys.filter((_, nth) => found[nth] === 'new')
      if (request.key !== null && found[0] === 'seen') {
        store.release(number, claimed)
        return done(null, { kind: 'replay' })
      }
      const seen = names === null ? null : seenOf(names, keys, found)
      done(null, { kind: 'claimed', seen, claim: new Claim(this.#options, number, claimed) })
    })
  }
}

/** See {@link Deduplicator}. */
export interface DeduplicatorOptions {
  readonly store: DedupeStore
  /** `dedupe.window.ms`. */
  readonly windowMs: number
  /** Null: what is kept is as durable as the store. */
  readonly journal: DedupeJournal | null
}

/** What becomes of a request. */
export type Verdict =
  | { readonly kind: 'replay' | 'busy' | 'reused' }
  /** `seen`: whether each event was accepted before; null: none was. */
  | { readonly kind: 'claimed'; readonly seen: readonly boolean[] | null; readonly claim: Claim }

/** The keys that one request has for itself until {@link keep} or {@link release}, of which one is called, once. */
export class Claim {
  readonly #options: DeduplicatorOptions
  readonly #number: number
  readonly #keys: readonly DedupeKey[]
  /** Until when the notes hold, by the wall clock; 0: there are none. */
  #notedUntilMs = 0
  #isKept = false

  constructor(options: DeduplicatorOptions, number: number, keys: readonly DedupeKey[]) {
    this.#options = options
    this.#number = number
    this.#keys = keys
  }

  /** Writes the keys beside the records. To be called in the turn in which these are appended, after the last. */
  note(): void {
    const { journal, windowMs } = this.#options
    this.#notedUntilMs = Date.now() + windowMs
    for (const { name, fingerprint } of this.#keys)
      journal?.note(name, Buffer.from(fingerprint, 'latin1'), this.#notedUntilMs)
  }

  /** The request was accepted: who comes with these keys from now on brings nothing new. */
  keep(): void {
    const { store, windowMs } = this.#options
    this.#isKept = true
    store.keep(this.#number, this.#keys, performance.now() + windowMs)
  }

  /** Nothing of it was accepted, or it is lost for certain: a retry must go through. */
  release(): void {
    const { store, journal } = this.#options
    store.release(this.#number, this.#keys)
    // What is on disk as accepted must not be known again after a restart.
    if (this.#isKept && this.#notedUntilMs > 0)
      for (const { name } of this.#keys) journal?.noteLater(name, Buffer.from(released), this.#notedUntilMs)
  }
}

/** In the place of a fingerprint, which it cannot be: the key was released after all. */
const released = '-'

/** Whether each event was accepted before, or stands in the same request a second time; null if none. */
function seenOf(
  names: readonly (string | null)[],
  keys: readonly DedupeKey[],
  found: readonly Found[],
): boolean[] | null {
  const old = new Set<string>()
  keys.forEach(({ name }, nth) => found[nth] === 'seen' && old.add(name))
  const seen = names.map((name) => {
    if (name === null) return false
    if (old.has(name)) return true
    old.add(name)
    return false
  })
  return seen.includes(true) ? seen : null
}

/** What the client calls it, behind the kind of the key; hashed, behind a capital, where it is long. */
function nameOf(kind: 'k' | 'i', text: string): string {
  if (text.length < maxKeyLength) return kind + text
  return kind.toUpperCase() + hash('sha256', text, 'base64url')
}

/** 96 bits of SHA-256: enough to tell a body from any other that is sent under the same key by mistake. */
function fingerprintOf(body: Buffer): string {
  return hash('sha256', body, 'base64url').slice(0, 16)
}
