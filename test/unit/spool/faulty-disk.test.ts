import { setImmediate as nextTurn } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeInnerProducer } from '../../support/fake-inner-producer.ts'
import { FaultyDisk, noFaults, randomOf } from '../../support/faulty-disk.ts'
import { isLong } from '../../support/forms.ts'
import { SpoolFixture, type TestRecord } from '../../support/spool-fixture.ts'

/** A thousand in CI; where people wait for it, fewer. */
const runs = Number(process.env['CHUTE_RUNS'] ?? (isLong ? 1_000 : 150))

beforeEach(() => {
  const toFake = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] as const
  vi.useFakeTimers({ toFake: [...toFake] })
})
afterEach(() => void vi.useRealTimers())

const request = fc.record({
  kind: fc.constant('request' as const),
  records: fc.nat(5),
  size: fc.nat(200),
  /** Records of another request that is taken while this one is appended; 0: this one is appended at once. */
  between: fc.constantFrom(0, 0, 1, 3),
})
const faults = fc.record({
  kind: fc.constant('faults' as const),
  fail: fc.constantFrom(0.05, 0.3, 0.7, 1),
  short: fc.constantFrom(0, 0.3),
  hang: fc.constantFrom(0, 0, 0, 0.05, 0.5),
})

/** What happens to a gateway between two starts. */
const step = fc.oneof(
  { weight: 8, arbitrary: request },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('settle' as const), batch: fc.nat(9) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('turns' as const), count: fc.nat(12) }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(60, 300, 1_100) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('kafka' as const), isThere: fc.boolean() }) },
  { weight: 2, arbitrary: faults },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('heal' as const) }) },
)

type Step = typeof step extends fc.Arbitrary<infer Each> ? Each : never

const life = fc.record({
  steps: fc.array(step, { maxLength: 30, size: 'max' }),
  end: fc.constantFrom('kill' as const, 'power' as const, 'close' as const),
})

const scenario = fc.record({
  seed: fc.integer(),
  fsync: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  lives: fc.array(life, { minLength: 2, maxLength: 4, size: 'max' }),
})

/** All that was promised, over all lives of a run. */
class Promises {
  readonly accepted: TestRecord[] = []
  readonly acceptedKeys: string[] = []
  readonly refused = new Set<string>()
  readonly refusedKeys = new Set<string>()
  undecided = 0
  readonly sent: string[] = []
  next = 0
}

test(
  'what was answered durable is sent by some life, what was refused by none, and each start succeeds, whatever the disk does',
  { timeout: 60_000 + runs * 300 },
  async () => {
    const sums = { accepted: 0, refused: 0, undecided: 0, injected: 0 }
    await fc.assert(
      fc.asyncProperty(scenario, async ({ seed, fsync, lives }) => {
        const promises = new Promises()
        let disk = new FaultyDisk(randomOf(seed))
        let created: string[] = []
        for (const each of lives) {
          const spool = start(disk, promises, fsync)
          await live(spool, disk, promises, each.steps)
          if (each.end === 'close') {
            const state = { isClosed: false }
            void spool.producer.close(performance.now() + 2_000).then(() => (state.isClosed = true))
            for (let ms = 0; ms <= 2_000 && !state.isClosed; ms += 100) await pass(100)
            await turns(20)
            expect(state.isClosed).toBe(true)
          }
          promises.sent.push(...spool.inner.values)
          expect(spool.imbalance).toBe(0)
          expect(spool.producer.stats.dropped.spool_damaged).toBe(0)
          created.push(...logsOf(disk))
          expect(new Set(created).size).toBe(created.length)
          // A name that a power cut took before its sync was never used.
          if (each.end === 'power') created = []
          sums.injected += disk.injected
          disk = each.end === 'power' && fsync ? disk.cutPower() : disk.kill()
          spool.producer.abort()
          vi.clearAllTimers()
        }
        const last = start(disk, promises, fsync)
        last.inner.acksAtOnce = true
        for (let nth = 0; nth < 500 && last.producer.stats.spooled > 0; nth++) await pass(60)
        await turns(20)
        expect(last.producer.stats).toMatchObject({ spooled: 0, dropped: { spool_damaged: 0 } })
        promises.sent.push(...last.inner.values)
        check(promises)
        sums.accepted += promises.accepted.length
        sums.refused += promises.refused.size
        sums.undecided += promises.undecided
        last.producer.abort()
        vi.clearAllTimers()
      }),
      { numRuns: runs },
    )
    process.stderr.write(`faulty disk: ${JSON.stringify({ runs, ...sums })}\n`)
    expect(sums.accepted).toBeGreaterThan(runs)
    expect(sums.refused).toBeGreaterThan(runs / 2)
    expect(sums.injected).toBeGreaterThan(runs)
    // The end is known nearly always.
    expect(sums.undecided).toBeLessThan(sums.refused / 4)
  },
)

