import type { Durability } from '../kafka/producer/producer.ts'
import {
  hasOtherContent,
  isBusy,
  mayClaim,
  type ClaimListener,
  type DedupeKey,
  type DedupeStore,
  type Found,
} from './dedupe-store.ts'
import { isOlderName, Round, type DedupeRequest, type Fate } from './claim-round.ts'
import { eachInTurn, inParts, type Step } from './steps.ts'

/** Where a durable stream keeps keys beside their records, so that a crash takes both or neither. */
export type DedupeJournal = Pick<Durability, 'note' | 'noteLater' | 'readNotes' | 'left'>

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
  readonly #partKeys: number

  constructor(options: DeduplicatorOptions) {
    this.#options = options
    this.#partKeys = options.partKeys ?? usualPartKeys
    const { journal, windowMs, store, isShared } = options
    if (isShared) this.#olderUntilMs = performance.now() + windowMs
    if (journal === null) return
    this.#readNotes(
      journal,
      (key, until) => store.learn(key, until),
      (name) => store.unlearn(name),
    )
    for (const left of journal.left ?? []) {
      // What one process released, another one may have accepted later. So a release counts for its own journal only.
      const keys = new Map<string, { readonly key: DedupeKey; readonly until: number }>()
      const learn = (key: DedupeKey, until: number): void => void keys.set(key.name, { key, until })
      this.#readNotes(left, learn, (name) => keys.delete(name))
      for (const { key, until } of keys.values()) store.learn(key, until)
    }
  }

  #readNotes(
    journal: Pick<DedupeJournal, 'readNotes'>,
    learn: (key: DedupeKey, untilMs: number) => void,
    unlearn: (name: string) => void,
  ): void {
    const { windowMs } = this.#options
    journal.readNotes(windowMs, (name, value, untilMs) => {
      // Only the wall clock goes on from one process to the next. If it was set back, a key is kept for one window at most.
      const leftMs = Math.min(untilMs - Date.now(), windowMs)
      if (leftMs <= 0) return
      const until = performance.now() + leftMs
      const fingerprint = value.toString('latin1')
      if (fingerprint === released) unlearn(name)
      else learn({ name, fingerprint }, until)
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
   * @param begin given for a request of many events: begins a step in a turn of its own. The keys are claimed in parts, so that the
   * request holds up no other. A request that comes between two parts finds the keys of the parts before it busy. If a part
   * cannot be claimed, the parts before it are released.
   */
  claim(
    request: DedupeRequest,
    done: (error: Error | null, verdict: Verdict | null) => void,
    begin: ((step: Step) => void) | null = null,
  ): void {
    const round = new Round(request, performance.now() < this.#olderUntilMs)
    const count = request.events === null ? 0 : request.events.length
    const decide = (error: Error | null, answer: Answer | null): void => {
      if (answer === null) done(error, null)
      else this.#decide(round, answer, begin, done)
    }
    if (begin === null) {
      round.addEvents(0, count)
      this.#claimAtOnce(round.keys, round.older, decide)
    } else {
      const addEvents = (from: number, to: number): void => round.addEvents(from, to)
      begin(inParts(count, this.#partKeys, addEvents, this.#inParts(round.keys, round.older, begin, decide)))
    }
  }

  #claimAtOnce(keys: readonly DedupeKey[], asked: readonly DedupeKey[], done: AnswerListener): void {
    this.#options.store.claim(
      keys,
      (error, all, claim) => {
        if (error !== null) return done(error, null)
        const isClaimed = mayClaim(all, keys.length)
        const [found, foundAsked] = asked.length === 0 ? [all, none] : split(all, keys.length)
        done(null, { found, asked: foundAsked, claim: isClaimed ? this.#claimOf(claim, keys, found) : null })
      },
      asked,
    )
  }

  /** Claims keys a part a step. The answer is that of {@link #claimAtOnce}, except that nothing is asked for behind a busy key. */
  #inParts(
    keys: readonly DedupeKey[],
    asked: readonly DedupeKey[],
    begin: (step: Step) => void,
    done: AnswerListener,
  ): Step {
    const answer = { found: [] as Found[], asked: [] as Found[], claim: null as Claim | null }
    let parts: Claim[] = []
    let isFree = true
    const end = (error: Error | null): Step => {
      if (isFree && error === null) answer.claim = new Claim(this.#options, noClaim, [], parts)
      return () => {
        done(error, error === null ? answer : null)
        return undefined
      }
    }
    const answered = (from: number, all: readonly Found[], claim: number): Step => {
      const to = from + this.#partKeys
      const part = keys.slice(from, to)
      const [found, foundAsked] = split(all, part.length)
      answer.found.push(...found)
      answer.asked.push(...foundAsked)
      if (isFree && mayClaim(all, part.length)) parts.push(this.#claimOf(claim, part, found))
      else isFree = false
      const isLast = to >= Math.max(keys.length, asked.length) || all.some(isBusy)
      const next = isLast ? end(null) : (): Step | undefined => claimPart(to)
      if (isFree || parts.length === 0) return next
      const taken = parts
      parts = []
      return releaseInParts(taken, next)
    }
    const claimPart = (from: number): Step | undefined => {
      const part = keys.slice(from, from + this.#partKeys)
      const partAsked = asked.slice(from, from + this.#partKeys)
      let isAtOnce = true
      let next: Step | undefined
      const listener: ClaimListener = (error, all, claim) => {
        const step = error === null ? answered(from, all, claim) : releaseInParts(parts, end(error))
        if (isAtOnce) next = step
        else begin(step)
      }
      if (isFree) this.#options.store.claim(part, listener, partAsked)
      else this.#options.store.claim([], listener, part.concat(partAsked))
      isAtOnce = false
      return next
    }
    return () => claimPart(0)
  }

  /** The new ones of keys that a claim got. */
  #claimOf(claim: number, keys: readonly DedupeKey[], found: readonly Found[]): Claim {
    const isAllNew = found.every((each) => each === 'new')
    return new Claim(this.#options, claim, isAllNew ? keys : keys.filter((_, nth) => found[nth] === 'new'))
  }

  #decide(
    round: Round,
    { found, asked, claim }: Answer,
    begin: ((step: Step) => void) | null,
    done: (error: Error | null, verdict: Verdict | null) => void,
  ): void {
    if (round.hasKey && hasOtherContent(found[0]!)) return done(null, { kind: 'reused' })
    if (found.some(isBusy) || asked.some(isBusy)) return done(null, { kind: 'busy' })
    round.found = found
    if (round.older.length > 0) round.seenOlder = this.#seenOlder(round.older, asked)
    if (claim !== null) this.#conclude(round, claim, begin, done)
    else this.#claimOthers(round, begin, done)
  }

  /**
   * Some events have an id that was accepted before with other content. Claims the other new keys. Asks whether the accepted
   * content is another one that this request has under the same id. Nothing was claimed before.
   */
  #claimOthers(
    round: Round,
    begin: ((step: Step) => void) | null,
    done: (error: Error | null, verdict: Verdict | null) => void,
  ): void {
    const others = round.keys.filter((_, nth) => round.found[nth] !== 'reused')
    const contents: DedupeKey[] = []
    const met = new Set<string>()
    const addContents = (from: number, to: number): void => {
      for (const event of round.reusedEvents(from, to)) {
        const content = `${event.fingerprint} ${event.name}`
        if (met.has(content)) continue
        met.add(content)
        contents.push(event)
      }
    }
    const decide = (error: Error | null, answer: Answer | null): void => {
      if (answer === null) return done(error, null)
      const { found, asked, claim } = answer
      const isSettled =
        found.every((each) => !isBusy(each) && !hasOtherContent(each)) &&
        asked.every((each) => !isBusy(each) && each !== 'new')
      if (claim !== null && isSettled) {
        round.settle(found, contents, asked)
        return this.#conclude(round, claim, begin, done)
      }
      // The keys have changed since the first question. The client tries again.
      const busy = (): void => done(null, { kind: 'busy' })
      if (claim === null) busy()
      else this.#release(claim, begin, busy)
    }
    if (begin === null) {
      addContents(0, round.events.length)
      this.#claimAtOnce(others, contents, decide)
    } else {
      const claimOthers = this.#inParts(others, contents, begin, decide)
      begin(inParts(round.events.length, this.#partKeys, addContents, claimOthers))
    }
  }

  /** The verdict on a request of which all new keys are claimed. */
  #conclude(
    round: Round,
    claim: Claim,
    begin: ((step: Step) => void) | null,
    done: (error: Error | null, verdict: Verdict | null) => void,
  ): void {
    // The usual case: each id comes once, and is new.
    if (round.isAllNew) return done(null, { kind: 'claimed', fates: null, claim })
    const count = round.events.length
    const judge = (from: number, to: number): void => round.judge(from, to)
    const end = (): undefined => this.#judged(round, claim, begin, done)
    if (begin !== null) return begin(inParts(count, this.#partKeys, judge, end))
    judge(0, count)
    end()
  }

  #judged(
    { isReplay, fates, acceptedByOlder }: Round,
    claim: Claim,
    begin: ((step: Step) => void) | null,
    done: (error: Error | null, verdict: Verdict | null) => void,
  ): undefined {
    if (isReplay) {
      const verdict: Verdict = { kind: 'replay', fates: fates.length === 0 ? null : fates }
      this.#release(claim, begin, () => done(null, verdict))
      return
    }
    // The key of the older version stays, and is enough.
    const ours = acceptedByOlder.size === 0 ? claim : claim.without(acceptedByOlder)
    done(null, { kind: 'claimed', fates: fates.every((fate) => fate === 'new') ? null : fates, claim: ours })
  }

  #release(claim: Claim, begin: ((step: Step) => void) | null, done: () => void): void {
    if (begin === null) {
      claim.release()
      done()
    } else {
      begin(
        releaseInParts(claim.parts, () => {
          done()
          return undefined
        }),
      )
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
  /** Keys of a request of many events that are claimed in one step, which takes about a millisecond; 1,000 unless given. */
  readonly partKeys?: number
}

/** What a request turns out to be. `fates` are those of its events; null: all events have the fate that the kind says. */
export type Verdict =
  | { readonly kind: 'busy' | 'reused' }
  | { readonly kind: 'replay'; readonly fates: readonly Fate[] | null }
  | { readonly kind: 'claimed'; readonly fates: readonly Fate[] | null; readonly claim: Claim }

/** What the store answered. */
interface Answer {
  /** What each key is; of those behind a busy one it may not be known. */
  readonly found: readonly Found[]
  /** What those are that were only asked for. */
  readonly asked: readonly Found[]
  /** The new keys; null: none of them is claimed. */
  readonly claim: Claim | null
}

type AnswerListener = (error: Error | null, answer: Answer | null) => void

function releaseInParts(parts: readonly Claim[], next: Step): Step {
  return eachInTurn(parts, (part) => part.release(), next)
}

function split(all: readonly Found[], count: number): [readonly Found[], readonly Found[]] {
  return [all.slice(0, count), all.slice(count)]
}

const usualPartKeys = 1_000
const none: readonly Found[] = []
const noParts: readonly Claim[] = []
const noNames: ReadonlySet<string> = new Set()
/** Stands in the place of a claim's number: the claim has parts, and no keys of its own. */
const noClaim = -1

/**
 * The keys that one request has claimed. Ends with {@link keep} or with {@link release}. A kept claim can be released later. A large
 * one has parts, which may be noted, kept and released one by one.
 */
export class Claim {
  readonly parts: readonly Claim[]
  readonly #options: DeduplicatorOptions
  readonly #number: number
  readonly #keys: readonly DedupeKey[]
  /** When the notes of the keys may be forgotten, by the wall clock; 0: there are no notes. */
  #notedUntilMs = 0
  #isKept = false

  constructor(
    options: DeduplicatorOptions,
    number: number,
    keys: readonly DedupeKey[],
    parts: readonly Claim[] = noParts,
  ) {
    this.#options = options
    this.#number = number
    this.#keys = keys
    this.parts = parts
  }

  /** Releases those of the keys that have the given names. @returns a claim of the others. */
  without(names: ReadonlySet<string>): Claim {
    const left = this.#keys.filter(({ name }) => names.has(name))
    if (left.length > 0) this.#options.store.release(this.#number, left)
    const others = this.#keys.filter(({ name }) => !names.has(name))
    const parts = this.parts.map((part) => part.without(names))
    return new Claim(this.#options, this.#number, others, parts)
  }

  /**
   * Writes the keys beside the records.
   * @param journal where the records are. Unless it is the commit of this request alone, the call is made after the last record was
   * appended, in the same turn of the event loop.
   */
  note(journal: Pick<DedupeJournal, 'note'> | null = this.#options.journal): void {
    this.#notedUntilMs = Date.now() + this.#options.windowMs
    for (const { name, fingerprint } of this.#keys)
      journal?.note(name, Buffer.from(fingerprint, 'latin1'), this.#notedUntilMs)
    for (const part of this.parts) part.note(journal)
  }

  /** The request was accepted: a request with these keys is a repetition from now on. */
  keep(): void {
    const { store, windowMs } = this.#options
    this.#isKept = true
    if (this.#keys.length > 0) store.keep(this.#number, this.#keys, performance.now() + windowMs)
    for (const part of this.parts) part.keep()
  }

  /**
   * The request was refused, or its records are lost and the client is told so: a retry must be accepted.
   * @param except names of keys that stay kept.
   */
  release(except: ReadonlySet<string> = noNames): void {
    const { store, journal } = this.#options
    const keys = except.size === 0 ? this.#keys : this.#keys.filter(({ name }) => !except.has(name))
    if (keys.length > 0) store.release(this.#number, keys)
    for (const part of this.parts) part.release(except)
    // The keys are on disk. After a restart they must not be taken for accepted.
    if (this.#isKept && this.#notedUntilMs > 0)
      for (const { name } of keys) journal?.noteLater(name, Buffer.from(released), this.#notedUntilMs)
  }
}

/** Stands in the place of a fingerprint, and is none: the key was released after it was kept. */
const released = '-'
