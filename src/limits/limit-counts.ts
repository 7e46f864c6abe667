import type { LimitedQuantity, RateLimit } from '../config/limits.ts'

/**
 * The counts behind the limits of keys and addresses. Read this file of the folder first. `limits/` counts, in this process, in the primary
 * of several workers, or in a Redis. It knows no HTTP: `routes/policy/rate-limit.ts` says what is charged to whom.
 */
export interface LimitStore {
  /** Charges a request. Calls `done` once, in this turn or a later one. Never throws, and never waits long. */
  charge(charge: Charge, done: (verdict: Verdict) => void): void
  /** As {@link charge}, for a store that counts in this process. null: nothing was charged, since the counts are elsewhere. */
  chargeNow(charge: Charge): Verdict | null
  /** Takes over what another store knows after it has charged a request. */
  adopt(charge: Charge, verdict: Verdict): void
}

/** A store that may be away. */
export interface RemoteLimitStore {
  /** As in {@link LimitStore}. Null: the store is away, or did not answer in time. */
  charge(charge: Charge, done: (verdict: Verdict | null) => void): void
  /** As in {@link LimitStore}. Left out: nobody else counts for what this store counts. */
  adopt?(charge: Charge, verdict: Verdict): void
}

/** Who a request is charged to: a key, an address, or an address that uses a key. */
export interface Subject {
  /** Tells the subject from all others. It is the key of a map, and of a Redis. */
  readonly id: string
  readonly limit: RateLimit
}

/** How much is charged. */
export type Cost = Readonly<Record<LimitedQuantity, number>>

/** One request. Invariant: it is charged to all of its subjects, or to none of them. */
export interface Charge {
  readonly subjects: readonly Subject[]
  readonly cost: Cost
}

/** What a subject has used of its limit. */
export interface Usage extends Readonly<Record<LimitedQuantity, number>> {
  /** For how long the present window has been open, in milliseconds. */
  readonly openMs: number
}

/** What became of a charge. */
export interface Verdict {
  /** The subject whose limit does not allow the charge; -1: all allow it, and were charged. */
  readonly refusedBy: number
  /** By subject. */
  readonly usages: readonly Usage[]
}

/**
 * The counts in the memory of one process. A subject's window begins with the first request after a quiet time. At the end of a window as much
 * is taken off its count as the window allows. So a subject that was quiet may send the amount of `burst` windows at once. The limit comes
 * with each charge, so a limit that is changed holds at once, and the count goes on.
 *
 * There are `capacity` subjects at most. The subject that was not charged for longest is forgotten first.
 */
export class LimitCounts implements LimitStore {
  readonly #capacity: number
  readonly #counts = new Map<string, Count>()
  /** When this turn of the event loop began to charge; -1: it has charged nothing yet. */
  #turnMs = -1
  /** What was charged last. */
  #last = nothing

  constructor(capacity = 50_000) {
    this.#capacity = capacity
  }

  /** @inheritdoc */
  charge(charge: Charge, done: (verdict: Verdict) => void): void {
    done(this.chargeNow(charge))
  }

