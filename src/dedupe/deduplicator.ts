import { hash } from 'node:crypto'
import type { Durability } from '../kafka/producer/producer.ts'
import { maxKeyLength, type DedupeKey, type DedupeStore, type Found } from './dedupe-store.ts'

/** Where a durable stream keeps keys beside their records, so that a crash takes both or neither. */
export type DedupeJournal = Pick<Durability, 'note' | 'noteLater' | 'readNotes'>

/** What identifies a request and its events. */
export interface DedupeRequest {
  /** The value of `Idempotency-Key`; null: the request has none. */
  readonly key: string | null
  readonly body: Buffer
  /** What identifies each event, or null for an event without an id; null: no event has an id. */
  readonly events: readonly (DedupeEvent | null)[] | null
}

/** Source and id together identify an event. */
export interface DedupeEvent {
  readonly id: string
  /** Empty: the event has none. */
  readonly source: string
  /** Digest of the content. The same id with another digest is no repetition. At most {@link maxKeyLength} characters. */
  readonly digest: string
}

/**
 * What an event turns out to be: `new`; `seen`, if it was accepted before; `conflict`, if its source and id were accepted before with
 * other content.
 */
export type Fate = 'new' | 'seen' | 'conflict'

/**
 * Finds out what one stream has accepted before, within the window: a whole request, or some of its events. Or the request must
 * not go on, since its key is `busy` or `reused`.
 */
export class Deduplicator {
  readonly #options: DeduplicatorOptions
  /**
   * Until when the store can have keys of an older version of Chute, by the monotonic clock. That version identified an event by
   * its id alone, without its content. As long as such keys have time left, they are asked for too.
   */
  #olderUntilMs = 0

  constructor(options: DeduplicatorOptions) {
    this.#options = options
    const { journal, windowMs, store, isShared } = options
    if (isShared) this.#olderUntilMs = performance.now() + windowMs
    journal?.readNotes(windowMs, (name, value, untilMs) => {
      // Only the wall clock goes on from one process to the next. If it was set back, a key is kept for one window at most.
      const leftMs = Math.min(untilMs - Date.now(), windowMs)
      if (leftMs <= 0) return
      const until = performance.now() + leftMs
      const fingerprint = value.toString('latin1')
      if (fingerprint === released) store.unlearn(name)
      else store.learn({ name, fingerprint }, until)
      if (isOlderName(name)) this.#olderUntilMs = Math.max(this.#olderUntilMs, until)
    })
  }

  /** Number of keys that are known (null if only the shared store knows), and of keys that were forgotten before their time. */
  get stats(): { readonly entries: number | null; readonly forgotten: number } {
    const { size, forgotten } = this.#options.store
    return { entries: size, forgotten }
  }

  /**
   * Claims the new keys of a request.
   * @param done is called once, with a claim or with the reason why there is none. The caller must keep or release the claim.
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
        // The usual case: each id comes once, and is new.
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
   * Some events have an id that was accepted before with other content. Claims the other new keys. Asks whether the accepted
   * content is another one that this request has under the same id. Nothing was claimed before.
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
        // The keys have changed since the first question. The client tries again.
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
    /** The content of each name that counts: the accepted one, or else the first one of this request. */
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
    // The key of the older version stays, and is enough.
    const left = claimed.filter(({ name }) => older.has(name))
    if (left.length > 0) store.release(claim, left)
    const ours = claimed.filter(({ name }) => !older.has(name))
    return {
      kind: 'claimed',
      fates: fates.every((fate) => fate === 'new') ? null : fates,
      claim: new Claim(this.#options, claim, ours),
    }
  }

  /** Names of the older version that were seen. Gateways of that version may still run, and keep more keys. */
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
  /** Null: keys are as durable as the store. */
  readonly journal: DedupeJournal | null
  /** Other gateways may write to the store. They may be of the older version. */
  readonly isShared: boolean
}

/** What a request turns out to be. `fates` are those of its events; null: all events have the fate that the kind says. */
export type Verdict =
  | { readonly kind: 'busy' | 'reused' }
  | { readonly kind: 'replay'; readonly fates: readonly Fate[] | null }
  | { readonly kind: 'claimed'; readonly fates: readonly Fate[] | null; readonly claim: Claim }

/** What a request asks of the store. */
interface Round {
  readonly key: DedupeKey | null
  /** The key of each event; null: the event has no id. */
  readonly events: readonly (DedupeKey | null)[]
  /** The request's own key, if it has one, and the first content of each event. */
  readonly keys: readonly DedupeKey[]
  /** Whether the older version accepted the event. */
  readonly isOlder: (nth: number) => boolean
}

/** What the store answered. */
interface Claimed {
  readonly claim: number
  readonly keys: readonly DedupeKey[]
  readonly found: readonly Found[]
  /** Accepted contents of events whose first content in the request is another one. */
  readonly contents: readonly DedupeKey[]
}

const noContents: readonly DedupeKey[] = []

/** The keys that one request has claimed. Ends with {@link keep} or with {@link release}. A kept claim can be released later. */
export class Claim {
  readonly #options: DeduplicatorOptions
  readonly #number: number
  readonly #keys: readonly DedupeKey[]
  /** When the notes of the keys may be forgotten, by the wall clock; 0: there are no notes. */
  #notedUntilMs = 0
  #isKept = false

  constructor(options: DeduplicatorOptions, number: number, keys: readonly DedupeKey[]) {
    this.#options = options
    this.#number = number
    this.#keys = keys
  }

  /** Writes the keys beside the records. To be called after the last record was appended, in the same turn of the event loop. */
  note(): void {
    const { journal, windowMs } = this.#options
    this.#notedUntilMs = Date.now() + windowMs
    for (const { name, fingerprint } of this.#keys)
      journal?.note(name, Buffer.from(fingerprint, 'latin1'), this.#notedUntilMs)
  }

  /** The request was accepted: a request with these keys is a repetition from now on. */
  keep(): void {
    const { store, windowMs } = this.#options
    this.#isKept = true
    store.keep(this.#number, this.#keys, performance.now() + windowMs)
  }

  /** The request was refused, or its records are certainly lost: a retry must be accepted. */
  release(): void {
    const { store, journal } = this.#options
    store.release(this.#number, this.#keys)
    // The keys are on disk. After a restart they must not be taken for accepted.
    if (this.#isKept && this.#notedUntilMs > 0)
      for (const { name } of this.#keys) journal?.noteLater(name, Buffer.from(released), this.#notedUntilMs)
  }
}

/** Stands in the place of a fingerprint, and is none: the key was released after it was kept. */
const released = '-'

function countTold(events: readonly (DedupeKey | null)[]): number {
  return events.reduce((count, event) => (event === null ? count : count + 1), 0)
}

/** The key of an event. Different sources and ids have different names: the name says how long the id is. */
function keyOfEvent({ id, source, digest }: DedupeEvent): DedupeKey {
  return { name: nameOf('e', `${id.length}:${id}${source}`), fingerprint: digest }
}

/** The keys that the older version would have kept for these events: it knew the id alone. */
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

/** The kind of the key and the client's own text. A long text is hashed, and its kind is a capital. */
function nameOf(kind: 'k' | 'e' | 'i', text: string): string {
  if (text.length < maxKeyLength) return kind + text
  return kind.toUpperCase() + hash('sha256', text, 'base64url')
}

/** 96 bits of SHA-256: enough to tell a body from any other that is sent under the same key by mistake. */
function fingerprintOf(body: Buffer): string {
  return hash('sha256', body, 'base64url').slice(0, 16)
}
