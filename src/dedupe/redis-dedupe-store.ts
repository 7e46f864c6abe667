import { randomBytes } from 'node:crypto'
import type { DedupeKey, DedupeStore, Found } from './dedupe-store.ts'
import type { RedisLink, RedisLinkUser } from './redis-link.ts'

/**
 * The keys of one stream in Redis (or Valkey), for all gateways that share it. While it cannot be reached, claims fail at
 * once; what was accepted waits here and is told as soon as it is back, before any new claim.
 *
 * A claim has a lease, which is renewed for as long as its gateway lives: one that dies with a claim holds the key no longer
 * than that. Each claim carries its owner and a number, so that nobody ends another's.
 */
export class RedisDedupeStore implements DedupeStore, RedisLinkUser {
  readonly #options: RedisDedupeStoreOptions
  readonly #owner = randomBytes(9).toString('base64url')
  /** What this gateway has claimed, and what the claim's value begins with. */
  readonly #claimed = new Map<string, { readonly fingerprint: string; readonly mark: string }>()
  /** What Redis has not confirmed yet, oldest first: sent again, in this order, where the connection ends before it has. */
  readonly #waiting = new Set<Write>()
  readonly #renewTimer: NodeJS.Timeout
  #claims = 0
  /** What waits is on its way; otherwise {@link resume} sends it. */
  #isFlowing = false
  readonly size = null
  forgotten = 0
  /** Keys of which Redis did not take what it was to do. Keeps and releases are sent again. */
  readonly failures: Record<DedupeOperation, number> = { claim: 0, keep: 0, release: 0 }

