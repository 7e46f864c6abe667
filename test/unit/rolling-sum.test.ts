import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { RollingSum } from '../../src/rolling-sum.ts'
import { useVirtualClock } from '../support/virtual-clock.ts'

beforeEach(() => useVirtualClock())
afterEach(() => vi.useRealTimers())

test('it is the sum of what was added in the last seconds, the current one included', () => {
  const step = fc.record({
    passMs: fc.integer({ min: 0, max: 9_000 }),
    value: fc.integer({ min: 0, max: 100 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const sum = new RollingSum(5)
      const added: { second: number; value: number }[] = []
      for (const { passMs, value } of steps) {
        vi.advanceTimersByTime(passMs)
        const second = Math.floor(performance.now() / 1000)
        sum.add(value)
        added.push({ second, value })
        const expected = added
          .filter((entry) => entry.second > second - 5)
          .reduce((total, entry) => total + entry.value, 0)
        expect(sum.sum()).toBe(expected)
      }
    }),
  )
})

test('it is zero again after a silence of any length', () => {
  const sum = new RollingSum(3)
  sum.add(5)
  vi.advanceTimersByTime(3_000)
  expect(sum.sum()).toBe(0)
  sum.add(7)
  vi.advanceTimersByTime(1_000_000)
  expect(sum.sum()).toBe(0)
})
