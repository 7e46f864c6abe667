import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { DedupeKey, Found } from '../../../src/dedupe/dedupe-store.ts'
import { MemoryDedupeStore } from '../../../src/dedupe/memory-dedupe-store.ts'

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }))
afterEach(() => void vi.useRealTimers())

const windowMs = 1_000

function claim(store: MemoryDedupeStore, ...keys: DedupeKey[]): readonly Found[] {
  let answer: readonly Found[] = []
  store.claim(keys, (_, found) => (answer = found))
  return answer
}

const key = (name: string, fingerprint = ''): DedupeKey => ({ name, fingerprint })

describe('a key', () => {
  test('is new, then busy, then seen until its time is over', () => {
    const store = new MemoryDedupeStore(10)
    expect(claim(store, key('a'))).toEqual(['new'])
    expect(claim(store, key('a'))).toEqual(['busy'])
    store.keep([key('a')], Date.now() + windowMs)
    vi.advanceTimersByTime(windowMs - 1)
    expect(claim(store, key('a'))).toEqual(['seen'])
    vi.advanceTimersByTime(1)
    expect(claim(store, key('a'))).toEqual(['new'])
  })

  test('that is released is new again, also after it was kept', () => {
    const store = new MemoryDedupeStore(10)
    claim(store, key('a'))
    store.release([key('a')])
    expect(claim(store, key('a'))).toEqual(['new'])
    store.keep([key('a')], Date.now() + windowMs)
    store.release([key('a')])
    expect(claim(store, key('a'))).toEqual(['new'])
  })

  test('with another fingerprint is reused, whether it is claimed or kept', () => {
    const store = new MemoryDedupeStore(10)
    claim(store, key('a', '1'))
    expect(claim(store, key('a', '2'))).toEqual(['reused'])
    store.keep([key('a', '1')], Date.now() + windowMs)
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
)

test('any requests at any times: what was accepted within the window is seen, what was not is new', () => {
  const property = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const store = new MemoryDedupeStore(100)
    const accepted = new Map<string, { untilMs: number; fingerprint: string }>()
    for (const each of steps) {
      if (each.kind === 'pass') {
        vi.advanceTimersByTime(each.ms)
        continue
      }
      const keys = each.names.map((name) => key(name, each.fingerprint))
      const expected = keys.map(({ name, fingerprint }) => {
        const known = accepted.get(name)
        if (known === undefined || known.untilMs <= Date.now()) return 'new'
        return known.fingerprint === fingerprint ? 'seen' : 'reused'
      })
      expect(claim(store, ...keys)).toEqual(expected)
      if (expected.includes('reused')) continue
      const claimed = keys.filter((_, nth) => expected[nth] === 'new')
      const untilMs = Date.now() + windowMs
      if (each.isAccepted) store.keep(claimed, untilMs)
      else store.release(claimed)
      for (const { name, fingerprint } of claimed)
        if (each.isAccepted) accepted.set(name, { untilMs, fingerprint })
        else accepted.delete(name)
    }
    const alive = [...accepted.values()].filter(({ untilMs }) => untilMs > Date.now())
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
        claim(store, key(`${i}`))
        store.keep([key(`${i}`)], Date.now() + windowMs)
        expect(store.size).toBeLessThanOrEqual(most)
      }
      expect(store.forgotten).toBe(Math.max(0, count - most))
      const seen = Array.from({ length: count }, (_, i) => claim(store, key(`${i}`))[0])
      expect(seen).toEqual(Array.from({ length: count }, (_, i) => (i < count - most ? 'new' : 'seen')))
    },
  )
  fc.assert(property, { numRuns: 100 })
})

test('what is claimed is not forgotten for want of room', () => {
  const store = new MemoryDedupeStore(1)
  claim(store, key('claimed'))
  for (const name of ['a', 'b', 'c']) {
    claim(store, key(name))
    store.keep([key(name)], Date.now() + windowMs)
  }
  expect(claim(store, key('claimed'))).toEqual(['busy'])
})
