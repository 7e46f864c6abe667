import { randomBytes } from 'node:crypto'
import type { DedupeStoreConfig } from '../config/config.ts'
import type { Logger } from '../logger.ts'
import { redisScripts, type RedisScript } from './redis-scripts.ts'
import { mayClaim, type ClaimListener, type DedupeKey, type DedupeStore, type Found } from './dedupe-store.ts'
import { RedisLink, type RedisLinkUser } from '../redis-link.ts'

/**
 * The keys of one stream in Redis (or Valkey), for all gateways that share it. While Redis is away, claims fail at once. Keeps and
 * releases wait here. Redis is told of them as soon as it is back, before any new claim.
 *
 * A claim has a lease, which its gateway renews as long as it lives. When a gateway dies, its claims end with their leases. The
 * value of a key names the gateway and the number of the claim that got or kept the key. So the end of a claim changes no key of
 * another claim, neither of another gateway nor of this one.
 */
export class RedisDedupeStore implements DedupeStore, RedisLinkUser {
  readonly #options: RedisDedupeStoreOptions
  readonly #owner = randomBytes(9).toString('base64url')
  /** Keys that this gateway has claimed. */
  readonly #claimed = new Map<string, { readonly fingerprint: string; readonly claim: number }>()
  /** Writes that Redis has not confirmed yet, oldest first. After a lost connection they are sent again in this order. */
  readonly #waiting = new Set<PendingWrite>()
  readonly #renewTimer: NodeJS.Timeout
  #claims = 0
  /** Writes are sent as they come. If not, {@link resume} sends them. */
  #isFlowing = false
  #isClosed = false
  readonly size = null
  forgotten = 0
  /** Keys with a failed operation, by operation. Keeps and releases are sent again. */
  readonly failures: Record<DedupeOperation, number> = { claim: 0, keep: 0, release: 0 }

