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
  /** What each event is told by, null for one without an id; null: no event has one. */
  readonly events: readonly (DedupeEvent | null)[] | null
}

/** An event is told by its source and id together. */
export interface DedupeEvent {
  readonly id: string
  /** Empty: it has none. */
  readonly source: string
  /** Of its content: the same id with another digest is not a repetition. At most {@link maxKeyLength} characters. */
  readonly digest: string
}

/**
 * What becomes of an event: it is `new`; it was `seen`, accepted before; or it is a `conflict`, since its source and id
 * were accepted with other content.
 */
export type Fate = 'new' | 'seen' | 'conflict'

/**
 * Tells of one stream what was accepted before, within the window. Three answers: the request as a whole was, some of its
 * events were, or it must not go on (`busy`, `reused`).
 */
export class Deduplicator {
  readonly #options: DeduplicatorOptions
  /**
   * Until when keys of a version before this one can be there, by the monotonic clock. That version told an event by its
   * id alone, and did not know its content: as long as such keys have time left, they are asked for too.
   */
  #olderUntilMs = 0

  constructor(options: DeduplicatorOptions) {
    this.#options = options
    const { journal, windowMs, store, isShared } = options
    if (isShared) this.#olderUntilMs = performance.now() + windowMs
    journal?.readNotes(windowMs, (name, value, untilMs) => {
      // Between two processes only the wall clock goes on; where it was set back, nothing is kept for longer than a window.
      const leftMs = Math.min(untilMs - Date.now(), windowMs)
      if (leftMs <= 0) return
      const until = performance.now() + leftMs
      const fingerprint = value.toString('latin1')
      if (fingerprint === released) store.unlearn(name)
      else store.learn({ name, fingerprint }, until)
      if (isOlderName(name)) this.#olderUntilMs = Math.max(this.#olderUntilMs, until)
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
    const events = request.events?.map((event) => (event === null ? null : keyOfEvent(event))) ?? []
    const key =
      request.key === null
        ? null
        : { name: nameOf('k', request.key), fingerprint: fingerprintOf(request.body) }
    const first = new Map<string, DedupeKey>()
    for (const event of events) if (event !== null && !first.has(event.name)) first.set(event.name, event)
    const keys = key === null ? [...first.values()] : [key, ...first.values()]
    const older = performance.now() < this.#olderUntilMs ? olderKeys(request.events ?? []) : null
    const { store } = this.#options
    store.claim(
      keys,
      (error, found, claim) => {
        if (error !== null) return done(error, null)
        if (key !== null && (found[0] === 'reused' || found[0] === 'contested'))
          return done(null, { kind: 'reused' })
        if (found.includes('busy') || found.includes('contested')) return done(null, { kind: 'busy' })
        const seenOlder = older === null ? null : this.#seenOlder(older, found.slice(keys.length))
        const isOlder = (nth: number): boolean => {
          const event = request.events?.[nth] ?? null
          return event !== null && seenOlder !== null && seenOlder.has(olderName(event))
        }
        const round = { key, events, keys, isOlder }
        // Nearly always: an id comes once, and is new.
        if (found.every((each) => each === 'new') && first.size === countTold(events))
          return done(null, { kind: 'claimed', fates: null, claim: new Claim(this.#options, claim, keys) })
        const reused = new Set(keys.filter((_, nth) => found[nth] === 'reused'))
        if (reused.size === 0) done(null, this.#judge(round, { claim, keys, found, contents: noContents }))
        else this.#claimOthers(round, reused, done)
      },
      older ?? [],
    )
  }

  /**
   * Claims what is new beside events whose first content was not the one that was accepted, and asks whether another
   * content that the request has under the same id was. Nothing was claimed before.
   */
  #claimOthers(
    round: Round,
    reused: ReadonlySet<DedupeKey>,
    done: (error: Error | null, verdict: Verdict | null) => void,
  ): void {
    const keys = round.keys.filter((key) => !reused.has(key))
    const names = new Set(Array.from(reused, ({ name }) => name))
    const asked = new Map<string, DedupeKey>()
    for (const event of round.events) {
      if (event !== null && names.has(event.name)) asked.set(`${event.fingerprint} ${event.name}`, event)
    }
    const contents = [...asked.values()]
    this.#options.store.claim(
      keys,
      (error, found, claim) => {
        if (error !== null) return done(error, null)
        const isSettled = (each: Found, nth: number): boolean =>
          nth < keys.length ? each === 'new' || each === 'seen' : each === 'seen' || each === 'reused'
        if (found.every(isSettled)) {
          const accepted = contents.filter((_, nth) => found[keys.length + nth] === 'seen')
          return done(null, this.#judge(round, { claim, keys, found, contents: accepted }))
        }
        // Something has changed between the two: the client's next try finds out what.
        this.#options.store.release(
          claim,
          keys.filter((_, nth) => found[nth] === 'new'),
        )
        done(null, { kind: 'busy' })
      },
      contents,
    )
  }

  #judge({ key, events, isOlder }: Round, { claim, keys, found, contents }: Claimed): Verdict {
    const { store } = this.#options
    const isReplay = key !== null && found[0] === 'seen'
    /** The content that stands for each name: accepted before, or the first of this request. */
    const content = new Map<string, string>()
    const isMet = new Set<string>()
    const claimed: DedupeKey[] = []
    keys.forEach((each, nth) => {
      content.set(each.name, each.fingerprint)
      if (found[nth] === 'seen') isMet.add(each.name)
      else claimed.push(each)
    })
    for (const { name, fingerprint } of contents) {
      content.set(name, fingerprint)
      isMet.add(name)
    }
    const older = new Set<string>()
    const fates = events.map((event, nth): Fate => {
      if (event === null) return isReplay ? 'seen' : 'new'
      if (isOlder(nth)) {
        older.add(event.name)
        return 'seen'
      }
      if (content.get(event.name) !== event.fingerprint) return 'conflict'
      if (isReplay || isMet.has(event.name)) return 'seen'
      isMet.add(event.name)
      return 'new'
    })
    if (isReplay) {
      store.release(claim, claimed)
      return { kind: 'replay', fates: events.length === 0 ? null : fates }
    }
    // The older key goes on standing for what it stood for.
    const left = claimed.filter(({ name }) => older.has(name))
    if (left.length > 0) store.release(claim, left)
    const ours = claimed.filter(({ name }) => !older.has(name))
    return {
      kind: 'claimed',
      fates: fates.every((fate) => fate === 'new') ? null : fates,
      claim: new Claim(this.#options, claim, ours),
    }
  }

  /** Names of a version before this one that were seen. Gateways of that version may live on, and keep more. */
  #seenOlder(older: readonly DedupeKey[], found: readonly Found[]): ReadonlySet<string> {
    const seen = new Set(older.filter((_, nth) => found[nth] === 'seen').map(({ name }) => name))
    const { isShared, windowMs } = this.#options
    if (isShared && seen.size > 0)
      this.#olderUntilMs = Math.max(this.#olderUntilMs, performance.now() + windowMs)
    return seen
  }
}

/** See {@link Deduplicator}. */
export interface DeduplicatorOptions {
  readonly store: DedupeStore
  /** `dedupe.window.ms`. */
  readonly windowMs: number
  /** Null: what is kept is as durable as the store. */
  readonly journal: DedupeJournal | null
  /** Other gateways may write to the store, also of the version before this one. */
  readonly isShared: boolean
}

/** What becomes of a request. `fates`: of each event; null: the same of all, which is what the kind says. */
export type Verdict =
  | { readonly kind: 'busy' | 'reused' }
  | { readonly kind: 'replay'; readonly fates: readonly Fate[] | null }
  | { readonly kind: 'claimed'; readonly fates: readonly Fate[] | null; readonly claim: Claim }

/** What a request asks of the store. */
interface Round {
  readonly key: DedupeKey | null
  /** Of each event; null: it has no id. */
  readonly events: readonly (DedupeKey | null)[]
  /** The request's own key, if it has one, and the first content of each event. */
  readonly keys: readonly DedupeKey[]
  /** Whether a version before this one accepted the event. */
  readonly isOlder: (nth: number) => boolean
}

/** What the store said. */
interface Claimed {
  readonly claim: number
  readonly keys: readonly DedupeKey[]
  readonly found: readonly Found[]
  /** Contents that were accepted, of events whose first content in the request was not. */
  readonly contents: readonly DedupeKey[]
}

const noContents: readonly DedupeKey[] = []

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

function countTold(events: readonly (DedupeKey | null)[]): number {
  return events.reduce((count, event) => (event === null ? count : count + 1), 0)
}

/** No source and id give the name of others: the length of the id says where it ends. */
function keyOfEvent({ id, source, digest }: DedupeEvent): DedupeKey {
  return { name: nameOf('e', `${id.length}:${id}${source}`), fingerprint: digest }
}

/** The keys that a version before this one would have kept: it knew the id alone. */
function olderKeys(events: readonly (DedupeEvent | null)[]): DedupeKey[] {
  const names = new Set<string>()
  for (const event of events) if (event !== null) names.add(olderName(event))
  return Array.from(names, (name) => ({ name, fingerprint: '' }))
}

function olderName({ id }: DedupeEvent): string {
  return nameOf('i', id)
}

function isOlderName(name: string): boolean {
  return name.startsWith('i') || name.startsWith('I')
}

/** What the client calls it, behind the kind of the key; hashed, behind a capital, where it is long. */
function nameOf(kind: 'k' | 'e' | 'i', text: string): string {
  if (text.length < maxKeyLength) return kind + text
  return kind.toUpperCase() + hash('sha256', text, 'base64url')
}

/** 96 bits of SHA-256: enough to tell a body from any other that is sent under the same key by mistake. */
function fingerprintOf(body: Buffer): string {
  return hash('sha256', body, 'base64url').slice(0, 16)
}
