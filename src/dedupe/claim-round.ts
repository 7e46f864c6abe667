import { hash } from 'node:crypto'
import { maxKeyLength, type DedupeKey, type Found } from './dedupe-store.ts'

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
  /** Digest of the content. The same id with another digest is no repetition. At most `maxKeyLength` characters. */
  readonly digest: string
}

/**
 * What an event turns out to be: `new`; `seen`, if it was accepted before; `conflict`, if its source and id were accepted before with
 * other content. `EventFate` of events/judged-event.ts has the same members.
 */
export type Fate = 'new' | 'seen' | 'conflict'

/** What a request asks of the store, and what it is told. */
export class Round {
  /** The request has a key of its own, which is the first of {@link keys}. */
  readonly hasKey: boolean
  /** The key of each event; null: the event has no id. */
  readonly events: (DedupeKey | null)[] = []
  /** The request's own key, if it has one, and the first content of each event. */
  readonly keys: DedupeKey[] = []
  /** The keys that the older version would have kept for the events: it knew the id alone. Empty: nobody asks for them. */
  readonly older: DedupeKey[] = []
  /** What each of {@link keys} is. */
  found: readonly Found[] = none
  /** Names of the older version that were seen. */
  seenOlder: ReadonlySet<string> | null = null
  /** What {@link judge} found, in the order of the events. */
  readonly fates: Fate[] = []
  /** Names of events that were judged, and that the older version accepted. */
  readonly acceptedByOlder = new Set<string>()
  readonly #request: DedupeRequest
  readonly #asksOlder: boolean
  /** Place in {@link keys} by name. */
  readonly #places = new Map<string, number>()
  #olderNames: Set<string> | null = null
  /** The accepted content of events whose first content in the request is another one. */
  #accepted: ReadonlyMap<string, string> | null = null
  #told = 0
  /** Whether an event with each of {@link keys} was accepted, here or before. */
  #isMet: boolean[] | null = null

  constructor(request: DedupeRequest, asksOlder: boolean) {
    this.#request = request
    this.#asksOlder = asksOlder
    this.hasKey = request.key !== null
    if (request.key !== null)
      this.keys.push({ name: nameOf('k', request.key), fingerprint: fingerprintOf(request.body) })
  }

  /** Adds the keys of the events at [from, to). */
  addEvents(from: number, to: number): void {
    for (let nth = from; nth < to; nth++) {
      const event = this.#request.events![nth]!
      const key = event === null ? null : keyOfEvent(event)
      this.events.push(key)
      if (event === null || key === null) continue
      this.#told++
      if (!this.#places.has(key.name)) {
        this.#places.set(key.name, this.keys.length)
        this.keys.push(key)
      }
      if (!this.#asksOlder) continue
      const name = olderName(event)
      const names = (this.#olderNames ??= new Set())
      if (names.has(name)) continue
      names.add(name)
      this.older.push({ name, fingerprint: '' })
    }
  }

  /** Each id comes once, and is new. */
  get isAllNew(): boolean {
    return (
      (this.seenOlder === null || this.seenOlder.size === 0) &&
      this.#told === this.#places.size &&
      this.found.every((each) => each === 'new')
    )
  }

  /** Those events at [from, to) whose id was accepted with other content than the first in this request. */
  reusedEvents(from: number, to: number): DedupeKey[] {
    const isReused = (event: DedupeKey | null): event is DedupeKey =>
      event !== null && this.found[this.#places.get(event.name)!] === 'reused'
    return this.events.slice(from, to).filter(isReused)
  }

  /**
   * The store was asked a second time.
   * @param found what those of {@link keys} are that were not reused.
   * @param contents contents of the others, and what each of them is.
   */
  settle(found: readonly Found[], contents: readonly DedupeKey[], asked: readonly Found[]): void {
    let nth = 0
    this.found = this.found.map((each) => (each === 'reused' ? each : found[nth++]!))
    const accepted = contents.filter((_, content) => asked[content] === 'seen')
    this.#accepted = new Map(accepted.map(({ name, fingerprint }) => [name, fingerprint]))
  }

  /** Every part of the request is a repetition: its own key was seen. */
  get isReplay(): boolean {
    return this.hasKey && this.found[0] === 'seen'
  }

  /** Adds the fates of the events at [from, to) to {@link fates}. To be called for one part after the other, from the first on. */
  judge(from: number, to: number): void {
    const { isReplay } = this
    const isMet = (this.#isMet ??= this.found.map((each) => each !== 'new'))
    for (let nth = from; nth < to; nth++) this.fates.push(this.#fateOf(nth, isReplay, isMet))
  }

  #fateOf(nth: number, isReplay: boolean, isMet: boolean[]): Fate {
    const event = this.events[nth]!
    if (event === null) return isReplay ? 'seen' : 'new'
    if (this.#isOlder(nth)) {
      this.acceptedByOlder.add(event.name)
      return 'seen'
    }
    const place = this.#places.get(event.name)!
    // The content that counts: the accepted one, or else the first one of this request.
    const isReused = this.found[place] === 'reused'
    const content = isReused ? this.#accepted?.get(event.name) : this.keys[place]!.fingerprint
    if (content !== event.fingerprint) return 'conflict'
    if (isReplay || isMet[place]!) return 'seen'
    isMet[place] = true
    return 'new'
  }

  /** Whether the older version accepted the event. */
  #isOlder(nth: number): boolean {
    if (this.seenOlder === null || this.seenOlder.size === 0) return false
    const event = this.#request.events?.[nth] ?? null
    return event !== null && this.seenOlder.has(olderName(event))
  }
}

/** The key of an event. Different sources and ids have different names: the name says how long the id is. */
export function keyOfEvent({ id, source, digest }: DedupeEvent): DedupeKey {
  const text = `${id.length}:${id}${source}`
  return { name: nameOf('e', halfCharacter.test(text) ? JSON.stringify(text) : text), fingerprint: digest }
}

/**
 * Half a character, as a client leaves it that cuts a text within one. UTF-8 has no bytes for it: on disk, in Redis and in a hash all halves
 * are the same, so JSON's escapes stand for them. No other text begins with the quote of JSON, since it begins with a number.
 */
const halfCharacter = /\p{Surrogate}/u

function olderName({ id }: DedupeEvent): string {
  return nameOf('i', id)
}

/** Whether a key is one that the older version of Chute kept. */
export function isOlderName(name: string): boolean {
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

const none: readonly Found[] = []