  constructor(options: RedisDedupeStoreOptions) {
    this.#options = options
    options.link.use(this)
    this.#renewTimer = setInterval(() => {
      if (this.#isFlowing) this.#renewClaims().catch(alreadyTold)
    }, options.leaseMs / 3).unref()
  }

  /** Number of writes that Redis has not confirmed yet. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** @inheritdoc */
  claim(keys: readonly DedupeKey[], done: ClaimListener, asked: readonly DedupeKey[] = []): void {
    const claim = this.#claims++
    if (keys.length + asked.length === 0) done(null, [], claim)
    else if (this.#options.link.isUp && this.#isFlowing) void this.#ask({ claim, keys, asked }, done)
    else {
      this.failures.claim += keys.length
      done(new Error('Redis is away'), [], claim)
    }
  }

  /** @inheritdoc */
  keep(claim: number, keys: readonly DedupeKey[], untilMs: number): void {
    const tag = this.#tagOf(claim)
    this.#write(
      keys.map(({ name, fingerprint }): PendingWrite => {
        this.#claimed.delete(name)
        return { what: 'keep', name, value: `k${tag}${fingerprint}`, tag, untilMs }
      }),
    )
  }

  /** @inheritdoc */
  release(claim: number, keys: readonly DedupeKey[]): void {
    for (const { name } of keys) if (this.#claimed.get(name)?.claim === claim) this.#claimed.delete(name)
    this.#release(this.#tagOf(claim), keys)
  }

  /** @inheritdoc */
  learn({ name, fingerprint }: DedupeKey, untilMs: number): void {
    const tag = this.#tagOf(learned)
    this.#writeLearned({ what: 'learn', name, value: `k${tag}${fingerprint}`, tag, untilMs })
  }

  /** @inheritdoc */
  unlearn(name: string): void {
    const tag = this.#tagOf(learned)
    this.#writeLearned({ what: 'release', name, value: '', tag, untilMs: 0 })
  }

  /** A reload can open a stream with hundreds of thousands of keys while Redis is there. They go many in a command, and no claim goes before them. */
  #writeLearned(write: PendingWrite): void {
    this.#wait([write])
    if (!this.#isFlowing) return
    this.#isFlowing = false
    setImmediate(() => this.#options.link.use(this))
  }

  /** @inheritdoc */
  async resume(): Promise<void> {
    while (this.#waiting.size > 0) await this.#send(this.#oldestWaiting())
    if (this.#isClosed) {
      this.#options.link.leave(this)
      return
    }
    this.#isFlowing = true
    await this.#renewClaims()
  }

  /** @inheritdoc */
  suspend(): void {
    this.#isFlowing = false
  }

  /** Renews no claim any more. What Redis was not told yet, it is told when it is back. */
  close(): void {
    clearInterval(this.#renewTimer)
    this.#isClosed = true
    if (this.#waiting.size === 0) this.#options.link.leave(this)
  }

  async #ask(
    { claim, keys, asked }: { claim: number; keys: readonly DedupeKey[]; asked: readonly DedupeKey[] },
    done: ClaimListener,
  ): Promise<void> {
    const { link, leaseMs } = this.#options
    // This gateway knows its own claims better than Redis: Redis may have lost them, or was away for longer than the lease.
    const all = keys.concat(asked)
    const ours = all.map((key) => this.#findOurs(key))
    const isOurs = ours.some((each) => each !== null)
    const tag = this.#tagOf(claim)
    const args = [isOurs ? '' : `c${tag}`, String(leaseMs), String(keys.length)]
    for (const { fingerprint } of all) args.push(fingerprint)
    let reply: readonly Found[]
    try {
      reply = (await link.run('claim', this.#redisKeys(all), args)) as Found[]
    } catch (error) {
      this.failures.claim += keys.length
      // Redis may have run the script all the same, and its answer is lost.
      if (!isOurs) this.#release(tag, keys)
      return done(error as Error, [], claim)
    }
    // What was ours when it was asked stays so in the answer: nothing was claimed for it.
    const found = all.map((key, nth) => ours[nth] ?? this.#findOurs(key) ?? reply[nth]!)
    if (!isOurs && mayClaim(found, keys.length)) {
      keys.forEach(({ name, fingerprint }, nth) => {
        if (found[nth] === 'new') this.#claimed.set(name, { fingerprint, claim })
      })
    }
    done(null, found, claim)
  }

  /** The part of a value between its state and its fingerprint. No other claim has the same. */
  #tagOf(claim: number): string {
    return `:${this.#owner}:${claim === learned ? '' : claim}:`
  }

  #release(tag: string, keys: readonly { readonly name: string }[]): void {
    this.#write(keys.map(({ name }): PendingWrite => ({ what: 'release', name, value: '', tag, untilMs: 0 })))
  }

  #write(writes: readonly PendingWrite[]): void {
    if (writes.length === 0) return
    this.#wait(writes)
    if (this.#isFlowing) this.#send(writes).catch(alreadyTold)
  }

  #wait(writes: readonly PendingWrite[]): void {
    for (const write of writes) this.#waiting.add(write)
    for (const oldest of this.#waiting) {
      if (this.#waiting.size <= this.#options.maxWaiting) break
      this.#waiting.delete(oldest)
      if (oldest.what !== 'release') this.forgotten++
    }
  }

  async #send(writes: readonly PendingWrite[]): Promise<void> {
    const nowMs = performance.now()
    const args = writes.flatMap(({ what, value, tag, untilMs }) =>
      // The time of a key may be over while it waited. Then its claim is released.
      what === 'release' || untilMs <= nowMs
        ? ['release', tag, '']
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

  #oldestWaiting(): PendingWrite[] {
    const oldest: PendingWrite[] = []
    for (const write of this.#waiting) {
      if (oldest.push(write) === writesAtATime) break
    }
    return oldest
  }

  async #renewClaims(): Promise<void> {
    const { link, leaseMs } = this.#options
    const claims = Array.from(this.#claimed, ([name, claimed]) => ({ name, ...claimed }))
    for (let from = 0; from < claims.length; from += writesAtATime) {
      // Claims that have ended meanwhile must not be made again.
      const some = claims
        .slice(from, from + writesAtATime)
        .filter(({ name, claim }) => this.#claimed.get(name)?.claim === claim)
      const args = some.flatMap(({ claim, fingerprint }) => [
        'renew',
        `c${this.#tagOf(claim)}${fingerprint}`,
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

  /** Names in Redis. The braces put all keys of a stream in one slot, for a proxy in front of a Redis Cluster. */
  #redisKeys(keys: readonly { readonly name: string }[]): string[] {
    const { prefix, stream } = this.#options
    return keys.map(({ name }) => `${prefix}{${stream}}:${name}`)
  }
}

/** The connection to the store that gateways share. {@link RedisLink.start} connects. */
export function openDedupeLink(
  { url, timeoutMs, prefix }: DedupeStoreConfig,
  logger: Logger,
): RedisLink<RedisScript> {
  return new RedisLink<RedisScript>({
    url,
    timeoutMs,
    scripts: redisScripts,
    probe: { script: 'write', keys: [`${prefix}probe`], args: ['keep', '', '1'] },
    says: {
      away: 'Redis is away; requests with an Idempotency-Key or ids are refused',
      back: 'Redis is back',
    },
    logger,
  })
}

/** See {@link RedisDedupeStore}. */
export interface RedisDedupeStoreOptions {
  readonly link: RedisLink<RedisScript>
  readonly stream: string
  /** All keys begin with it. */
  readonly prefix: string
  /** How long a claim outlives its gateway. */
  readonly leaseMs: number
  /** How many writes wait for Redis at most. Beyond that, the oldest are given up. */
  readonly maxWaiting: number
}

/** What Redis is asked to do with a key. */
export type DedupeOperation = 'claim' | 'keep' | 'release'

interface PendingWrite {
  readonly what: 'keep' | 'learn' | 'release'
  readonly name: string
  /** Empty for a release. */
  readonly value: string
  /** Part of the values that a release removes: see {@link RedisDedupeStore}. */
  readonly tag: string
  /** By the monotonic clock; 0 for a release. */
  readonly untilMs: number
}

/** Stands in the place of a claim's number: an earlier process kept the key. */
const learned = -1

/** Keys in one script. Redis does nothing else while a script runs, so they are not too many. */
const writesAtATime = 500

/** For writes that fail: the link has logged that Redis is away, and the writes are sent again when Redis is back. */
function alreadyTold(): void {}
