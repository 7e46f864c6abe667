import { setTimeout as pause } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { Deduplicator, type DedupeJournal } from '../../src/dedupe/deduplicator.ts'
import type { DedupeKey, DedupeStore, Found } from '../../src/dedupe/dedupe-store.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import { RedisDedupeStore } from '../../src/dedupe/redis-dedupe-store.ts'
import { RedisLink } from '../../src/dedupe/redis-link.ts'
import { LogKeeper } from '../support/producer-fixture.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'

/** One gateway's side of a Redis. */
class Side {
  readonly logs = new LogKeeper()
  readonly link: RedisLink
  readonly store: RedisDedupeStore
  /** Connections that ended. */
  ends = 0

  constructor({ store }: TestRedis, stream = 's', options: SideOptions = {}) {
    const { leaseMs = 30_000, maxWaiting = 1_000, timeoutMs = 5_000 } = options
    this.link = new RedisLink({ store: { ...store, timeoutMs }, logger: this.logs })
    const { link } = this
    this.store = new RedisDedupeStore({ link, stream, prefix: store.prefix, leaseMs, maxWaiting })
    link.use({ resume: async () => {}, suspend: () => void this.ends++ })
    onTestFinished(() => this.crash())
  }

  async start(): Promise<this> {
    this.link.start()
    await until(() => this.link.isUp)
    return this
  }

  /** As when its process is killed: nothing is released. */
  crash(): void {
    this.store.close()
    this.link.close()
  }
}

interface SideOptions {
  readonly leaseMs?: number
  readonly maxWaiting?: number
  readonly timeoutMs?: number
}

async function claim(store: DedupeStore, ...keys: DedupeKey[]): Promise<readonly Found[]> {
  return await new Promise((resolve, reject) => {
    store.claim(keys, (error, found) => (error === null ? resolve(found) : reject(error)))
  })
}

const key = (name: string, fingerprint = ''): DedupeKey => ({ name, fingerprint })
const inAMinute = (): number => Date.now() + 60_000

/** Two gateways' sides of one store; `settled` waits until what either was told is known to both. */
interface Pair {
  readonly sides: readonly [DedupeStore, DedupeStore]
  readonly settled: () => Promise<void>
}

/** What gateways do; `which` is one of the claims that were made before. */
const step = fc.oneof(
  fc.record({
    what: fc.constant('claim' as const),
    by: fc.constantFrom(0 as const, 1 as const),
    names: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'é '), { minLength: 1, maxLength: 3 }),
    fingerprint: fc.constantFrom('', '', 'x-_'),
  }),
  fc.record({ what: fc.constantFrom('keep' as const, 'release' as const), which: fc.nat({ max: 50 }) }),
)

/** What any {@link DedupeStore} does, held to a model of some lines. */
function itIsADedupeStore(open: () => Promise<Pair>): void {
  test('any claims, keeps and releases, by either gateway: what each key is, and all or none claimed', async () => {
    const { sides, settled } = await open()
    let run = 0
    const property = fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
      const prefix = `${run++} `
      const known = new Map<string, { state: 'busy' | 'seen'; fingerprint: string }>()
      const claims: { by: 0 | 1; keys: readonly DedupeKey[]; state: 'open' | 'kept' | 'released' }[] = []
      for (const each of steps) {
        if (each.what === 'claim') {
          const keys = each.names.map((name) => key(prefix + name, each.fingerprint))
          const expected = keys.map(({ name, fingerprint }): Found => {
            const entry = known.get(name)
            if (entry === undefined) return 'new'
            return entry.fingerprint === fingerprint ? entry.state : 'reused'
          })
          expect(await claim(sides[each.by], ...keys)).toEqual(expected)
          if (expected.some((found) => found === 'busy' || found === 'reused')) continue
          const claimed = keys.filter((_, nth) => expected[nth] === 'new')
          for (const { name, fingerprint } of claimed) known.set(name, { state: 'busy', fingerprint })
          claims.push({ by: each.by, keys: claimed, state: 'open' })
        } else if (claims.length > 0) {
          const made = claims[each.which % claims.length]!
          // A claim has one end; but what was kept can be lost after all, and is then released.
          if (made.state === 'released' || (made.state === 'kept' && each.what === 'keep')) continue
          made.state = each.what === 'keep' ? 'kept' : 'released'
          sides[made.by][each.what](made.keys, inAMinute())
          for (const { name, fingerprint } of made.keys)
            if (each.what === 'keep') known.set(name, { state: 'seen', fingerprint })
            else known.delete(name)
          await settled()
        }
      }
    })
    await fc.assert(property, { numRuns: 60 })
  })

  test('a key that was kept without a claim is seen, until its time is over', async () => {
    const { sides, settled } = await open()
    sides[0].keep([key('kept', '1')], Date.now() + 80)
    sides[0].keep([key('longer', '1')], inAMinute())
    await settled()
    expect(await claim(sides[1], key('longer', '1'))).toEqual(['seen'])
    await pause(100)
    expect(await claim(sides[1], key('kept', '2'), key('longer', '1'))).toEqual(['new', 'seen'])
  })
}

