import { randomBytes } from 'node:crypto'
import type { ErrorCode } from './errors.ts'
import type { EdgeTransport } from './metrics/edge-telemetry.ts'

/** See {@link LiveEvent.fate}. */
export const liveFates = ['taken', 'dropped', 'duplicate', 'refused'] as const

/**
 * One event, or one refused request, as the live page and `chute tail` show it. It is plain data. What a client has sent is cut
 * and escaped, so that a terminal can show it, and it never has the value of a key.
 */
export interface LiveEvent {
  /** Tells the event from all others, of other processes too. */
  readonly id: string
  /** Milliseconds since 1970. */
  readonly timeMs: number
  /**
   * `taken`: the event was accepted. `dropped`: it was accepted, the buffer was full, and the stream drops then. `duplicate`: it
   * was accepted before, and is not written again. `refused`: the code and the detail say why.
   */
  readonly fate: (typeof liveFates)[number]
  /** null: the request names none, or there is no such stream. */
  readonly stream: string | null
  readonly transport: EdgeTransport
  /** The page that has sent it; null: no page has. */
  readonly origin: string | null
  /** The name of the key; null: the request has no key that is known. */
  readonly key: string | null
  /** null unless the event was refused. */
  readonly code: ErrorCode | null
  /** What is wrong, or why the event was not written; null: nothing is to be said. */
  readonly detail: string | null
  /** The code of the reply, if the whole request was refused; null: the other events of the request were taken. */
  readonly reply: ErrorCode | null
  /** Place of the event in its request, from 0; null: it stands for the whole request. */
  readonly index: number | null
  /** Events of the request; null: nobody has counted them. */
  readonly events: number | null
  /** The path of a refused request, without its query; null unless it says more than the stream. */
  readonly path: string | null
  /** The first 200 bytes of the event, or of the body; null: no body was read. */
  readonly text: string | null
  /** The size of the event, or of the body, in bytes; null: no body was read. */
  readonly bytes: number | null
}

/** Takes events that are to be shown: first those that were kept, and then each that comes. */
export type LiveListener = (events: readonly LiveEvent[]) => void

/** Where somebody can watch events. */
export interface LiveSource {
  /** Tells `listener` what was kept, and then what comes. @returns a function that ends this. */
  watch(listener: LiveListener): () => void
}

/**
 * Keeps the last events, and tells them to whoever watches. Bounded: {@link keptOfEach} events of each stream and code, and
 * {@link keptInAll} of all. If there are more, the code that was quiet for the longest time loses its oldest event.
 */
export class LiveFeed implements LiveSource {
  readonly #onWatched: (isWatched: boolean) => void
  /** By stream and code. The one that was quiet for the longest time stands first. */
  readonly #kept = new Map<string, LiveEvent[]>()
  #count = 0
  readonly #listeners = new Set<LiveListener>()

  /** @param onWatched is called when the first listener comes, and when the last one has gone. */
  constructor(onWatched: (isWatched: boolean) => void) {
    this.#onWatched = onWatched
  }

  /** Keeps events, and tells them to all listeners. */
  publish(events: readonly LiveEvent[]): void {
    for (const event of events) this.#keep(event)
    for (const listener of this.#listeners) listener(events)
  }

  /** @inheritdoc */
  watch(listener: LiveListener): () => void {
    this.#listeners.add(listener)
    if (this.#listeners.size === 1) this.#onWatched(true)
    listener(this.#inOrder())
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#onWatched(false)
    }
  }

  /** Forgets all events, or those that `isStale` says. */
  forget(isStale: (event: LiveEvent) => boolean = () => true): void {
    for (const [group, events] of this.#kept) {
      const left = events.filter((event) => !isStale(event))
      this.#count -= events.length - left.length
      if (left.length === 0) this.#kept.delete(group)
      else this.#kept.set(group, left)
    }
  }

  #keep(event: LiveEvent): void {
    const group = groupOf(event.stream, event.code)
    const events = this.#kept.get(group) ?? []
    this.#kept.delete(group)
    this.#kept.set(group, events)
    events.push(event)
    if (events.length > keptOfEach) events.shift()
    else if (++this.#count > keptInAll) this.#dropQuietest()
  }

  #dropQuietest(): void {
    const [group, events] = this.#kept.entries().next().value!
    events.shift()
    this.#count--
    if (events.length === 0) this.#kept.delete(group)
  }

  #inOrder(): LiveEvent[] {
    return [...this.#kept.values()].flat().toSorted((one, other) => one.timeMs - other.timeMs)
  }
}

/**
 * The last events of this process. Refused ones are always kept, since they are rare, and taken ones while somebody watches.
 * Invariant: in a second at most {@link perSecondOfEach} events of a stream and code are kept, and {@link perSecondInAll} refused ones and
 * as many taken ones of all. So a flood of refusals stays cheap. Events are told ten times a second.
 */
export class LiveEvents implements LiveSource {
  /** Somebody watches. Whoever takes events looks at this before anything else. */
  isWatched = false
  readonly #feed = new LiveFeed((isWatched) => this.#watched(isWatched))
  readonly #process = randomBytes(4).toString('hex')
  #last = 0
  #waiting: LiveEvent[] = []
  /** How many events of this second were admitted, by stream and code. */
  readonly #admitted = new Map<string, number>()
  #taken = 0
  #refused = 0
  #secondBeganAtMs = -Infinity

