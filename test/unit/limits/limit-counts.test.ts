import * as fc from 'fast-check'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { RateLimit } from '../../../src/config/limits.ts'
import {
  LimitCounts,
  type Charge,
  type Cost,
  type Subject,
  type Verdict,
} from '../../../src/limits/limit-counts.ts'
import { SharedLimits } from '../../../src/limits/shared-limits.ts'
import { limitOf } from '../../support/edge.ts'

function subject(id: string, limit: Partial<RateLimit>): Subject {
  return { id, limit: limitOf({ windowMs: 1_000, ...limit }) }
}

function costOf(cost: Partial<Cost>): Cost {
  return { requests: 0, events: 0, bytes: 0, ...cost }
}

const oneRequest = costOf({ requests: 1 })
/** The counts go on changing: a verdict is read at once. */
const plain = (verdict: Verdict): unknown => structuredClone(verdict)

test('a window begins with the first request of a subject and ends after its time', () => {
  const counts = new LimitCounts()
  const a = subject('a', { requests: 2 })
  const at = (nowMs: number): Verdict => counts.count({ subjects: [a], cost: oneRequest }, nowMs)
  expect(at(100)).toMatchObject({ refusedBy: -1, usages: [{ requests: 1, openMs: 0 }] })
  expect(at(400)).toMatchObject({ refusedBy: -1, usages: [{ requests: 2, openMs: 300 }] })
  expect(at(1_099)).toMatchObject({ refusedBy: 0, usages: [{ requests: 2, openMs: 999 }] })
  expect(at(1_100)).toMatchObject({ refusedBy: -1, usages: [{ requests: 1, openMs: 0 }] })
})

test('charges of one turn of the event loop have one time, and those of the next turn a later one', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const counts = new LimitCounts()
  const a = subject('a', { requests: 2 })
  const at = (nowMs: number): Verdict => {
    vi.advanceTimersByTime(nowMs - performance.now())
    return counts.chargeNow({ subjects: [a], cost: oneRequest })
  }
  const turn = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve))
  expect(at(100)).toMatchObject({ refusedBy: -1, usages: [{ requests: 1, openMs: 0 }] })
  expect(at(1_150)).toMatchObject({ refusedBy: -1, usages: [{ requests: 2, openMs: 0 }] })
  await turn()
  expect(at(1_160)).toMatchObject({ refusedBy: -1, usages: [{ requests: 1, openMs: 0 }] })
  counts.adopt(
    { subjects: [a], cost: oneRequest },
    { refusedBy: -1, usages: [{ ...costOf({ requests: 2 }), openMs: 10 }] },
  )
  expect(at(1_170)).toMatchObject({ refusedBy: 0, usages: [{ requests: 2, openMs: 10 }] })
})

test('charges of the same subjects in one turn are counted as those of others are', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const counts = new LimitCounts()
  const key = subject('key', { requests: 3 })
  const [both, one] = [[key, subject('address', { requests: 5 })], [key]]
  const charge = (subjects: Subject[]): unknown => plain(counts.chargeNow({ subjects, cost: oneRequest }))
  expect(charge(both)).toMatchObject({ refusedBy: -1, usages: [{ requests: 1 }, { requests: 1 }] })
  expect(charge(both)).toMatchObject({ refusedBy: -1, usages: [{ requests: 2 }, { requests: 2 }] })
  expect(charge(one)).toMatchObject({ refusedBy: -1, usages: [{ requests: 3 }] })
  expect(charge(both)).toMatchObject({ refusedBy: 0, usages: [{ requests: 3 }, { requests: 2 }] })
  // Another store knows more.
  counts.adopt(
    { subjects: both, cost: oneRequest },
    { refusedBy: -1, usages: [0, 1].map(() => ({ ...costOf({ requests: 1 }), openMs: 400 })) },
  )
  expect(charge(both)).toMatchObject({
    refusedBy: -1,
    usages: [{ requests: 2, openMs: 400 }, { openMs: 400 }],
  })
  await new Promise((resolve) => setImmediate(resolve))
  vi.advanceTimersByTime(600)
  expect(charge(both)).toMatchObject({ refusedBy: -1, usages: [{ requests: 1, openMs: 0 }, { requests: 1 }] })
})

test('a charge that one subject refuses is charged to none', () => {
  const counts = new LimitCounts()
  const subjects = [subject('key', { events: 100 }), subject('address', { events: 10 })]
  expect(counts.count({ subjects, cost: costOf({ events: 11 }) }, 0).refusedBy).toBe(1)
  expect(counts.count({ subjects, cost: costOf({ events: 10 }) }, 0)).toMatchObject({
    refusedBy: -1,
    usages: [{ events: 10 }, { events: 10 }],
  })
})

