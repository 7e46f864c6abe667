import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { DedupeKey, Found } from '../../../src/dedupe/dedupe-store.ts'
import { MemoryDedupeStore } from '../../../src/dedupe/memory-dedupe-store.ts'

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }))
afterEach(() => void vi.useRealTimers())

const windowMs = 1_000

function claim(store: MemoryDedupeStore, ...keys: DedupeKey[]): readonly Found[] {
  return claimed(store, ...keys).found
}

/** A claim, with its end. */
function claimed(store: MemoryDedupeStore, ...keys: DedupeKey[]): Claimed {
  let answer: Claimed | null = null
  store.claim(keys, (_, found, number) => {
    answer = {
      found,
      keep: () => store.keep(number, keys, performance.now() + windowMs),
      release: () => store.release(number, keys),
    }
  })
  return answer!
}

interface Claimed {
  readonly found: readonly Found[]
  keep(): void
  release(): void
}

const key = (name: string, fingerprint = ''): DedupeKey => ({ name, fingerprint })

describe('a key', () => {
  test('is new, then busy, then seen until its time is over', () => {
    const store = new MemoryDedupeStore(10)
    const first = claimed(store, key('a'))
    expect(first.found).toEqual(['new'])
    expect(claim(store, key('a'))).toEqual(['busy'])
    first.keep()
    vi.advanceTimersByTime(windowMs - 1)
    expect(claim(store, key('a'))).toEqual(['seen'])
    vi.advanceTimersByTime(1)
    expect(claim(store, key('a'))).toEqual(['new'])
  })

  test('that is released is new again, also after it was kept', () => {
    const store = new MemoryDedupeStore(10)
    claimed(store, key('a')).release()
    const second = claimed(store, key('a'))
    expect(second.found).toEqual(['new'])
    second.keep()
    second.release()
    expect(claim(store, key('a'))).toEqual(['new'])
  })

  test('is kept for its time, whatever the wall clock does', () => {
    const store = new MemoryDedupeStore(10)
    claimed(store, key('a')).keep()
    vi.setSystemTime(Date.now() + 15 * 60_000)
    expect(claim(store, key('a'))).toEqual(['seen'])
    vi.setSystemTime(Date.now() - 30 * 60_000)
    expect(claim(store, key('a'))).toEqual(['seen'])
    vi.advanceTimersByTime(windowMs)
    expect(claim(store, key('a'))).toEqual(['new'])
  })

  test('with another fingerprint is contested while it is claimed, and reused once it is kept', () => {
    const store = new MemoryDedupeStore(10)
    const first = claimed(store, key('a', '1'))
    expect(claim(store, key('a', '2'))).toEqual(['contested'])
    first.keep()
    expect(claim(store, key('a', '2'))).toEqual(['reused'])
    expect(claim(store, key('a', '1'))).toEqual(['seen'])
  })
})

test('of keys that come together, none is claimed where one is busy or reused', () => {
  const store = new MemoryDedupeStore(10)
  claim(store, key('busy'))
  expect(claim(store, key('new'), key('busy'))).toEqual(['new', 'busy'])
  expect(claim(store, key('new'))).toEqual(['new'])
})

/** What can happen to a store. */
const step = fc.oneof(
  fc.record({
    kind: fc.constant('request' as const),
    names: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), { minLength: 1, maxLength: 3 }),
    fingerprint: fc.constantFrom('', '', 'x'),
    isAccepted: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 1_500 }) }),
  fc.record({ kind: fc.constant('step' as const), ms: fc.integer({ min: -3_600_000, max: 3_600_000 }) }),
)

test('any requests at any times, and steps of the clock: what was accepted within the window is seen, what was not is new', () => {
  const property = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const store = new MemoryDedupeStore(100)
    const accepted = new Map<string, { untilMs: number; fingerprint: string }>()
    for (const each of steps) {
      if (each.kind === 'pass') {
        vi.advanceTimersByTime(each.ms)
        continue
      }
      if (each.kind === 'step') {
        vi.setSystemTime(Date.now() + each.ms)
        continue
      }
      const keys = each.names.map((name) => key(name, each.fingerprint))
      const expected = keys.map(({ name, fingerprint }) => {
        const known = accepted.get(name)
        if (known === undefined || known.untilMs <= performance.now()) return 'new'
        return known.fingerprint === fingerprint ? 'seen' : 'reused'
      })
      let number = -1
      store.claim(keys, (_, found, claimNumber) => {
        expect(found).toEqual(expected)
        number = claimNumber
      })
      if (expected.includes('reused')) continue
      const isNew = keys.filter((_, nth) => expected[nth] === 'new')
      const untilMs = performance.now() + windowMs
      if (each.isAccepted) store.keep(number, isNew, untilMs)
      else store.release(number, isNew)
      for (const { name, fingerprint } of isNew)
        if (each.isAccepted) accepted.set(name, { untilMs, fingerprint })
        else accepted.delete(name)
    }
    const alive = [...accepted.values()].filter(({ untilMs }) => untilMs > performance.now())
    expect(store.size).toBe(alive.length)
    expect(store.forgotten).toBe(0)
  })
  fc.assert(property, { numRuns: 300 })
})

test('there are never more than its most; the oldest are forgotten first, and counted', () => {
  const property = fc.property(
    fc.integer({ min: 1, max: 20 }),
    fc.integer({ min: 0, max: 60 }),
    (most, count) => {
      const store = new MemoryDedupeStore(most)
      for (let i = 0; i < count; i++) {
        claimed(store, key(`${i}`)).keep()
        expect(store.size).toBeLessThanOrEqual(most)
      }
      expect(store.forgotten).toBe(Math.max(0, count - most))
      const seen = Array.from({ length: count }, (_, i) => claim(store, key(`${i}`))[0])
      expect(seen).toEqual(Array.from({ length: count }, (_, i) => (i < count - most ? 'new' : 'seen')))
    },
  )
  fc.assert(property, { numRuns: 200 })
})

test('what is claimed is not forgotten for want of room', () => {
  const store = new MemoryDedupeStore(1)
  claim(store, key('claimed'))
  for (const name of ['a', 'b', 'c']) {
    claimed(store, key(name)).keep()
  }
  expect(claim(store, key('claimed'))).toEqual(['busy'])
})

test('a full store forgets the oldest key without a look at those that were forgotten before', () => {
  vi.useRealTimers()
  const maxEntries = 100_000
  const store = new MemoryDedupeStore(maxEntries)
  const timeMs = (round: number): number => {
    const keys = Array.from({ length: 10_000 }, (_, nth) => key(`${round}-${nth}`))
    const startedAtMs = performance.now()
    store.keep(round, keys, startedAtMs + 60_000)
    return performance.now() - startedAtMs
  }
  const roomy = Array.from({ length: 10 }, (_, round) => timeMs(round)).toSorted((a, b) => a - b)
  const full = Array.from({ length: 10 }, (_, round) => timeMs(10 + round)).toSorted((a, b) => a - b)
  expect(store.forgotten).toBe(maxEntries)
  // Medians: going over them takes sixty times as long.
  expect(full[5]).toBeLessThan(20 * roomy[5]!)
})