  /** @inheritdoc */
  chargeNow(charge: Charge): Verdict {
    return this.count(charge, this.#nowMs())
  }

  /** Charges a request at a point in time, which never goes back. */
  count({ subjects, cost }: Charge, nowMs: number): Verdict {
    const counts = this.#countsOf(subjects, nowMs)
    for (let nth = 0; nth < counts.length; nth++)
      if (excessOf(counts[nth]!, subjects[nth]!.limit, cost) !== null)
        return { refusedBy: nth, usages: counts }
    for (const count of counts) {
      count.requests += cost.requests
      count.events += cost.events
      count.bytes += cost.bytes
    }
    return { refusedBy: -1, usages: counts }
  }

  /** @inheritdoc */
  adopt({ subjects }: Charge, { usages }: Verdict): void {
    const nowMs = this.#nowMs()
    for (const [nth, { id, limit }] of subjects.entries()) {
      const { openMs, requests, events, bytes } = usages[nth]!
      Object.assign(this.#countOf(id, limit, nowMs), { startMs: nowMs - openMs, requests, events, bytes })
    }
    this.#last = nothing
  }

  /** One time for all charges of a turn: to ask for the time takes as long as to count, and a request is charged twice. */
  #nowMs(): number {
    if (this.#turnMs === -1) {
      this.#turnMs = performance.now()
      setImmediate(this.#endTurn)
    }
    return this.#turnMs
  }

  readonly #endTurn = (): void => {
    this.#turnMs = -1
  }

  /** A request is charged twice, most often in one turn with no other request in between: then its counts are looked up once. */
  #countsOf(subjects: readonly Subject[], nowMs: number): readonly Count[] {
    if (subjects === this.#last.subjects && nowMs === this.#last.atMs) return this.#last.counts
    // oxlint-disable-next-line unicorn/no-new-array -- an array that grows takes room for 17 elements
    const counts = new Array<Count>(subjects.length)
    for (let nth = 0; nth < subjects.length; nth++) {
      const { id, limit } = subjects[nth]!
      counts[nth] = this.#countOf(id, limit, nowMs)
    }
    this.#last = { subjects, counts, atMs: nowMs }
    return counts
  }

  #countOf(id: string, limit: RateLimit, nowMs: number): Count {
    const known = this.#counts.get(id)
    if (known !== undefined) {
      drain(known, limit, nowMs)
      // Nobody is forgotten soon.
      if (this.#counts.size * 2 < this.#capacity) return known
      // A map keeps the order of insertion, so the subject is the last to be forgotten now.
      this.#counts.delete(id)
    }
    const count = known ?? { startMs: nowMs, openMs: 0, requests: 0, events: 0, bytes: 0 }
    this.#counts.set(id, count)
    if (this.#counts.size > this.#capacity) this.#counts.delete(this.#counts.keys().next().value!)
    return count
  }
}

/** The quantity of a charge that a limit does not allow; null: the limit allows all. */
export function excessOf(
  usage: Readonly<Record<LimitedQuantity, number>>,
  limit: RateLimit,
  cost: Cost,
): LimitedQuantity | null {
  const { requests, events, bytes, burst } = limit
  if (isOver(usage.requests, cost.requests, requests, burst)) return 'requests'
  if (isOver(usage.events, cost.events, events, burst)) return 'events'
  return isOver(usage.bytes, cost.bytes, bytes, burst) ? 'bytes' : null
}

function isOver(used: number, cost: number, quota: number | null, burst: number): boolean {
  return quota !== null && cost > 0 && used + cost > quota * burst
}

/** The counts of subjects at a point in time. */
interface Counted {
  readonly subjects: readonly Subject[]
  readonly counts: readonly Count[]
  readonly atMs: number
}

const nothing: Counted = { subjects: [], counts: [], atMs: -1 }

interface Count extends Usage {
  startMs: number
  openMs: number
  requests: number
  events: number
  bytes: number
}

/** Takes off what the windows that have ended since allow. */
function drain(count: Count, { windowMs, requests, events, bytes }: RateLimit, nowMs: number): void {
  const windows = Math.floor((nowMs - count.startMs) / windowMs)
  if (windows > 0) {
    count.requests = left(count.requests, requests, windows)
    count.events = left(count.events, events, windows)
    count.bytes = left(count.bytes, bytes, windows)
    const isQuiet = count.requests === 0 && count.events === 0 && count.bytes === 0
    count.startMs = isQuiet ? nowMs : count.startMs + windows * windowMs
  }
  count.openMs = nowMs - count.startMs
}

function left(used: number, quota: number | null, windows: number): number {
  return quota === null ? 0 : Math.max(0, used - windows * quota)
}
