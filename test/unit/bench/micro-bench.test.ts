import { expect, test } from 'vitest'
import { benchMicro } from '../../../bench/micro-bench.ts'
import { median } from '../../../bench/rounds.ts'
import { isLong } from '../../support/forms.ts'

/**
 * Bytes of garbage that an event may make between the route's handler and the connection to Kafka. They hardly depend on
 * the machine or its load, as a time would; what is here is one and a half times what was measured, so that it fails when each
 * event gets a closure, a promise or a parsed value again, and hardly before.
 */
const mostBytes: Readonly<Record<string, number>> = {
  'single event': 4_000,
  'NDJSON of 100': 340,
  'array of 100': 340,
}

test.runIf(isLong)('an event makes no more garbage than it may', { timeout: 60_000 }, async () => {
  const rows = await benchMicro({ rounds: 3, eventsPerRound: 10_000 })
  expect(rows.map(({ request }) => request)).toEqual(Object.keys(mostBytes))
  for (const { request, allocatedPerEvent, cpuMicrosPerEvent } of rows) {
    expect(allocatedPerEvent, request).toBeGreaterThan(0)
    expect(allocatedPerEvent, request).toBeLessThan(mostBytes[request]!)
    expect(cpuMicrosPerEvent, request).toBeGreaterThan(0)
  }
})

test('median is the middle, or between the two in the middle', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 2, 3])).toBe(2.5)
  expect(median([])).toBeNaN()
})