test('a quantity that has run out refuses nothing that does not need it', () => {
  const counts = new LimitCounts()
  const subjects = [subject('a', { requests: 10, bytes: 100 })]
  counts.count({ subjects, cost: costOf({ requests: 1, bytes: 100 }) }, 0)
  expect(counts.count({ subjects, cost: costOf({ bytes: 1 }) }, 1).refusedBy).toBe(0)
  expect(counts.count({ subjects, cost: oneRequest }, 2).refusedBy).toBe(-1)
})

test('who was quiet for some windows may send what they allow at once, up to the burst', () => {
  const counts = new LimitCounts()
  const subjects = [subject('a', { requests: 10, burst: 3 })]
  const send = (requests: number, nowMs: number): number =>
    counts.count({ subjects, cost: costOf({ requests }) }, nowMs).refusedBy
  expect(send(30, 0)).toBe(-1)
  expect(send(1, 999)).toBe(0)
  expect(send(10, 1_000)).toBe(-1)
  expect(send(1, 1_500)).toBe(0)
  expect(send(20, 3_500)).toBe(-1)
  expect(send(1, 3_600)).toBe(0)
  expect(send(30, 60_000)).toBe(-1)
})

test('a limit that is changed holds at once, and the count goes on', () => {
  const counts = new LimitCounts()
  const before = [subject('a', { requests: 10 })]
  for (let n = 0; n < 5; n++) counts.count({ subjects: before, cost: oneRequest }, n)
  const send = (requests: number): number =>
    counts.count({ subjects: [subject('a', { requests })], cost: oneRequest }, 10).refusedBy
  expect(send(5)).toBe(0)
  expect(send(6)).toBe(-1)
  expect(send(6)).toBe(0)
})

test('above its capacity it forgets who was not charged for longest', () => {
  const counts = new LimitCounts(2)
  const used = (id: string, nowMs: number): number =>
    counts.count({ subjects: [subject(id, { requests: 9 })], cost: oneRequest }, nowMs).usages[0]!.requests
  used('a', 0)
  used('b', 1)
  used('a', 2)
  used('c', 3)
  expect(used('a', 4)).toBe(3)
  expect(used('b', 5)).toBe(1)
})

test('no window has more than the quota for each window since the beginning and the burst', () => {
  const sends = fc.array(fc.tuple(fc.nat(900), fc.integer({ min: 1, max: 12 })), { maxLength: 60 })
  fc.assert(
    fc.property(sends, fc.integer({ min: 1, max: 4 }), (steps, burst) => {
      const counts = new LimitCounts()
      const subjects = [subject('a', { events: 10, burst })]
      let [nowMs, taken] = [0, 0]
      for (const [waitMs, events] of steps) {
        nowMs += waitMs
        const { refusedBy } = counts.count({ subjects, cost: costOf({ events }) }, nowMs)
        if (refusedBy === -1) taken += events
        expect(taken).toBeLessThanOrEqual(10 * burst + 10 * Math.floor(nowMs / 1_000))
      }
    }),
  )
})

test('while the store of several gateways is away a gateway goes on from what the store told last', () => {
  let answer: Verdict | null = { refusedBy: -1, usages: [{ requests: 8, events: 0, bytes: 0, openMs: 0 }] }
  const shared = new SharedLimits({ charge: (_charge, done) => done(answer) }, new LimitCounts())
  const charge = { subjects: [subject('a', { requests: 10, windowMs: 600_000 })], cost: oneRequest }
  const told: unknown[] = []
  shared.charge(charge, (verdict) => told.push(plain(verdict)))
  answer = null
  for (let n = 0; n < 3; n++) shared.charge(charge, (verdict) => told.push(plain(verdict)))
  expect(told).toMatchObject([
    { refusedBy: -1, usages: [{ requests: 8 }] },
    { refusedBy: -1, usages: [{ requests: 9 }] },
    { refusedBy: -1, usages: [{ requests: 10 }] },
    { refusedBy: 0, usages: [{ requests: 10 }] },
  ])
})

test('so does a gateway of several workers, whose primary counts then', () => {
  let answer: Verdict | null = { refusedBy: -1, usages: [{ requests: 10, events: 0, bytes: 0, openMs: 0 }] }
  const primary = new LimitCounts()
  const redis = { charge: (_charge: Charge, done: (verdict: Verdict | null) => void) => done(answer) }
  const ofWorker = (): SharedLimits => new SharedLimits(redis, new SharedLimits(primary, new LimitCounts()))
  const charge = { subjects: [subject('a', { requests: 10, windowMs: 600_000 })], cost: oneRequest }
  const told: number[] = []
  ofWorker().charge(charge, ({ refusedBy }) => told.push(refusedBy))
  answer = null
  ofWorker().charge(charge, ({ refusedBy }) => told.push(refusedBy))
  expect(told).toEqual([-1, 0])
})