  constructor(options: RedisDedupeStoreOptions) {
    this.#options = options
    options.link.use(this)
    this.#renewTimer = setInterval(() => {
      if (this.#isFlowing) this.#renewClaims().catch(alreadyTold)
    }, options.leaseMs / 3).unref()
  }

  /** Keys of which Redis is still to be told something. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** @inheritdoc */
  claim(keys: readonly DedupeKey[], done: (error: Error | null, found: readonly Found[]) => void): void {
    if (keys.length === 0) done(null, [])
    else if (this.#options.link.isUp) void this.#ask(keys, done)
    else {
      this.failures.claim += keys.length
      done(new Error('Redis is away'), [])
    }
  }

  /** @inheritdoc */
  keep(keys: readonly DedupeKey[], untilMs: number): void {
    this.#write(
      keys.map(({ name, fingerprint }): Write => {
        // What was not claimed here is what an earlier process accepted.
        const what = this.#claimed.delete(name) ? 'keep' : 'learn'
        return { what, name, value: `k:${this.#owner}::${fingerprint}`, untilMs }
      }),
    )
  }

  /** @inheritdoc */
  release(keys: readonly DedupeKey[]): void {
    this.#write(
      keys.map(({ name }) => {
        const write = releaseOf(name, this.#claimed.get(name)?.mark ?? noMark)
        this.#claimed.delete(name)
        return write
      }),
    )
  }

  /** @inheritdoc */
  async resume(): Promise<void> {
    while (this.#waiting.size > 0) await this.#send(this.#oldestWaiting())
    this.#isFlowing = true
    await this.#renewClaims()
  }

  /** @inheritdoc */
  suspend(): void {
    this.#isFlowing = false
  }

  /** No claim is renewed any more. */
  close(): void {
    clearInterval(this.#renewTimer)
  }

  async #ask(
    keys: readonly DedupeKey[],
    done: (error: Error | null, found: readonly Found[]) => void,
  ): Promise<void> {
    const { link, leaseMs } = this.#options
    // Whatever Redis says of these: it may have lost them, or was away for longer than the lease.
    const isOurs = keys.some(({ name }) => this.#claimed.has(name))
    const mark = `c:${this.#owner}:${this.#claims++}:`
    const args = [isOurs ? '' : mark, String(leaseMs), ...keys.map(({ fingerprint }) => fingerprint)]
    let reply: readonly Found[]
    try {
      reply = (await link.run('claim', this.#redisKeys(keys), args)) as Found[]
    } catch (error) {
      this.failures.claim += keys.length
      // It may have been claimed all the same.
      if (!isOurs) this.#write(keys.map(({ name }) => releaseOf(name, mark)))
      return done(error as Error, [])
    }
    const found = keys.map((key, nth) => this.#findOurs(key) ?? reply[nth]!)
    if (!isOurs && !found.includes('busy') && !found.includes('reused')) {
      keys.forEach(({ name, fingerprint }, nth) => {
        if (found[nth] === 'new') this.#claimed.set(name, { fingerprint, mark })
      })
    }
    done(null, found)
  }

  #write(writes: readonly Write[]): void {
    if (writes.length === 0) return
    for (const write of writes) this.#waiting.add(write)
    for (const oldest of this.#waiting) {
      if (this.#waiting.size <= this.#options.maxWaiting) break
      this.#waiting.delete(oldest)
      if (oldest.what !== 'release') this.forgotten++
    }
    if (this.#isFlowing) this.#send(writes).catch(alreadyTold)
  }

  async #send(writes: readonly Write[]): Promise<void> {
    const args = writes.flatMap(({ what, value, untilMs }) =>
      what === 'release'
        ? [what, value, `k:${this.#owner}:`]
        : [what, value, String(Math.max(1, Math.ceil(untilMs - Date.now())))],
    )
    try {
      await this.#options.link.run('write', this.#redisKeys(writes), args)
    } catch (error) {
      for (const { what } of writes) this.failures[what === 'release' ? what : 'keep']++
      throw error
    }
    for (const write of writes) this.#waiting.delete(write)
  }

  #oldestWaiting(): Write[] {
    const oldest: Write[] = []
    for (const write of this.#waiting) {
      if (oldest.push(write) === writesAtATime) break
    }
    return oldest
  }

  async #renewClaims(): Promise<void> {
    const { link, leaseMs } = this.#options
    const claimed = Array.from(this.#claimed, ([name, claim]) => ({ name, ...claim }))
    for (let from = 0; from < claimed.length; from += writesAtATime) {
      // Those that have ended meanwhile are not to come back.
      const some = claimed
        .slice(from, from + writesAtATime)
        .filter(({ name, mark }) => this.#claimed.get(name)?.mark === mark)
      const args = some.flatMap(({ mark, fingerprint }) => ['renew', mark + fingerprint, String(leaseMs)])
      await link.run('write', this.#redisKeys(some), args)
    }
  }

  #findOurs({ name, fingerprint }: DedupeKey): Found | null {
    const claimed = this.#claimed.get(name)
    if (claimed === undefined) return null
    return claimed.fingerprint === fingerprint ? 'busy' : 'reused'
  }

  /** The braces keep a stream's keys in one slot, for what stands in front of a Redis Cluster. */
  #redisKeys(keys: readonly { readonly name: string }[]): string[] {
    const { prefix, stream } = this.#options
    return keys.map(({ name }) => `${prefix}{${stream}}:${name}`)
  }
}

/** See {@link RedisDedupeStore}. */
export interface RedisDedupeStoreOptions {
  readonly link: RedisLink
  readonly stream: string
  /** What all keys begin with. */
  readonly prefix: string
  /** For how long a claim outlives its gateway. */
  readonly leaseMs: number
  /** The most keys that wait for Redis; then the oldest are given up. */
  readonly maxWaiting: number
}

/** What Redis is asked to do with a key. */
export type DedupeOperation = 'claim' | 'keep' | 'release'

interface Write {
  readonly what: 'keep' | 'learn' | 'release'
  readonly name: string
  /** The value; of a release, what the claim's value begins with. */
  readonly value: string
  /** Unless it is a release. */
  readonly untilMs: number
}

function releaseOf(name: string, mark: string): Write {
  return { what: 'release', name, value: mark, untilMs: 0 }
}

/** What no value begins with: the key was kept already, or Redis was never asked. */
const noMark = '-'

/** Keys in one script: Redis does nothing else meanwhile. */
const writesAtATime = 500

/** The link has ended, and said so; what was not done is done when it is back. */
function alreadyTold(): void {}
