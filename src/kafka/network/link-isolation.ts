/**
 * Which topics are written to over connections of their own for a while, since their writes may end the connection that they share, or hold
 * it up.
 *
 * A broker ends a connection on any error of an acks=0 write, and does not say which topic it was. Two things tell:
 * - A broker that is asked for an answer refuses a topic that was written to when the connection ended. That topic is set apart by name.
 * - A broker ends the connection twice within a minute, though it can be reached at once each time. Then each topic that was written to both
 *   times is set apart. The one that ends its own connection once more is set apart for twice as long, and the others come back.
 *
 * If each write is answered, no error ends a connection, except for a request that the broker cannot read. But a broker answers a write when
 * the replicas have its records. A topic whose replicas did not have them in time is set apart by name at once.
 *
 * All times are by `performance.now()`.
 */
export class LinkIsolation {
  readonly #onApart: (event: SetApart) => void
  readonly #apart = new Map<string, Apart>()
  /** The last ends of shared connections, by broker. */
  readonly #cuts = new Map<string, Cut>()

  /** @param onApart is called when topics are set apart. */
  constructor(onApart: (event: SetApart) => void) {
    this.#onApart = onApart
  }

  /** Until when the topic has connections of its own; 0: it shares. */
  apartUntilMs(topic: string, nowMs: number): number {
    const untilMs = this.#apart.get(topic)?.untilMs ?? 0
    return untilMs > nowMs ? untilMs : 0
  }

  /**
   * The topic was set apart a moment ago, and is about to leave the shared connection. The moment is a twelfth of its time apart, so 5 s at first.
   * If the topic gets no connection of its own by then, it goes on over the shared one.
   */
  isLeaving(topic: string, nowMs: number): boolean {
    const apart = this.#apart.get(topic)
    return apart !== undefined && nowMs < apart.untilMs - (11 / 12) * apart.forMs
  }

  /**
   * A connection ended. @param topics those that had been written to without an answer since.
   * @param isShared false: the connection was the topic's own.
   */
  cut(broker: string, topics: readonly string[], isShared: boolean, nowMs: number): void {
    if (topics.length === 0) return
    if (!isShared) return this.#cutAgain(topics[0]!, broker, nowMs)
    const before = this.#cuts.get(broker)
    const now = new Set(topics)
    this.#cuts.set(broker, { atMs: nowMs, topics: now })
    if (before === undefined || nowMs - before.atMs > suspicionMs) return
    const both = topics.filter((topic) => before.topics.has(topic))
    if (both.length === 0) return
    this.#cuts.delete(broker)
    for (const topic of both) this.#setApart(topic, nowMs)
    this.#onApart({ why: 'cut', broker, topics: both, kafkaError: null, forMs: firstApartMs })
  }

  /** The broker cannot be reached, so it was not a topic that ended the connection. */
  unreachable(broker: string): void {
    this.#cuts.delete(broker)
  }

  /** A broker refused a write to the topic, and answered why. A refusal that says that another broker leads is none. */
  refused(topic: string, kafkaError: string, nowMs: number): void {
    if (this.apartUntilMs(topic, nowMs) > 0) return
    for (const [broker, { atMs, topics }] of this.#cuts) {
      if (nowMs - atMs > suspicionMs || !topics.has(topic)) continue
      this.#cuts.delete(broker)
      const forMs = this.#setApart(topic, nowMs)
      return this.#onApart({ why: 'refused', broker, topics: [topic], kafkaError, forMs })
    }
  }

  /**
   * The replicas of topics did not have a write in time, so that the other topics of the request waited for them. Several brokers and several
   * requests tell the same. So nothing changes for a topic that is leaving.
   */
  heldUp(topics: Iterable<string>, kafkaError: string, nowMs: number): void {
    const told: string[] = []
    let longestMs = 0
    for (const topic of new Set(topics)) {
      if (this.isLeaving(topic, nowMs)) continue
      const isNew = this.apartUntilMs(topic, nowMs) === 0
      const forMs = this.#setApart(topic, nowMs)
      if (!isNew) continue
      told.push(topic)
      longestMs = Math.max(longestMs, forMs)
    }
    if (told.length > 0)
      this.#onApart({ why: 'held-up', broker: null, topics: told, kafkaError, forMs: longestMs })
  }

  /** A topic that is set apart ended its own connection. */
  #cutAgain(topic: string, broker: string, nowMs: number): void {
    const apart = this.#apart.get(topic)
    if (apart === undefined || apart.untilMs < nowMs) return
    const isFirst = apart.forMs === firstApartMs
    const forMs = this.#setApart(topic, nowMs)
    if (isFirst) this.#onApart({ why: 'cut', broker, topics: [topic], kafkaError: null, forMs })
  }

  /** @returns for how long. */
  #setApart(topic: string, nowMs: number): number {
    const before = this.#apart.get(topic)
    const isAgain = before !== undefined && nowMs - before.untilMs < longestApartMs
    const forMs = isAgain ? Math.min(2 * before.forMs, longestApartMs) : firstApartMs
    this.#apart.set(topic, { untilMs: nowMs + forMs, forMs })
    return forMs
  }
}

/** Topics are set apart. */
export interface SetApart {
  /** `cut`: the broker ended connections without a word. `refused`: it ended one, and refused the topic. `held-up`: the replicas are slow. */
  readonly why: 'cut' | 'refused' | 'held-up'
  /** null: any. */
  readonly broker: string | null
  readonly topics: readonly string[]
  /** With which error the broker answered a write to the topic; null: it ended connections without a word. */
  readonly kafkaError: string | null
  /** The longest time of the topics. */
  readonly forMs: number
}

interface Apart {
  readonly untilMs: number
  readonly forMs: number
}

interface Cut {
  readonly atMs: number
  readonly topics: ReadonlySet<string>
}

/** An end of a connection and what follows within this time belong together. */
const suspicionMs = 60_000
/** How long a topic is set apart for the first time. Each further time is twice as long. */
const firstApartMs = 60_000
const longestApartMs = 600_000
