import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { QuotaCare } from '../../../../../src/kafka/producer/at-most-once/quota-care.ts'
import type { BrokerConnection } from '../../../../../src/kafka/network/transport.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** @param renewInMs when the session of the connection is renewed; Infinity: it has no end. */
function setUp(renewInMs: number) {
  const throttle = vi.fn()
  const onReady = vi.fn()
  const connection = { throttle, renewAtMs: performance.now() + renewInMs } as unknown as BrokerConnection
  const care = new QuotaCare(onReady)
  care.attach(connection)
  return { care, connection, throttle, onReady }
}

test('a pause that the broker asks for holds back all writes, and ends with a call', () => {
  const { care, connection, throttle, onReady } = setUp(Infinity)
  care.throttle(connection, 0)
  expect(care.isThrottled).toBe(false)
  care.throttle(connection, 400)
  expect(throttle.mock.calls).toEqual([[400]])
  vi.advanceTimersByTime(399)
  expect(care.isThrottled).toBe(true)
  expect(onReady).not.toHaveBeenCalled()
  vi.advanceTimersByTime(1)
  expect(care.isThrottled).toBe(false)
  expect(onReady).toHaveBeenCalledOnce()
})

test('a session without an end needs no care, whatever the broker asks for', () => {
  const { care, connection } = setUp(Infinity)
  care.barrierTook(connection, 5_000)
  care.throttle(connection, 400)
  expect(care.isCareful(performance.now())).toBe(false)
})

test('a short session needs care from its start, and a longer one behind it does not', () => {
  const { care, connection } = setUp(49_000)
  expect(care.isCareful(performance.now())).toBe(true)
  care.attach({ ...connection, renewAtMs: performance.now() + 51_000 })
  expect(care.isCareful(performance.now())).toBe(false)
})

test.each([
  ['a barrier that took long', 0],
  ['the end of a pause', 400],
])('in a session that ends, each write is answered for 15 s after %s', (_, pauseMs) => {
  const { care, connection } = setUp(3_600_000)
  care.barrierTook(connection, 200)
  expect(care.isCareful(performance.now())).toBe(false)
  if (pauseMs === 0) care.barrierTook(connection, 201)
  else care.throttle(connection, pauseMs)
  vi.advanceTimersByTime(pauseMs + 14_999)
  expect(care.isCareful(performance.now())).toBe(true)
  vi.advanceTimersByTime(1)
  expect(care.isCareful(performance.now())).toBe(false)
})

test('a shorter pause that comes later shortens none', () => {
  const { care, connection, onReady } = setUp(Infinity)
  care.throttle(connection, 400)
  care.throttle(connection, 100)
  vi.advanceTimersByTime(399)
  expect([care.isThrottled, onReady.mock.calls.length]).toEqual([true, 0])
  vi.advanceTimersByTime(1)
  expect([care.isThrottled, onReady.mock.calls.length]).toEqual([false, 1])
})