test('what a start finds is on the disk before it counts, though the kernel took the bytes for clean after a failed sync', async () => {
  const promises = new Promises()
  const disk = new FaultyDisk(randomOf(1))
  const first = start(disk, promises, true)
  first.submit([{ key: null, value: 'before' }], () => {})
  await turns(40)
  expect(first.producer.stats.accepted).toBe(1)
  // The write of the next request ends, and its sync does not. The disk gets nothing of it, and the process is killed.
  const synced = new Promise<void>((resolve) => {
    disk.sync = () => resolve()
  })
  first.submit([{ key: null, value: 'without an answer' }], () => {}, 'a key')
  await synced
  disk.takeForClean()
  const second = disk.kill()
  first.producer.abort()
  vi.clearAllTimers()

  const spool = start(second, promises, true)
  expect(spool.producer.stats.recovered).toBe(2)
  // Another file, whose name says how many records the one before it has.
  spool.submit([{ key: null, value: 'behind' }], () => {})
  await turns(40)
  expect(spool.producer.stats.accepted).toBe(1)
  const third = second.cutPower()
  spool.producer.abort()
  vi.clearAllTimers()

  const last = start(third, promises, true)
  last.inner.acksAtOnce = true
  for (let nth = 0; nth < 100 && last.producer.stats.spooled > 0; nth++) await pass(60)
  await turns(20)
  expect(last.producer.stats).toMatchObject({ spooled: 0, dropped: { spool_damaged: 0 } })
  expect(last.inner.values).toEqual(['before', 'without an answer', 'behind'])
})

function start(disk: FaultyDisk, promises: Promises, fsync: boolean): SpoolFixture {
  disk.faults = noFaults
  const inner = new FakeInnerProducer({ bufferMemoryBytes: 8_000, batchRecords: 3 })
  const spool = new SpoolFixture({ disk, inner, maxBytes: 24_000, fsync })
  const known = new Set<string>()
  spool.producer.readNotes(1e12, (key) => known.add(key))
  expect(promises.acceptedKeys.filter((key) => !known.has(key))).toEqual([])
  expect([...promises.refusedKeys].filter((key) => known.has(key))).toEqual([])
  return spool
}

async function live(
  spool: SpoolFixture,
  disk: FaultyDisk,
  promises: Promises,
  steps: readonly Step[],
): Promise<void> {
  const { inner } = spool
  for (const each of steps) {
    if (each.kind === 'faults') disk.faults = each
    else if (each.kind === 'heal') disk.faults = noFaults
    else if (each.kind === 'kafka') inner.admission = each.isThere ? 'open' : 'not_known_yet'
    else if (each.kind === 'turns') await turns(each.count)
    else if (each.kind === 'time') await pass(each.ms)
    else if (each.kind === 'settle') {
      const batch = inner.batches[each.batch]
      if (batch !== undefined) inner.settle(batch)
    } else submit(spool, promises, each)
    expect(spool.imbalance).toBe(0)
  }
}

function submit(
  spool: SpoolFixture,
  promises: Promises,
  each: { records: number; size: number; between: number },
): void {
  const records = Array.from({ length: each.records }, () => {
    const nth = promises.next++
    return { key: nth % 3 === 0 ? null : 'k'.repeat(nth % 3), value: `${nth} `.padEnd(each.size, '.') }
  })
  const key = `key ${promises.next}`
  spool.submit(
    records,
    (failure, isUndecided) => {
      if (isUndecided === true) promises.undecided += records.length
      else if (failure === null) {
        promises.accepted.push(...records)
        if (records.length > 0) promises.acceptedKeys.push(key)
      } else {
        for (const { value } of records) promises.refused.add(value)
        if (records.length > 0) promises.refusedKeys.add(key)
      }
    },
    key,
    each.between === 0 || records.length === 0
      ? null
      : () => submit(spool, promises, { ...each, records: each.between, between: 0 }),
  )
}

function logsOf({ created }: FaultyDisk): string[] {
  return created.filter((name) => name.endsWith('.log'))
}

function check({ accepted, refused, sent }: Promises): void {
  const first = [...new Set(sent)]
  expect(accepted.map(({ value }) => value).filter((value) => !first.includes(value))).toEqual([])
  expect(first.filter((value) => refused.has(value))).toEqual([])
  for (const key of ['k', 'kk']) {
    const wanted = accepted.filter((record) => record.key === key).map(({ value }) => value)
    expect(first.filter((value) => wanted.includes(value))).toEqual(wanted)
  }
}

async function turns(count: number): Promise<void> {
  for (let nth = 0; nth < count; nth++) await nextTurn()
}

async function pass(ms: number): Promise<void> {
  vi.advanceTimersByTime(ms)
  await turns(8)
}
