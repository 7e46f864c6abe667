import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { CircuitBreaker } from '../../src/circuit-breaker.ts'
import { useVirtualClock } from '../support/virtual-clock.ts'

beforeEach(() => useVirtualClock())
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

function pausesAfterFailures(random: number): number[] {
  vi.spyOn(Math, 'random').mockReturnValue(random)
  const breaker = new CircuitBreaker()
  return [1, 2, 3, 4, 5, 6].map(() => {
    breaker.failed()
    return breaker.waitMs
  })
}

test('the pause grows to its ceiling when the jitter is at its most', () => {
  expect(pausesAfterFailures(1)).toEqual([100, 200, 400, 750, 750, 750])
})

test('the pause is never below 50 ms when the jitter is at its least', () => {
  expect(pausesAfterFailures(0)).toEqual([50, 50, 50, 50, 50, 50])
})

test('the pause stays at the ceiling after any number of failures', () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.999)
  const breaker = new CircuitBreaker()
  for (let i = 0; i < 5_000; i++) breaker.failed()
  expect(breaker.waitMs).toBe(750)
})

test('it is open from a failure until the pause is over', () => {
  vi.spyOn(Math, 'random').mockReturnValue(1)
  const breaker = new CircuitBreaker()
  expect(breaker.isOpen).toBe(false)
  expect(breaker.waitMs).toBe(0)
  breaker.failed()
  expect(breaker.isOpen).toBe(true)
  vi.advanceTimersByTime(99)
  expect(breaker.isOpen).toBe(true)
  vi.advanceTimersByTime(1)
  expect(breaker.isOpen).toBe(false)
  expect(breaker.waitMs).toBe(0)
})

test('a success closes it, and the next failure starts with the shortest pause', () => {
  vi.spyOn(Math, 'random').mockReturnValue(1)
  const breaker = new CircuitBreaker()
  breaker.failed()
  breaker.failed()
  breaker.succeeded()
  expect(breaker).toMatchObject({ isOpen: false, waitMs: 0, failures: 0 })
  breaker.failed()
  expect(breaker.waitMs).toBe(100)
})
