import { setTimeout as pause } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { Deduplicator, type DedupeJournal, type Verdict } from '../../src/dedupe/deduplicator.ts'
import type { DedupeStore, Found } from '../../src/dedupe/dedupe-store.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import { openDedupeLink, RedisDedupeStore } from '../../src/dedupe/redis-dedupe-store.ts'
import type { RedisLink } from '../../src/redis-link.ts'
import type { RedisScript } from '../../src/dedupe/redis-scripts.ts'
import { claimBeside, claimOf, dedupeKey, findKeys, type TestClaim } from '../support/dedupe-claim.ts'
import { LogKeeper } from '../support/producer-fixture.ts'
import { byForm } from '../support/forms.ts'
import { startRedisProxy } from '../support/redis-proxy.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'

/** One gateway's side of a Redis. */
class Side {
  readonly logs = new LogKeeper()
  readonly link: RedisLink<RedisScript>
  readonly store: RedisDedupeStore
  /** Connections that ended. */
  ends = 0

  constructor({ store }: TestRedis, stream = 's', options: SideOptions = {}) {
    const { leaseMs = 30_000, maxWaiting = 1_000, timeoutMs = 5_000, url = store.url } = options
    this.link = openDedupeLink({ ...store, url, timeoutMs }, this.logs)
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

  /** Redis knows all that this side knows. */
  async settled(): Promise<void> {
    await until(() => this.link.isUp && this.store.waiting === 0)
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
  readonly url?: string
}

/** Two gateways' sides of one store, and all that can go wrong with them. */
interface Pair {
  readonly sides: [DedupeStore, DedupeStore]
  /** Waits until what either was told is known to both. */
  readonly settled: () => Promise<void>
  /** What goes wrong beside the clock; null: nothing can. */
  readonly faults: PairFaults | null
}

interface PairFaults {
  /** The store does what the next claim asks it to, and the answer to the claim is lost. */
  loseNextAnswer(by: 0 | 1, how: 'time-out' | 'cut'): void
  /** The store forgets all. Gateways tell it of claims that they hold. */
  restartStore(): Promise<void>
  /** Another process in the place of a gateway, which was killed. */
  restartGateway(which: 0 | 1): Promise<void>
}

/** What gateways do, and what happens to them. `which` is one of the claims that were made before. */
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      what: fc.constant('claim' as const),
      by: fc.constantFrom(0 as const, 1 as const),
      names: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'é '), { minLength: 1, maxLength: 3 }),
      asked: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'é '), { maxLength: 2 }),
      fingerprint: fc.constantFrom('', '', 'x-_'),
      lost: fc.constantFrom(null, null, null, 'time-out' as const, 'cut' as const),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      what: fc.constantFrom('keep' as const, 'keep' as const, 'release' as const),
      which: fc.nat({ max: 50 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant('step the clock' as const),
      ms: fc.integer({ min: -3_600_000, max: 3_600_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('restart the store' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('restart a gateway' as const),
      which: fc.constantFrom(0 as const, 1 as const),
    }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** Does all steps, and holds the answers of each claim to a model of some lines. */
async function live(pair: Pair, steps: readonly Step[], prefix: string): Promise<void> {
  const { sides, faults } = pair
  const known = new Map<string, { state: 'busy' | 'seen'; fingerprint: string; claim: ModelClaim }>()
  const claims: ModelClaim[] = []
  for (const each of steps) {
    switch (each.what) {
      case 'claim': {
        const keys = each.names.map((name) => dedupeKey(prefix + name, each.fingerprint))
        const asked = each.asked.map((name) => dedupeKey(prefix + name))
        const expected = keys.concat(asked).map(({ name, fingerprint }): Found => {
          const entry = known.get(name)
          if (entry === undefined) return 'new'
          if (entry.fingerprint === fingerprint) return entry.state
          return entry.state === 'seen' ? 'reused' : 'contested'
        })
        if (each.lost !== null) faults?.loseNextAnswer(each.by, each.lost)
        const made = await claimBeside(sides[each.by], keys, asked).catch(() => null)
        await pair.settled()
        // What had no answer has claimed nothing, and has taken nothing away from what is kept or claimed.
        if (made === null) {
          expect(faults).not.toBeNull()
          continue
        }
        expect(made.found).toEqual(expected)
        if (expected.some((found) => found === 'busy' || found === 'contested')) continue
        if (expected.slice(0, keys.length).includes('reused')) continue
        const claim: ModelClaim = { ...made, by: each.by, state: 'open' }
        keys.forEach(({ name, fingerprint }, nth) => {
          if (expected[nth] === 'new') known.set(name, { state: 'busy', fingerprint, claim })
        })
        claims.push(claim)
        continue
      }
      case 'keep':
      case 'release': {
        const claim = claims[each.which % Math.max(1, claims.length)]
        // A claim has one end; but what was kept can be lost after all, and is then released.
        if (
          claim === undefined ||
          claim.state === 'ended' ||
          (claim.state === 'kept' && each.what === 'keep')
        )
          continue
        claim.state = each.what === 'keep' ? 'kept' : 'ended'
        claim[each.what]()
        for (const [name, entry] of known) {
          if (entry.claim !== claim) continue
          if (each.what === 'keep') entry.state = 'seen'
          else known.delete(name)
        }
        await pair.settled()
        continue
      }
      case 'step the clock': {
        const now = Date.now.bind(Date)
        vi.spyOn(Date, 'now').mockImplementation(() => now() + each.ms)
        continue
      }
      case 'restart the store':
        if (faults === null) continue
        await faults.restartStore()
        for (const [name, { claim }] of known) if (claim.state !== 'open') known.delete(name)
        continue
      case 'restart a gateway':
        if (faults === null) continue
        await faults.restartGateway(each.which)
        // What it had claimed is claimed until the lease ends; what it kept is kept.
        for (const claim of claims) if (claim.by === each.which) claim.state = 'ended'
    }
  }
}

interface ModelClaim extends TestClaim {
  readonly by: 0 | 1
  state: 'open' | 'kept' | 'ended'
}

/** What any {@link DedupeStore} does. */
function itIsADedupeStore(open: () => Promise<Pair>, numRuns: number): void {
  test(
    'any claims, keeps and releases, answers lost, restarts and steps of the clock: what each key is, old or new',
    { timeout: 240_000 },
    async () => {
      const pair = await open()
      let run = 0
      const property = fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        try {
          await live(pair, steps, `${run++} `)
        } finally {
          vi.restoreAllMocks()
        }
      })
      await fc.assert(property, { numRuns: numRuns * byForm({ short: 0.1, ci: 1, full: 10 }) })
    },
  )

  test('a key that an earlier process kept is seen, until its time is over', async () => {
    const { sides, settled } = await open()
    sides[0].learn(dedupeKey('longer', '1'), performance.now() + 60_000)
    sides[0].learn(dedupeKey('kept', '1'), performance.now() + 80)
    await settled()
    expect(await findKeys(sides[1], dedupeKey('longer', '1'))).toEqual(['seen'])
    await pause(100)
    expect(await findKeys(sides[1], dedupeKey('kept', '2'), dedupeKey('longer', '1'))).toEqual([
      'new',
      'seen',
    ])
  })

  test('the end of a claim whose time is over does not end what another claim of its key has kept since', async () => {
    const { sides, settled } = await open()
    const old = await claimOf(sides[0], dedupeKey('k'))
    old.keep(50)
    await settled()
    await pause(80)
    const next = await claimOf(sides[0], dedupeKey('k'))
    next.keep()
    old.release([dedupeKey('k')])
    await settled()
    expect([next.found, await findKeys(sides[1], dedupeKey('k'))]).toEqual([['new'], ['seen']])
  })
}

describe('the memory of one process', () => {
  itIsADedupeStore(async () => {
    const store = new MemoryDedupeStore(10_000)
    return { sides: [store, store], settled: async () => {}, faults: null }
  }, 200)
})

/** Two gateways, each behind a proxy of its own. */
async function openPair(redis: TestRedis): Promise<Pair> {
  await redis.ask('FLUSHALL')
  const proxies = await Promise.all([startRedisProxy(redis.port), startRedisProxy(redis.port)])
  onTestFinished(() => proxies.forEach((proxy) => proxy.close()))
  const open = async (which: 0 | 1): Promise<Side> => {
    const url = `redis://127.0.0.1:${proxies[which].port}`
    return await new Side(redis, 's', { url, timeoutMs: 100 }).start()
  }
  const all: [Side, Side] = [await open(0), await open(1)]
  const sides: [DedupeStore, DedupeStore] = [all[0].store, all[1].store]
  const settled = async (): Promise<void> => {
    for (const proxy of proxies) proxy.pass()
    await Promise.all(all.map(async (side) => await side.settled()))
  }
  return {
    sides,
    settled,
    faults: {
      loseNextAnswer: (by, how) =>
        how === 'cut' ? proxies[by].cutAtNextAnswer() : proxies[by].holdAnswers(),
      async restartStore() {
        const ends = all.map((side) => side.ends)
        await redis.kill()
        await until(() => all.every((side, nth) => side.ends > ends[nth]!))
        await redis.start()
        await settled()
      },
      async restartGateway(which) {
        all[which].crash()
        all[which] = await open(which)
        sides[which] = all[which].store
      },
    },
  }
}

describe.skipIf(!hasRedis)('Redis (needs redis-server)', () => {
  let redis: TestRedis
  beforeAll(async () => void (redis = await startRedis()))
  afterAll(async () => await redis.kill())

  itIsADedupeStore(async () => await openPair(redis), 20)

  test('streams and prefixes do not know each other', async () => {
    const one = await new Side(redis, 'one').start()
    const two = await new Side(redis, 'two').start()
    expect([await findKeys(one.store, dedupeKey('k')), await findKeys(two.store, dedupeKey('k'))]).toEqual([
      ['new'],
      ['new'],
    ])
    expect(await redis.ask('EXISTS chute:{one}:k chute:{two}:k')).toBe(':2\r\n')
  })

  test('a store that comes while the connection is there tells Redis what it is told, and is renewed', async () => {
    const side = await new Side(redis, 'first').start()
    const { prefix } = redis.store
    const options = { link: side.link, stream: 'later', prefix, leaseMs: 600, maxWaiting: 1_000 }
    const later = new RedisDedupeStore(options)
    onTestFinished(() => later.close())
    const claim = await claimOf(later, dedupeKey('kept'), dedupeKey('held'))
    claim.keep(60_000, [dedupeKey('kept')])
    await until(() => later.waiting === 0)
    expect(Number((await redis.ask(`PTTL ${prefix}{later}:kept`)).slice(1))).toBeGreaterThan(30_000)
    await pause(1_200)
    expect(await redis.ask(`EXISTS ${prefix}{later}:held`)).toBe(':1\r\n')
  })

  test('a store that is closed while Redis is away tells it all the same when it is back', async () => {
    const proxy = await startRedisProxy(redis.port)
    onTestFinished(() => proxy.close())
    const side = await new Side(redis, 'closed', { url: `redis://127.0.0.1:${proxy.port}` }).start()
    const claim = await claimOf(side.store, dedupeKey('k'))
    proxy.cutAtNextAnswer()
    await expect(findKeys(side.store, dedupeKey('another'))).rejects.toThrow()
    expect(side.link.isUp).toBe(false)
    claim.keep()
    side.store.close()
    await until(() => side.link.isUp && side.store.waiting === 0)
    expect(Number((await redis.ask('PTTL chute:{closed}:k')).slice(1))).toBeGreaterThan(30_000)
  })

  test('a claim is renewed while its gateway lives, and ends with its lease when that dies', async () => {
    const one = await new Side(redis, 'lease', { leaseMs: 1_000 }).start()
    const other = await new Side(redis, 'lease', { leaseMs: 1_000 }).start()
    const claim = await claimOf(one.store, dedupeKey('k'))
    const left = async (): Promise<number> => Number((await redis.ask('PTTL chute:{lease}:k')).slice(1))
    let leastMs = await left()
    for (let nowMs = leastMs; nowMs <= leastMs; nowMs = await left()) {
      leastMs = nowMs
      await pause(10)
    }
    expect(await findKeys(other.store, dedupeKey('k'))).toEqual(['busy'])
    one.crash()
    while ((await findKeys(other.store, dedupeKey('k')))[0] === 'busy') await pause(10)
    // Nobody but its owner ends the new one.
    claim.release()
    expect(await findKeys(one.store, dedupeKey('k')).catch(({ message }: Error) => message)).toBe(
      'Redis is away',
    )
    expect(await redis.ask('EXISTS chute:{lease}:k')).toBe(':1\r\n')
  })

  test('an end that comes after the lease does not end the claim of another', async () => {
    const one = await new Side(redis, 'late').start()
    const other = await new Side(redis, 'late').start()
    const late = await claimOf(one.store, dedupeKey('k'))
    await redis.ask('DEL chute:{late}:k')
    expect(await findKeys(other.store, dedupeKey('k'))).toEqual(['new'])
    late.release()
    await until(() => one.store.waiting === 0)
    expect(await findKeys(one.store, dedupeKey('k'))).toEqual(['busy'])
  })

  test('what is claimed here stays so where Redis has lost it', async () => {
    const side = await new Side(redis, 'lost').start()
    await findKeys(side.store, dedupeKey('k', '1'))
    await redis.ask('DEL chute:{lost}:k')
    expect(await findKeys(side.store, dedupeKey('k', '1'), dedupeKey('other', ''))).toEqual(['busy', 'new'])
    expect(await findKeys(side.store, dedupeKey('k', '2'))).toEqual(['contested'])
    expect(await redis.ask('EXISTS chute:{lost}:other')).toBe(':0\r\n')
  })

  test('what was claimed here when it was asked is not free when the answer comes', async () => {
    const side = await new Side(redis, 'asked').start()
    const claim = await claimOf(side.store, dedupeKey('k'))
    await redis.ask('DEL chute:{asked}:k')
    const asked = findKeys(side.store, dedupeKey('k'))
    claim.keep()
    expect(await asked).toEqual(['busy'])
    expect(await findKeys(side.store, dedupeKey('k'))).toEqual(['seen'])
  })

  test('many keys that a stream brings go many in a command, and no claim goes before them', async () => {
    const side = await new Side(redis, 'brought').start()
    const commands = async (): Promise<number> =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.ask('INFO commandstats'))?.[1] ?? 0)
    const before = await commands()
    for (let nth = 0; nth < 5_000; nth++) side.store.learn(dedupeKey(`k${nth}`), performance.now() + 60_000)
    await expect(findKeys(side.store, dedupeKey('k4999'))).rejects.toThrow('Redis is away')
    await until(() => side.store.waiting === 0)
    expect(await findKeys(side.store, dedupeKey('k4999'))).toEqual(['seen'])
    expect((await commands()) - before).toBeLessThan(20)
  })

  test('stopped, it fails claims in time and then at once; back, it is told what was accepted', async () => {
    const one = await new Side(redis, 'stopped', { timeoutMs: 400 }).start()
    const other = await new Side(redis, 'stopped').start()
    const claim = await claimOf(one.store, dedupeKey('accepted'), dedupeKey('refused'))
    redis.signal('SIGSTOP')
    onTestFinished(() => redis.signal('SIGCONT'))
    claim.keep(60_000, [dedupeKey('accepted')])
    await expect(findKeys(one.store, dedupeKey('unanswered'))).rejects.toThrow('no answer within 400 ms')
    // In the same turn: nothing is waited for.
    let refusal = ''
    one.store.claim([dedupeKey('next')], (error) => (refusal = error?.message ?? ''))
    expect(refusal).toBe('Redis is away')
    claim.release([dedupeKey('refused')])
    expect(one.store.failures).toEqual({ claim: 2, keep: 1, release: 0 })
    expect(one.store.waiting).toBe(3)
    redis.signal('SIGCONT')
    await until(() => one.link.isUp && one.store.waiting === 0)
    await until(() => other.link.isUp)
    expect(
      await findKeys(other.store, dedupeKey('accepted'), dedupeKey('refused'), dedupeKey('unanswered')),
    ).toEqual(['seen', 'new', 'new'])
    expect(one.logs.lines.map(({ message }) => message)).toEqual([
      'Redis is away; requests with an Idempotency-Key or ids are refused',
      'Redis is back',
    ])
  })

  test('an unanswered claim of a key that is kept takes the key from nobody', async () => {
    const one = await new Side(redis, 'kept', { timeoutMs: 300 }).start()
    const other = await new Side(redis, 'kept').start()
    ;(await claimOf(one.store, dedupeKey('k', '1'))).keep()
    await one.settled()
    redis.signal('SIGSTOP')
    onTestFinished(() => redis.signal('SIGCONT'))
    await expect(findKeys(one.store, dedupeKey('k', '1'))).rejects.toThrow('no answer within 300 ms')
    redis.signal('SIGCONT')
    await Promise.all([one.settled(), other.settled()])
    for (const side of [one, other]) expect(await findKeys(side.store, dedupeKey('k', '1'))).toEqual(['seen'])
  })

  test('what has had its time while Redis was away does not come back, and its claim ends', async () => {
    const one = await new Side(redis, 'over').start()
    const claim = await claimOf(one.store, dedupeKey('k'))
    await redis.kill()
    await until(() => !one.link.isUp)
    claim.keep(1)
    await pause(5)
    await redis.start()
    await one.settled()
    const other = await new Side(redis, 'over').start()
    expect(await findKeys(other.store, dedupeKey('k'))).toEqual(['new'])
  })

  test('keys that an older version kept are seen', async () => {
    const side = await new Side(redis, 'older').start()
    await redis.ask('SET chute:{older}:kold k:some-owner::1')
    expect(await findKeys(side.store, dedupeKey('kold', '1'))).toEqual(['seen'])
    expect(await findKeys(side.store, dedupeKey('kold', '2'))).toEqual(['reused'])
  })

  test('an id that a version before this one keeps is seen, whatever comes with it, and is not claimed', async () => {
    const side = new Side(redis, 'ids')
    const options = { store: side.store, windowMs: 60_000, journal: null, isShared: true }
    const deduplicator = new Deduplicator(options)
    await side.start()
    await redis.ask('SET chute:{ids}:ia k:some-owner::')
    await redis.ask('SET chute:{ids}:ib c:some-owner:7:')
    const judge = async (...ids: string[]): Promise<Verdict> =>
      await new Promise((resolve, reject) => {
        const events = ids.map((id) => ({ id, source: 'device', digest: 'd' }))
        deduplicator.claim({ key: null, body: Buffer.alloc(0), events }, (error, verdict) =>
          verdict === null ? reject(error ?? new Error()) : resolve(verdict),
        )
      })
    expect(await judge('a', 'c')).toMatchObject({ kind: 'claimed', fates: ['seen', 'new'] })
    expect(await judge('b')).toEqual({ kind: 'busy' })
    expect(await redis.ask('EXISTS chute:{ids}:ic chute:{ids}:e1:adevice')).toBe(':0\r\n')
    expect(await redis.ask('EXISTS chute:{ids}:e1:cdevice')).toBe(':1\r\n')
  })

  test('a command that it comes to after its time does nothing', async () => {
    const one = await new Side(redis, 'late').start()
    const clock = vi.spyOn(performance, 'now').mockReturnValueOnce(performance.now() - 10_000)
    const late = claimOf(one.store, dedupeKey('too late'))
    clock.mockRestore()
    await expect(late).rejects.toThrow('too late')
    expect(await redis.ask('EXISTS "chute:{late}:too late"')).toBe(':0\r\n')
  })

  test('killed and empty when it comes back, it is told of claims that are held and of what was accepted meanwhile', async () => {
    const one = await new Side(redis, 'killed').start()
    const claim = await claimOf(one.store, dedupeKey('held'), dedupeKey('accepted'))
    await redis.kill()
    await until(() => !one.link.isUp)
    claim.keep(60_000, [dedupeKey('accepted')])
    await redis.start()
    await until(() => one.link.isUp)
    const other = await new Side(redis, 'killed').start()
    expect(await findKeys(other.store, dedupeKey('held'), dedupeKey('accepted'))).toEqual(['busy', 'seen'])
  })

  test('scripts that it forgot are loaded again', async () => {
    const side = await new Side(redis, 'flushed').start()
    await redis.ask('SCRIPT FLUSH')
    await expect(findKeys(side.store, dedupeKey('k'))).rejects.toThrow('NOSCRIPT')
    await until(() => side.link.isUp)
    expect(await findKeys(side.store, dedupeKey('k'))).toEqual(['new'])
  })

  test('without room, it is away until it has room, and that is said once', async () => {
    const side = await new Side(redis, 'oom').start()
    await redis.ask('CONFIG SET maxmemory 1')
    onTestFinished(async () => void (await redis.ask('CONFIG SET maxmemory 0')))
    await expect(findKeys(side.store, dedupeKey('k'))).rejects.toThrow('OOM')
    await until(() => side.ends > 2)
    expect(side.link.isUp).toBe(false)
    await redis.ask('CONFIG SET maxmemory 0')
    await until(() => side.link.isUp)
    expect(await findKeys(side.store, dedupeKey('k'))).toEqual(['new'])
    expect(side.logs.lines).toMatchObject([
      { fields: { cause: expect.stringContaining('OOM') as string } },
      { message: 'Redis is back' },
    ])
  })

  test('away, it lets no more keys wait than are allowed; the oldest are given up, and counted', async () => {
    const side = new Side(redis, 'most', { maxWaiting: 3 })
    for (let i = 0; i < 5; i++) side.store.keep(i, [dedupeKey(`${i}`)], performance.now() + 60_000)
    expect([side.store.waiting, side.store.forgotten]).toEqual([3, 2])
    await side.start()
    expect(await findKeys(side.store, dedupeKey('1'), dedupeKey('2'), dedupeKey('4'))).toEqual([
      'new',
      'seen',
      'seen',
    ])
  })

  test('it learns from a journal what was accepted before a crash, and forgets nothing that others accepted since', async () => {
    const other = await new Side(redis, 'journal').start()
    const [old, lost, again] = [dedupeKey('ki', 'old'), dedupeKey('kj', 'lost'), dedupeKey('kk', 'again')]
    ;(await claimOf(other.store, again)).keep()
    await until(() => other.store.waiting === 0)
    const journal: DedupeJournal = {
      note() {},
      noteLater() {},
      // The last two were accepted, and then lost and told so; one of them was sent again, to the other gateway.
      readNotes(_windowMs, each) {
        for (const { name, fingerprint } of [old, lost, again])
          each(name, Buffer.from(fingerprint), Date.now() + 60_000)
        for (const { name } of [lost, again]) each(name, Buffer.from('-'), Date.now() + 60_000)
      },
    }
    const side = new Side(redis, 'journal')
    const deduplicator = new Deduplicator({ store: side.store, windowMs: 60_000, journal, isShared: true })
    expect(deduplicator.stats.entries).toBeNull()
    await side.start()
    expect(await findKeys(other.store, old, lost, again)).toEqual(['seen', 'new', 'seen'])
  })
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(2)
}
