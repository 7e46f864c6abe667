import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import { afterEach, expect, test, vi } from 'vitest'
import { stopIdleTimers } from '../../../../src/kafka/network/kafkajs-idle-timer.ts'

afterEach(() => vi.useRealTimers())

/** Timers that kafkajs's queue arms after a response, with so many requests held back. */
function timersWith(pending: readonly unknown[]): number {
  vi.useFakeTimers()
  const queue = Object.assign(Object.create(RequestQueue.prototype) as typeof RequestQueue.prototype, {
    pending,
    throttledUntil: Date.now() + 50,
    throttleCheckTimeoutId: null,
  })
  queue.scheduleCheckPendingRequests.call(queue as never)
  return vi.getTimerCount()
}

test('the queue of a connection arms its timer only while requests are held back, however often that is asked', () => {
  stopIdleTimers()
  stopIdleTimers()
  expect(timersWith([])).toBe(0)
  expect(timersWith([{}])).toBe(1)
})