describe('the memory of one process', () => {
  itIsADedupeStore(async () => {
    const store = new MemoryDedupeStore(1_000)
    return { sides: [store, store], settled: async () => {} }
  })
})

describe.skipIf(!hasRedis)('Redis (needs redis-server)', () => {
  let redis: TestRedis
  beforeAll(async () => void (redis = await startRedis()))
  afterAll(async () => await redis.kill())

  itIsADedupeStore(async () => {
    await redis.ask('FLUSHALL')
    const [one, other] = await Promise.all([new Side(redis).start(), new Side(redis).start()])
    const settled = async (): Promise<void> =>
      await until(() => one.store.waiting === 0 && other.store.waiting === 0)
    return { sides: [one.store, other.store], settled }
  })

  test('streams and prefixes do not know each other', async () => {
    const one = await new Side(redis, 'one').start()
    const two = await new Side(redis, 'two').start()
    expect([await claim(one.store, key('k')), await claim(two.store, key('k'))]).toEqual([['new'], ['new']])
    expect(await redis.ask('EXISTS chute:{one}:k chute:{two}:k')).toBe(':2\r\n')
  })

  test('a claim is renewed while its gateway lives, and ends with its lease when that dies', async () => {
    const one = await new Side(redis, 'lease', { leaseMs: 1_000 }).start()
    const other = await new Side(redis, 'lease', { leaseMs: 1_000 }).start()
    await claim(one.store, key('k'))
    const left = async (): Promise<number> => Number((await redis.ask('PTTL chute:{lease}:k')).slice(1))
    let leastMs = await left()
    for (let nowMs = leastMs; nowMs <= leastMs; nowMs = await left()) {
      leastMs = nowMs
      await pause(10)
    }
    expect(await claim(other.store, key('k'))).toEqual(['busy'])
    one.crash()
    while ((await claim(other.store, key('k')))[0] === 'busy') await pause(10)
    // Nobody but its owner ends the new one.
    one.store.release([key('k')])
    expect(await claim(one.store, key('k')).catch(({ message }: Error) => message)).toBe('Redis is away')
    expect(await redis.ask('EXISTS chute:{lease}:k')).toBe(':1\r\n')
  })

  test('an end that comes after the lease does not end the claim of another', async () => {
    const one = await new Side(redis, 'late').start()
    const other = await new Side(redis, 'late').start()
    await claim(one.store, key('k'))
    await redis.ask('DEL chute:{late}:k')
    expect(await claim(other.store, key('k'))).toEqual(['new'])
    one.store.release([key('k')])
    await until(() => one.store.waiting === 0)
    expect(await claim(one.store, key('k'))).toEqual(['busy'])
  })

  test('what is claimed here stays so where Redis has lost it', async () => {
    const side = await new Side(redis, 'lost').start()
    await claim(side.store, key('k', '1'))
    await redis.ask('DEL chute:{lost}:k')
    expect(await claim(side.store, key('k', '1'), key('other', ''))).toEqual(['busy', 'new'])
    expect(await claim(side.store, key('k', '2'))).toEqual(['reused'])
    expect(await redis.ask('EXISTS chute:{lost}:other')).toBe(':0\r\n')
  })

  test('stopped, it fails claims in time and then at once; back, it is told what was accepted', async () => {
    const one = await new Side(redis, 'stopped', { timeoutMs: 400 }).start()
    const other = await new Side(redis, 'stopped').start()
    await claim(one.store, key('accepted'), key('refused'))
    redis.signal('SIGSTOP')
    onTestFinished(() => redis.signal('SIGCONT'))
    one.store.keep([key('accepted')], inAMinute())
    await expect(claim(one.store, key('unanswered'))).rejects.toThrow('no answer within 400 ms')
    // In the same turn: nothing is waited for.
    let refusal = ''
    one.store.claim([key('next')], (error) => (refusal = error?.message ?? ''))
    expect(refusal).toBe('Redis is away')
    one.store.release([key('refused')])
    expect(one.store.failures).toEqual({ claim: 2, keep: 1, release: 0 })
    expect(one.store.waiting).toBe(3)
    redis.signal('SIGCONT')
    await until(() => one.link.isUp && one.store.waiting === 0)
    await until(() => other.link.isUp)
    expect(await claim(other.store, key('accepted'), key('refused'), key('unanswered'))).toEqual([
      'seen',
      'new',
      'new',
    ])
    expect(one.logs.lines.map(({ message }) => message)).toEqual([
      'Redis is away; requests with an Idempotency-Key or ids are refused',
      'Redis is back',
    ])
  })

  test('a command that it comes to after its time does nothing', async () => {
    const one = await new Side(redis, 'late').start()
    const clock = vi.spyOn(performance, 'now').mockReturnValueOnce(performance.now() - 10_000)
    const late = claim(one.store, key('too late'))
    clock.mockRestore()
    await expect(late).rejects.toThrow('too late')
    expect(await redis.ask('EXISTS "chute:{late}:too late"')).toBe(':0\r\n')
  })

  test('killed and empty when it comes back, it is told of claims that are held and of what was accepted meanwhile', async () => {
    const one = await new Side(redis, 'killed').start()
    await claim(one.store, key('held'), key('accepted'))
    await redis.kill()
    await until(() => !one.link.isUp)
    one.store.keep([key('accepted')], inAMinute())
    await redis.start()
    await until(() => one.link.isUp)
    const other = await new Side(redis, 'killed').start()
    expect(await claim(other.store, key('held'), key('accepted'))).toEqual(['busy', 'seen'])
  })

  test('scripts that it forgot are loaded again', async () => {
    const side = await new Side(redis, 'flushed').start()
    await redis.ask('SCRIPT FLUSH')
    await expect(claim(side.store, key('k'))).rejects.toThrow('NOSCRIPT')
    await until(() => side.link.isUp)
    expect(await claim(side.store, key('k'))).toEqual(['new'])
  })

  test('without room, it is away until it has room, and that is said once', async () => {
    const side = await new Side(redis, 'oom').start()
    await redis.ask('CONFIG SET maxmemory 1')
    onTestFinished(async () => void (await redis.ask('CONFIG SET maxmemory 0')))
    await expect(claim(side.store, key('k'))).rejects.toThrow('OOM')
    await until(() => side.ends > 2)
    expect(side.link.isUp).toBe(false)
    await redis.ask('CONFIG SET maxmemory 0')
    await until(() => side.link.isUp)
    expect(await claim(side.store, key('k'))).toEqual(['new'])
    expect(side.logs.lines).toMatchObject([
      { fields: { cause: expect.stringContaining('OOM') as string } },
      { message: 'Redis is back' },
    ])
  })

  test('away, it lets no more keys wait than are allowed; the oldest are given up, and counted', async () => {
    const side = new Side(redis, 'most', { maxWaiting: 3 })
    for (let i = 0; i < 5; i++) side.store.keep([key(`${i}`)], inAMinute())
    expect([side.store.waiting, side.store.forgotten]).toEqual([3, 2])
    await side.start()
    expect(await claim(side.store, key('1'), key('2'), key('4'))).toEqual(['new', 'seen', 'seen'])
  })

  test('it learns from a journal what was accepted before a crash, and forgets nothing that others accepted since', async () => {
    const other = await new Side(redis, 'journal').start()
    const [old, lost, again] = [key('ki', 'old'), key('kj', 'lost'), key('kk', 'again')]
    await claim(other.store, again)
    other.store.keep([again], inAMinute())
    await until(() => other.store.waiting === 0)
    const journal: DedupeJournal = {
      note() {},
      noteLater() {},
      // The last two were accepted, and then lost and told so; one of them was sent again, to the other gateway.
      readNotes(_windowMs, each) {
        for (const { name, fingerprint } of [old, lost, again])
          each(name, Buffer.from(fingerprint), inAMinute())
        for (const { name } of [lost, again]) each(name, Buffer.from('-'), inAMinute())
      },
    }
    const side = new Side(redis, 'journal')
    const deduplicator = new Deduplicator({ store: side.store, windowMs: 60_000, journal })
    expect(deduplicator.stats.entries).toBeNull()
    await side.start()
    expect(await claim(other.store, old, lost, again)).toEqual(['seen', 'new', 'seen'])
  })
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(2)
}