  /**
   * Whether an event may be shown. To be called before anything is made of the event, and the event is to be shown if it is true.
   * @param code null: the event was taken.
   */
  admits(stream: string | null, code: ErrorCode | null): boolean {
    const nowMs = performance.now()
    if (nowMs - this.#secondBeganAtMs >= 1_000) {
      this.#secondBeganAtMs = nowMs
      this.#taken = this.#refused = 0
      this.#admitted.clear()
    }
    if ((code === null ? this.#taken : this.#refused) >= perSecondInAll) return false
    const group = groupOf(stream, code)
    const admitted = this.#admitted.get(group) ?? 0
    if (admitted >= perSecondOfEach) return false
    if (code === null) this.#taken++
    else this.#refused++
    this.#admitted.set(group, admitted + 1)
    return true
  }

  /** Shows an event that was admitted. */
  show(event: Omit<LiveEvent, 'id' | 'timeMs'>): void {
    this.#waiting.push({ ...event, id: `${this.#process}-${++this.#last}`, timeMs: Date.now() })
    if (this.#waiting.length === 1) setTimeout(() => this.#tell(), tellEveryMs).unref()
  }

  /** @inheritdoc */
  watch(listener: LiveListener): () => void {
    this.#tell()
    return this.#feed.watch(listener)
  }

  #tell(): void {
    const events = this.#waiting
    this.#waiting = []
    if (events.length > 0) this.#feed.publish(events)
  }

  #watched(isWatched: boolean): void {
    this.isWatched = isWatched
    // What was taken unseen is missing among them.
    if (!isWatched) this.#feed.forget(({ fate }) => fate !== 'refused')
  }
}

function groupOf(stream: string | null, code: ErrorCode | null): string {
  return `${stream ?? ''} ${code ?? ''}`
}

/**
 * A text of a client as it may be shown: characters that would move a cursor, hide or turn round text are escaped as in JSON, and
 * what looks like a key of Chute's is left out.
 * @param maxLength in characters, escapes included.
 */
export function shownText(text: string, maxLength: number): string {
  // What is cut off is not looked at, since it can be a megabyte.
  const shown = text
    .slice(0, maxLength + 1)
    .replaceAll(unsafe, escaped)
    .replaceAll(keys, 'chk_…')
  return shown.length <= maxLength ? shown : `${shown.slice(0, maxLength - 1)}…`
}

/** The first {@link shownBytes} bytes of `body` from `start` to `end`, as it may be shown. Bytes that are no UTF-8 become U+FFFD. */
export function shownBody(body: Buffer, start = 0, end = body.length): string {
  const isCut = end - start > shownBytes
  const text = body.toString('utf8', start, isCut ? start + shownBytes : end)
  // The cut may be in the middle of a character.
  return shownText(isCut ? `${text.replace(/\ufffd{1,3}$/, '')}…` : text, shownBytes * longestEscape)
}

function escaped(character: string): string {
  return shortEscapes[character] ?? String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** Controls (C0 and C1), marks that turn round or hide text, line separators, and halves of a character. */
const unsafe =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/gu
/** The form of the keys that `chute keys new` makes. */
const keys = /chk_[a-z]+_\w+/g
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }
const longestEscape = 6

/** So many bytes of an event are shown. */
export const shownBytes = 200
/** Events that are kept of a stream and code. */
export const keptOfEach = 50
/** Events that are kept in all. An event takes up to 2 KB, and some hundred bytes as a rule. */
export const keptInAll = 1_000
/** Events of a stream and code that are shown in a second. */
export const perSecondOfEach = 20
const perSecondInAll = 100
const tellEveryMs = 100
