import { CircuitBreaker } from '../circuit-breaker.ts'
import { limitedQuantities, type RateLimitStoreConfig } from '../config/limits.ts'
import type { Logger } from '../logger.ts'
import { RedisLink, unlessLate } from '../redis-link.ts'
import type { Charge, RemoteLimitStore, Usage, Verdict } from './limit-counts.ts'

/**
 * The counts of several gateways in one Redis (or Valkey), by the rule of `LimitCounts`. All charges of one turn of the event loop go in one
 * command. No request waits longer than {@link waitMs} for Redis. While Redis is away or late, a charge is answered with null at once.
 */
export class RedisLimits implements RemoteLimitStore {
  /** Charges that Redis did not answer, or not in time. */
  unanswered = 0
  readonly #prefix: string
  readonly #link: RedisLink<'charge'>
  readonly #breaker = new CircuitBreaker()
  #waiting: Waiting[] = []
  /** Commands whose answer is late. While there are some, nothing waits for one more. */
  #late = 0

  constructor(store: RateLimitStoreConfig, logger: Logger) {
    this.#prefix = prefixOf(store)
    this.#link = openLimitsLink(store, logger)
  }

  /** Redis answers in time. */
  get isUp(): boolean {
    return this.#link.isUp && this.#late === 0
  }

  /** Connects in the background, now and whenever the connection ends. */
  start(): void {
    this.#link.start()
  }

  close(): void {
    this.#link.close()
  }

  /** @inheritdoc */
  charge(charge: Charge, done: (verdict: Verdict | null) => void): void {
    if (!this.isUp || this.#breaker.isOpen) {
      this.unanswered++
      done(null)
      return
    }
    this.#waiting.push({ charge, done })
    if (this.#waiting.length === 1) setImmediate(() => this.#send())
  }

  #send(): void {
    const all = this.#waiting
    this.#waiting = []
    for (let from = 0; from < all.length; from += chargesAtATime)
      this.#sendSome(all.slice(from, from + chargesAtATime))
  }

