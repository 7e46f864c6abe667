import type { ConsumedRecord } from '../consumer/consumer.ts'
import { browserOf, type Browser } from './browser-family.ts'
import { SequenceTrack } from './sequence-track.ts'
import { Timeline, type TimelineBucket } from './timeline.ts'

/** What is known of the events of some sessions. */
export interface ClientFigures {
  readonly sessions: number
  /** Events that are in the topic, each counted once. */
  readonly seen: number
  /** Numbers that are not in the topic, though a later number of their session is. Of sessions that are closed. */
  readonly missing: number
  /** Numbers behind the last one in the topic, by the word of a later session. Of sessions that are closed. */
  readonly missingAtEnd: number
  /** Both kinds, of sessions that are open. Their events may still come. */
  readonly missingOpen: number
  /** Numbers before the first one, of sessions that began before the log's beginning was deleted. Nobody knows whether they were lost. */
  readonly unseen: number
  /** Sessions whose end a later session has told. Of the others nobody knows whether something is missing at the end. */
  readonly endsTold: number
  readonly open: number
  readonly duplicated: number
  /** Events behind a higher number of their session in the same partition. */
  readonly reordered: number
  /** Events of a session that had been silent for longer than the gap of sessions. */
  readonly late: number
}

/** The figures of the sessions that have a property in common: a key's name, a browser or a day. */
export interface ClientGroup extends ClientFigures {
  readonly name: string
}

/** The findings about the sessions in a topic. */
export interface ClientFindings {
  readonly topic: string
  readonly records: number
  /** Records that are no event of a session with a number. */
  readonly unmarked: number
  /** Sessions of which only the word of another session is known, where nobody can say whether they were lost. */
  readonly untraced: number
  /** Sessions that were forgotten for want of room. An event that comes later begins them anew. */
  readonly forgotten: number
  readonly totals: ClientFigures
  readonly byKey: readonly ClientGroup[]
  readonly byBrowser: readonly ClientGroup[]
  readonly byDay: readonly ClientGroup[]
}

/** The report of `chute audit --clients`. */
export interface ClientReport extends ClientFindings {
  readonly readAtMs: number
  readonly sessionGapMs: number
  /** See {@link lossRatioOf}. */
  readonly lossRatio: number | null
  readonly timeline: { readonly widthMs: number; readonly buckets: readonly TimelineBucket[] }
}

/** How the sessions of a topic are read. */
export interface SessionBookOptions {
  /** A session without an event for so long is closed. */
  readonly sessionGapMs: number
  /** So many sessions are remembered. When there are more, the one that was silent for the longest time is forgotten. */
  readonly maxSessions: number
  /** The record header that has the key's name. */
  readonly keyHeader: string
  /** The record header that has the user agent. */
  readonly browserHeader: string
}

type MutableFigures = { -readonly [name in keyof ClientFigures]: number }
type Groups = Map<string, MutableFigures>

/**
 * Takes every record of a topic that the browser client fills, and finds which events of each session are missing. An event has its
 * session and its number in `id` (`SESSION-NUMBER`, from 1 on). The first event of a session has in `before` the last ids of sessions that the same
 * browser had before. The book relies on the topic alone.
 *
 * Invariant: at most `maxSessions` sessions are held, each with at most {@link maxGaps} ranges of missing numbers. What
 * is forgotten stays in the sums.
 */
export class SessionBook {
  readonly #topic: string
  readonly #options: SessionBookOptions
  /** In the order of their last events. */
  readonly #sessions = new Map<string, Session>()
  readonly #timeline = new Timeline()
  /** Sums of the sessions that were forgotten. */
  readonly #past = { byKey: new Map(), byBrowser: new Map(), byDay: new Map() } satisfies Record<By, Groups>
  /** The partitions whose beginning is gone, with the time of the first record that is left. -1: not read yet. */
  readonly #cut = new Map<number, number>()
  #records = 0
  #unmarked = 0
  #untraced = 0
  #forgotten = 0

  /** @param lows offset of the first record that the log still has, by partition. */
  constructor(topic: string, lows: ReadonlyMap<number, number>, options: SessionBookOptions) {
    this.#topic = topic
    this.#options = options
    for (const [partition, low] of lows) if (low > 0) this.#cut.set(partition, -1)
  }

