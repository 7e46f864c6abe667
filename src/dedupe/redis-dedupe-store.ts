import { randomBytes } from 'node:crypto'
import { mayClaim, type ClaimListener, type DedupeKey, type DedupeStore, type Found } from './dedupe-store.ts'
import type { RedisLink, RedisLinkUser } from './redis-link.ts'

/**
 * The keys of one stream in Redis (or Valkey), for all gateways that share it. While it cannot be reached, claims fail at
 * once; what was accepted waits here and is told as soon as it is back, before any new claim.
 *
 * A claim has a lease, which is renewed for as long as its gateway lives: one that dies with a claim holds the key no longer
 * than that. Each claim carries its owner and a number, and what it kept does too, so that the end of a claim touches
 * nothing of another claim: neither another gateway's, nor an earlier one of this gateway.
 */
export class RedisDedupeStore implements DedupeStore, RedisLinkUser {
  readonly #options: RedisDedupeStoreOptions
  readonly #owner = randomBytes(9).toString('base64url')
  /** What this gateway has claimed, and by which of its claims. */
  readonly #claimed = new Map<string, { readonly fingerprint: string; readonly claim: number }>()
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
  claim(keys: readonly DedupeKey[], done: ClaimListener, asked: readonly DedupeKey[] = []): void {
    const claim = this.#claims++
    if (keys.length + asked.length === 0) done(null, [], claim)
    else if (this.#options.link.isUp) void this.#ask({ claim, keys, asked }, done)
    else {
      this.failures.claim += keys.length
      done(new Error('Redis is away'), [], claim)
    }
  }

  /** @inheritdoc */
  keep(claim: number, keys: readonly DedupeKey[], untilMs: number): void {
    const mark = this.#markOf(claim)
    this.#write(
      keys.map(({ name, fingerprint }): Write => {
        this.#claimed.delete(name)
        return { what: 'keep', name, value: `k${mark}${fingerprint}`, mark, untilMs }
      }),
    )
  }

  /** @inheritdoc */
  release(claim: number, keys: readonly DedupeKey[]): void {
    for (const { name } of keys) if (this.#claimed.get(name)?.claim === claim) this.#claimed.delete(name)
    this.#release(this.#markOf(claim), keys)
  }

  /** @inheritdoc */
  learn({ name, fingerprint }: DedupeKey, untilMs: number): void {
    const mark = this.#markOf(learned)
    this.#write([{ what: 'learn', name, value: `k${mark}${fingerprint}`, mark, untilMs }])
  }

  /** @inheritdoc */
  unlearn(name: string): void {
    this.#release(this.#markOf(learned), [{ name }])
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
    { claim, keys, asked }: { claim: number; keys: readonly DedupeKey[]; asked: readonly DedupeKey[] },
    done: ClaimListener,
  ): Promise<void> {
    const { link, leaseMs } = this.#options
    // Whatever Redis says of these: it may have lost them, or was away for longer than the lease.
    const all = keys.concat(asked)
    const isOurs = all.some(({ name }) => this.#claimed.has(name))
    const mark = this.#markOf(claim)
    const args = [isOurs ? '' : `c${mark}`, String(leaseMs), String(keys.length)]
    for (const { fingerprint } of all) args.push(fingerprint)
    let reply: readonly Found[]
    try {
      reply = (await link.run('claim', this.#redisKeys(all), args)) as Found[]
    } catch (error) {
      this.failures.claim += keys.length
      // It may have been claimed all the same.
      if (!isOurs) this.#release(mark, keys)
      return done(error as Error, [], claim)
    }
    const found = all.map((key, nth) => this.#findOurs(key) ?? reply[nth]!)
    if (!isOurs && mayClaim(found, keys.length)) {
      keys.forEach(({ name, fingerprint }, nth) => {
        if (found[nth] === 'new') this.#claimed.set(name, { fingerprint, claim })
      })
    }
    done(null, found, claim)
  }

  /** What stands in a value between its state and its fingerprint: nothing but this claim has it. */
  #markOf(claim: number): string {
    return `:${this.#owner}:${claim === learned ? '' : claim}:`
  }

  #release(mark: string, keys: readonly { readonly name: string }[]): void {
    this.#write(keys.map(({ name }): Write => ({ what: 'release', name, value: '', mark, untilMs: 0 })))
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
    const nowMs = performance.now()
    const args = writes.flatMap(({ what, value, mark, untilMs }) =>
      // What has had its time while it waited stands in nobody's way; its claim must not, either.
      what === 'release' || untilMs <= nowMs
        ? ['release', mark, '']
        : [what, value, String(Math.ceil(untilMs - nowMs))],
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
    const claims = Array.from(this.#claimed, ([name, claimed]) => ({ name, ...claimed }))
    for (let from = 0; from < claims.length; from += writesAtATime) {
      // Those that have ended meanwhile are not to come back.
      const some = claims
        .slice(from, from + writesAtATime)
        .filter(({ name, claim }) => this.#claimed.get(name)?.claim === claim)
      const args = some.flatMap(({ claim, fingerprint }) => [
        'renew',
        `c${this.#markOf(claim)}${fingerprint}`,
        String(leaseMs),
      ])
      await link.run('write', this.#redisKeys(some), args)
    }
  }

  #findOurs({ name, fingerprint }: DedupeKey): Found | null {
    const claimed = this.#claimed.get(name)
    if (claimed === undefined) return null
    return claimed.fingerprint === fingerprint ? 'busy' : 'contested'
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
  /** Unless it is a release. */
  readonly value: string
  /** The claim's: a release ends what has it. */
  readonly mark: string
  /** By the monotonic clock, unless it is a release. */
  readonly untilMs: number
}

/** In the place of a claim's number: the key is an earlier process's. */
const learned = -1

/** Keys in one script: Redis does nothing else meanwhile. */
const writesAtATime = 500

/** The link has ended, and said so; what was not done is done when it is back. */
function alreadyTold(): void {}
