import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LingerClock, LingerClocks } from '../../../../src/kafka/producer/linger-clock.ts'
import { pass, useVirtualClock } from '../../../support/virtual-clock.ts'

beforeEach(() => useVirtualClock())
afterEach(() => vi.useRealTimers())

test('a period begins with the first batch, and ends linger.ms later for all that have one', async () => {
  const clock = new LingerClock(50)
  const [one, other, idle] = [vi.fn(), vi.fn(), vi.fn()]
  await pass(1_000)
  const opened = clock.period
  clock.opened(one)
  await pass(30)
  clock.opened(one)
  clock.opened(other)
  await pass(19)
  expect(clock.period).toBe(opened)
  await pass(1)
  expect(clock.period).toBe(opened + 1)
  expect(one).toHaveBeenCalledOnce()
  expect(other).toHaveBeenCalledOnce()
  expect(idle).not.toHaveBeenCalled()
  expect(vi.getTimerCount()).toBe(0)
})

test('who leaves is called no more, and the last one to leave stops the timer', async () => {
  const clock = new LingerClock(50)
  const [one, other] = [vi.fn(), vi.fn()]
  clock.opened(one)
  clock.opened(other)
  clock.leave(one)
  expect(vi.getTimerCount()).toBe(1)
  clock.leave(other)
  expect(vi.getTimerCount()).toBe(0)
  await pass(100)
  expect(one).not.toHaveBeenCalled()
  // The next period is a whole one.
  clock.opened(one)
  await pass(49)
  expect(one).not.toHaveBeenCalled()
  await pass(1)
  expect(one).toHaveBeenCalledOnce()
})

test('streams share a clock if they have the same linger.ms', () => {
  const clocks = new LingerClocks()
  expect(clocks.of(5)).toBe(clocks.of(5))
  expect(clocks.of(5)).not.toBe(clocks.of(50))
})