  #sendSome(waiting: readonly Waiting[]): void {
    const keys = waiting.flatMap(({ charge }) => charge.subjects.map(({ id }) => this.#prefix + id))
    const args = waiting.flatMap(({ charge }) => argsOf(charge))
    let isAnswered = false
    let isLate = false
    const answer = (reply: readonly number[] | null): void => {
      if (isAnswered) return
      isAnswered = true
      clearTimeout(timer)
      if (reply === null) {
        this.#breaker.failed()
        this.unanswered += waiting.length
        for (const { done } of waiting) done(null)
        return
      }
      this.#breaker.succeeded()
      let at = 0
      for (const { charge, done } of waiting) {
        done(verdictOf(reply, at, charge.subjects.length))
        at += 1 + charge.subjects.length * numbersOfUsage
      }
    }
    const timer = setTimeout(() => {
      // The answer may have come while this process was busy. It is read in the next turn of the event loop.
      setImmediate(() => {
        if (isAnswered) return
        isLate = true
        this.#late++
        answer(null)
      })
    }, waitMs)
    const settle = (reply: readonly number[] | null): void => {
      if (isLate) this.#late--
      answer(reply)
    }
    // The link has logged why.
    const onFailure = (): void => settle(null)
    this.#link.run('charge', keys, args).then((reply) => settle(reply as readonly number[]), onFailure)
  }
}

/** The connection to the Redis in which several gateways count. {@link RedisLink.start} connects. */
export function openLimitsLink(store: RateLimitStoreConfig, logger: Logger): RedisLink<'charge'> {
  return new RedisLink({
    url: store.url,
    timeoutMs: linkTimeoutMs,
    scripts: { charge: chargeScript },
    probe: { script: 'charge', keys: [`${prefixOf(store)}probe`], args: probeArgs },
    says: {
      away: 'the Redis of the limits is away; each gateway counts alone',
      back: 'the Redis of the limits is back',
    },
    logger,
  })
}

/** The braces put all keys in one slot, for a proxy in front of a Redis Cluster. */
function prefixOf({ prefix }: RateLimitStoreConfig): string {
  return `${prefix}{limits}:`
}

interface Waiting {
  readonly charge: Charge
  readonly done: (verdict: Verdict | null) => void
}

function argsOf({ subjects, cost }: Charge): string[] {
  const args = [String(subjects.length), ...limitedQuantities.map((quantity) => String(cost[quantity]))]
  for (const { limit } of subjects) {
    args.push(String(limit.windowMs), String(limit.burst))
    for (const quantity of limitedQuantities) args.push(String(limit[quantity] ?? 'none'))
  }
  return args
}

function verdictOf(reply: readonly number[], from: number, subjects: number): Verdict {
  const usages = Array.from({ length: subjects }, (_, nth): Usage => {
    const at = from + 1 + nth * numbersOfUsage
    return { requests: reply[at]!, events: reply[at + 1]!, bytes: reply[at + 2]!, openMs: reply[at + 3]! }
  })
  return { refusedBy: reply[from]!, usages }
}

/**
 * Charges requests, each to all of its subjects or to none, as `LimitCounts` does. A subject is a hash: the beginning of its window (`start`),
 * and its counts. Arguments, behind the first one: for each charge the number of its subjects and its three costs; for each subject the
 * window, the burst and its three quotas. The answer has, for each charge, the subject that refuses it (from 0; -1: none), and for each
 * subject its three counts and for how long its window has been open.
 */
const chargeScript = `${unlessLate}
local ms = math.floor(now[1] * 1000 + now[2] / 1000)
local answer, key, arg = {}, 0, 2
while arg <= #ARGV do
  local subjects, cost = tonumber(ARGV[arg]), {}
  for q = 1, 3 do cost[q] = tonumber(ARGV[arg + q]) end
  arg = arg + 4
  local counts, refused = {}, -1
  for i = 1, subjects do
    local at = arg + (i - 1) * 5
    local window, burst = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local known = redis.call('HMGET', KEYS[key + i], 'start', 'requests', 'events', 'bytes')
    local start = tonumber(known[1]) or ms
    -- The clock has gone back. A refusal writes nothing else, and the window would begin now for good.
    if start > ms then
      start = ms
      redis.call('HSET', KEYS[key + i], 'start', ms)
    end
    local windows, quiet, count = math.floor((ms - start) / window), true, {}
    for q = 1, 3 do
      local quota, used = tonumber(ARGV[at + 1 + q]), tonumber(known[q + 1]) or 0
      if windows > 0 then used = quota and math.max(0, used - windows * quota) or 0 end
      if quota and cost[q] > 0 and used + cost[q] > quota * burst and refused == -1 then refused = i - 1 end
      quiet = quiet and used == 0
      count[q] = used
    end
    if windows > 0 then start = quiet and ms or start + windows * window end
    count.start, count.keptMs = start, window * (burst + 1)
    counts[i] = count
  end
  answer[#answer + 1] = refused
  for i = 1, subjects do
    local count = counts[i]
    if refused == -1 then
      for q = 1, 3 do count[q] = count[q] + cost[q] end
      redis.call('HSET', KEYS[key + i], 'start', count.start, 'requests', count[1], 'events', count[2], 'bytes', count[3])
      redis.call('PEXPIRE', KEYS[key + i], count.keptMs)
    end
    for q = 1, 3 do answer[#answer + 1] = count[q] end
    answer[#answer + 1] = math.max(0, ms - count.start)
  end
  key, arg = key + subjects, arg + subjects * 5
end
return answer`

/** One charge of nothing, to a subject that is gone after two milliseconds. */
const probeArgs = ['1', '0', '0', '0', '1', '1', 'none', 'none', 'none']

const numbersOfUsage = 4
/** Redis does nothing else while a script runs, so a script has not too many. */
const chargesAtATime = 200
/** Longest wait of a request for Redis, in milliseconds. */
const waitMs = 50
/** After this time without an answer the connection is given up, in milliseconds. It is also the longest wait for a connection. */
const linkTimeoutMs = 1_000
