import { setTimeout as pause } from 'node:timers/promises'
import type { DedupeStoreConfig } from '../config/config.ts'
import type { Logger } from '../logger.ts'
import type { Producer } from '../kafka/producer/producer.ts'
import type { DedupeStore } from './dedupe-store.ts'
import { Deduplicator } from './deduplicator.ts'
import { MemoryDedupeStore } from './memory-dedupe-store.ts'
import { openDedupeLink, RedisDedupeStore, type DedupeOperation } from './redis-dedupe-store.ts'
import type { RedisLink } from '../redis-link.ts'
import type { RedisScript } from './redis-scripts.ts'

/**
 * The deduplicators of all streams that have `dedupe: on`. A durable stream has its keys on disk beside the records. The keys that
 * an earlier process left there are known again, to the shared store too. To be made before anything is accepted.
 */
export class Deduplicators {
  /** By the stream's name. */
  readonly byStream = new Map<string, Deduplicator>()
  readonly #store: DedupeStoreConfig | null
  readonly #link: RedisLink<RedisScript> | null
  readonly #shared = new Map<string, RedisDedupeStore>()
  /** What was counted of streams that are gone, by name. A stream of the same name goes on with it: no counter goes back. */
  readonly #left = new Map<string, Pick<StreamStats, 'forgotten' | 'failures'>>()
  readonly #logger: Logger

  /** @param store the store that several gateways share; null: the memory of this process. */
  constructor(producers: Iterable<Producer>, store: DedupeStoreConfig | null, logger: Logger) {
    this.#logger = logger
    this.#store = store
    this.#link = store === null ? null : openDedupeLink(store, logger)
    for (const producer of producers) this.open(producer)
  }

  /** Makes the deduplicator of a stream, before anything is accepted there. @returns null: the stream tells no duplicates. */
  open({ stream, durability }: Producer): Deduplicator | null {
    if (stream.dedupe === null) return null
    const { windowMs, maxEntries } = stream.dedupe
    const keys = this.#openStore(stream.name, maxEntries)
    const isShared = this.#store !== null
    const opened = new Deduplicator({ store: keys, windowMs, journal: durability, isShared })
    this.byStream.set(stream.name, opened)
    return opened
  }

  /** Forgets a stream that is gone, when a shared store knows all of its keys or cannot be told. */
  async leave(name: string): Promise<void> {
    const [shared, opened] = [this.#shared.get(name), this.byStream.get(name)]
    const waits = (): boolean => this.#link?.isUp === true && (shared?.waiting ?? 0) > 0
    while (waits()) await pause(leavingLookMs)
    shared?.close()
    // A stream of the name can have been opened meanwhile.
    if (this.byStream.get(name) !== opened) return
    const counted = this.#statsOf(name)
    if (counted !== null) this.#left.set(name, counted)
    this.#shared.delete(name)
    this.byStream.delete(name)
  }

  /** The numbers of all streams at this moment. */
  get stats(): DedupeStats {
    return {
      isStoreUp: this.#link?.isUp ?? null,
      streams: [...new Set([...this.byStream.keys(), ...this.#left.keys()])].flatMap(
        (name) => this.#statsOf(name) ?? [],
      ),
    }
  }

  #statsOf(stream: string): StreamStats | null {
    const [stats, left] = [this.byStream.get(stream)?.stats, this.#left.get(stream)]
    if (stats === undefined && left === undefined) return null
    const { entries = 0, forgotten = 0 } = stats ?? {}
    const counted = { stream, entries, forgotten: forgotten + (left?.forgotten ?? 0) }
    if (this.#store === null) return { ...counted, waiting: null, failures: null }
    const shared = this.#shared.get(stream)
    const [now, before] = [shared?.failures ?? noFailures, left?.failures ?? noFailures]
    const failures = {
      claim: now.claim + before.claim,
      keep: now.keep + before.keep,
      release: now.release + before.release,
    }
    return { ...counted, entries: null, waiting: shared?.waiting ?? 0, failures }
  }

  /** Connects to the shared store, if there is one, in the background. */
  start(): void {
    this.#link?.start()
  }

  /** Waits until the shared store, if there is one, knows all keys, and until `deadlineMs` at most: it may be away. */
  async told(deadlineMs: number): Promise<void> {
    while (this.#waiting > 0 && performance.now() < deadlineMs) await pause(leavingLookMs)
  }

  /** Keys that the shared store does not know yet. */
  get #waiting(): number {
    return [...this.#shared.values()].reduce((sum, each) => sum + each.waiting, 0)
  }

  /** To be called when nothing is accepted any more. Keys that the shared store was not told of by `deadlineMs` are lost. */
  async close(deadlineMs: number): Promise<void> {
    while (this.#link?.isUp === true && this.#waiting > 0 && performance.now() < deadlineMs) await pause(2)
    const keys = this.#waiting
    if (keys > 0) this.#logger.warn({ keys }, 'Redis was not told of all that was accepted')
    this.abort()
  }

  /** Ends at once. */
  abort(): void {
    for (const each of this.#shared.values()) each.close()
    this.#link?.close()
  }

  #openStore(stream: string, maxEntries: number): DedupeStore {
    const store = this.#store
    if (store === null || this.#link === null) return new MemoryDedupeStore(maxEntries)
    const { prefix, leaseMs } = store
    const link = this.#link
    const shared = new RedisDedupeStore({ link, stream, prefix, leaseMs, maxWaiting: maxEntries })
    this.#shared.set(stream, shared)
    return shared
  }
}

const leavingLookMs = 50
const noFailures: Readonly<Record<DedupeOperation, number>> = { claim: 0, keep: 0, release: 0 }

/** The numbers of de-duplication at one moment. `metrics/dedupe-metrics.ts` shows them. */
export interface DedupeStats {
  /** Whether the shared store answers; null where there is no shared store. */
  readonly isStoreUp: boolean | null
  /** Those that are gone, too. */
  readonly streams: readonly StreamStats[]
}

interface StreamStats {
  readonly stream: string
  /** Keys that are known; null where only the shared store knows. */
  readonly entries: number | null
  /** Keys that were forgotten before their time. */
  readonly forgotten: number
  /** Keys that the shared store was not told of yet; null where there is no shared store. */
  readonly waiting: number | null
  /** Keys that the shared store did not take, by the operation that failed; null where there is no shared store. */
  readonly failures: Readonly<Record<DedupeOperation, number>> | null
}