  /** Takes the next record of its partition. */
  take(record: Pick<ConsumedRecord, 'partition' | 'timestampMs' | 'headers' | 'value'>): void {
    const { partition, timestampMs, value } = record
    this.#records++
    if (this.#cut.get(partition) === -1) this.#cut.set(partition, timestampMs)
    const event = readEvent(value)
    if (event === null || !this.#isPlausible(event.session, event.number)) {
      this.#unmarked++
      return
    }
    this.#see(this.#sessionOf(event.session, record), event.number, partition, timestampMs)
    for (const [name, number] of event.before) this.#hear(name, number, record)
    while (this.#sessions.size > this.#options.maxSessions) this.#forgetOldest()
  }

  /** The findings so far. A session without an event for `sessionGapMs` before `nowMs` is closed. */
  findings(nowMs: number): ClientFindings {
    const groups: Record<By, Groups> = {
      byKey: copyOf(this.#past.byKey),
      byBrowser: copyOf(this.#past.byBrowser),
      byDay: copyOf(this.#past.byDay),
    }
    let untraced = this.#untraced
    for (const session of this.#sessions.values()) {
      if (this.#isUntraced(session)) untraced++
      else addTo(groups, session, this.#figuresOf(session, nowMs))
    }
    const totals = noFigures()
    for (const each of groups.byBrowser.values()) add(totals, each)
    return {
      topic: this.#topic,
      records: this.#records,
      unmarked: this.#unmarked,
      untraced,
      forgotten: this.#forgotten,
      totals,
      byKey: listOf(groups.byKey),
      byBrowser: listOf(groups.byBrowser),
      byDay: listOf(groups.byDay),
    }
  }

  /**
   * The findings, with events over time. A loss is at the time of the event that is behind it. The report may be made once, when all is read: it
   * writes the losses into the timeline.
   */
  report(nowMs: number): ClientReport {
    for (const session of this.#sessions.values()) this.#drawLosses(session, nowMs)
    const findings = this.findings(nowMs)
    const { sessionGapMs } = this.#options
    const { widthMs, buckets } = this.#timeline
    const lossRatio = lossRatioOf(findings.totals)
    return { ...findings, readAtMs: nowMs, sessionGapMs, lossRatio, timeline: { widthMs, buckets } }
  }

  #see(session: Session, number: number, partition: number, timestampMs: number): void {
    const { track } = session
    const isLate = track.records > 0 && timestampMs - track.lastAtMs > this.#options.sessionGapMs
    const highest = session.highest.get(partition) ?? 0
    const isDuplicate = track.see(number - 1, timestampMs) === 'duplicate'
    if (isDuplicate) return
    this.#timeline.add(timestampMs, 1, 0)
    if (isLate) session.late++
    if (number < highest) session.reordered++
    else session.highest.set(partition, number)
    if (track.missing.length > maxGaps) session.settled += track.settleFirst()
  }

  #hear(name: string, number: number, record: Origin): void {
    if (!this.#isPlausible(name, number)) return
    const session = this.#sessionOf(name, record)
    session.told = Math.max(session.told, number)
  }

  #isPlausible(session: string, number: number): boolean {
    return number - (this.#sessions.get(session)?.track.last ?? -1) <= maxStep
  }

  /** The session of a name, which becomes the last one to be forgotten. A new one belongs to where it was heard of first. */
  #sessionOf(name: string, record: Origin): Session {
    const known = this.#sessions.get(name)
    const session = known ?? this.#newSession(record)
    if (known !== undefined) this.#sessions.delete(name)
    this.#sessions.set(name, session)
    return session
  }

  #newSession({ headers, timestampMs }: Origin): Session {
    const { keyHeader, browserHeader } = this.#options
    return {
      track: new SequenceTrack(),
      highest: new Map(),
      names: {
        byKey: textOf(headers[keyHeader]) ?? 'none',
        byBrowser: browserOf(textOf(headers[browserHeader])),
        byDay: dayOf(timestampMs),
      },
      heardAtMs: timestampMs,
      // A session that only a word tells of may be one that was forgotten, or one whose records are gone.
      isCertain: this.#forgotten === 0 && this.#cut.size === 0,
      told: 0,
      settled: 0,
      reordered: 0,
      late: 0,
    }
  }

  #figuresOf(session: Session, nowMs: number): ClientFigures {
    const { track, told, settled, reordered, late } = session
    const seen = track.records - track.duplicated
    const unseen = this.#unseenOf(session)
    const missing = track.missingBelow(track.last + 1) + settled - unseen
    const missingAtEnd = Math.max(0, told - (track.last + 1))
    const isOpen = this.#isOpen(session, nowMs)
    return {
      sessions: 1,
      seen,
      missing: isOpen ? 0 : missing,
      missingAtEnd: isOpen ? 0 : missingAtEnd,
      missingOpen: isOpen ? missing + missingAtEnd : 0,
      unseen,
      endsTold: told > 0 ? 1 : 0,
      open: isOpen ? 1 : 0,
      duplicated: track.duplicated,
      reordered,
      late,
    }
  }

  #isOpen({ track, heardAtMs }: Session, nowMs: number): boolean {
    return nowMs - Math.max(track.lastAtMs, heardAtMs) < this.#options.sessionGapMs
  }

  #isUntraced({ track, isCertain }: Session): boolean {
    return track.records === 0 && !isCertain
  }

  /** A session near the beginning of what is left of the log may have begun before. */
  #unseenOf({ track }: Session): number {
    const head = track.missing[0]
    if (head?.from !== 0 || this.#cut.size === 0) return 0
    const beginsAtMs = Math.max(...this.#cut.values())
    return track.firstAtMs - beginsAtMs < this.#options.sessionGapMs ? head.to + 1 : 0
  }

  #drawLosses(session: Session, nowMs: number): void {
    if (this.#isUntraced(session) || this.#isOpen(session, nowMs)) return
    const { track, told, heardAtMs } = session
    const unseen = this.#unseenOf(session)
    for (const { from, to, atMs } of track.missing) {
      if (unseen === 0 || from > 0) this.#timeline.add(atMs, 0, to - from + 1)
    }
    const atEnd = told - (track.last + 1)
    if (atEnd > 0) this.#timeline.add(track.lastAtMs || heardAtMs, 0, atEnd)
  }

  #forgetOldest(): void {
    const [name, session] = this.#sessions.entries().next().value!
    this.#sessions.delete(name)
    this.#forgotten++
    if (this.#isUntraced(session)) {
      this.#untraced++
      return
    }
    addTo(this.#past, session, this.#figuresOf(session, Infinity))
    this.#drawLosses(session, Infinity)
  }
}

/** What the sessions are counted by. */
type By = 'byKey' | 'byBrowser' | 'byDay'

type Origin = Pick<ConsumedRecord, 'timestampMs' | 'headers'>

interface Session {
  readonly track: SequenceTrack
  /** The highest number in each partition. */
  readonly highest: Map<number, number>
  readonly names: { readonly byKey: string; readonly byBrowser: Browser; readonly byDay: string }
  readonly heardAtMs: number
  readonly isCertain: boolean
  /** The session's last number, by the word of a later session. 0: nobody has told it. */
  told: number
  /** Missing numbers of ranges that are no longer held. */
  settled: number
  reordered: number
  late: number
}

interface SessionEvent {
  readonly session: string
  readonly number: number
  readonly before: readonly [session: string, number: number][]
}

/** Reads an event of the browser client; null if the value is none. */
function readEvent(value: Buffer | null): SessionEvent | null {
  if (value === null) return null
  let event: unknown
  try {
    event = JSON.parse(value.toString())
  } catch {
    return null
  }
  if (typeof event !== 'object' || event === null) return null
  const { id, session, before } = event as Readonly<Record<string, unknown>>
  const own = readId(id)
  if (own === null || own[0] !== session) return null
  const words = Array.isArray(before) ? before.slice(0, maxWords).map(readId) : []
  return { session, number: own[1], before: words.filter((word) => word !== null) }
}

/** Reads `SESSION-NUMBER`; null if the text is no such id. */
function readId(id: unknown): [session: string, number: number] | null {
  if (typeof id !== 'string' || id.length > maxIdLength) return null
  const parts = /^(.+)-([1-9]\d{0,8})$/.exec(id)
  return parts === null ? null : [parts[1]!, Number(parts[2])]
}

/** The day of a time, in UTC. Whoever writes a record may give it a time that is beyond all dates. */
function dayOf(timestampMs: number): string {
  const date = new Date(timestampMs)
  return Number.isNaN(date.getTime()) ? 'none' : date.toISOString().slice(0, 10)
}

function textOf(header: Buffer | readonly Buffer[] | undefined): string | null {
  const value = Buffer.isBuffer(header) ? header : header?.[0]
  return value === undefined ? null : value.toString()
}

function noFigures(): MutableFigures {
  return {
    sessions: 0,
    seen: 0,
    missing: 0,
    missingAtEnd: 0,
    missingOpen: 0,
    unseen: 0,
    endsTold: 0,
    open: 0,
    duplicated: 0,
    reordered: 0,
    late: 0,
  }
}

const figureNames = Object.keys(noFigures()) as readonly (keyof ClientFigures)[]

function add(sum: MutableFigures, figures: ClientFigures): void {
  for (const name of figureNames) sum[name] += figures[name]
}

function addTo(groups: Record<By, Groups>, { names }: Session, figures: ClientFigures): void {
  for (const by of ['byKey', 'byBrowser', 'byDay'] as const) {
    const known = groups[by].get(names[by])
    const name = known === undefined && groups[by].size >= maxGroups ? 'other' : names[by]
    const sum = groups[by].get(name) ?? noFigures()
    add(sum, figures)
    groups[by].set(name, sum)
  }
}

function copyOf(groups: Groups): Groups {
  return new Map(Array.from(groups, ([name, figures]) => [name, { ...figures }]))
}

function listOf(groups: Groups): ClientGroup[] {
  const list = Array.from(groups, ([name, figures]) => ({ name, ...figures }))
  return list.toSorted((one, other) => (one.name < other.name ? -1 : 1))
}

/** Missing events as a part of all that are known of, 0 to 1; null if none is known of. */
export function lossRatioOf({ seen, missing, missingAtEnd }: ClientFigures): number | null {
  const lost = missing + missingAtEnd
  return seen + lost === 0 ? null : lost / (seen + lost)
}

/** Ranges of missing numbers of one session. */
const maxGaps = 1_000
/** A number that is further behind the last one is no number of a browser client. Anyone may write one who has a public key. */
const maxStep = 100_000
/** Words that an event may have: one for each tab of the browser. */
const maxWords = 100
const maxIdLength = 255
/** Rows of a table. */
const maxGroups = 1_000
