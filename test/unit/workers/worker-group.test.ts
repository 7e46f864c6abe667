import { expect, test } from 'vitest'
import { RequestCounts } from '../../../src/workers/worker-group.ts'

test('a window begins with the first request of an address and ends after its time', () => {
  const counts = new RequestCounts(1_000)
  expect(counts.count('a', 100)).toEqual({ current: 1, ttl: 1_000 })
  expect(counts.count('a', 400)).toEqual({ current: 2, ttl: 700 })
  expect(counts.count('b', 500)).toEqual({ current: 1, ttl: 1_000 })
  expect(counts.count('a', 1_099)).toEqual({ current: 3, ttl: 1 })
  expect(counts.count('a', 1_100)).toEqual({ current: 1, ttl: 1_000 })
})

test('above its capacity it forgets who was not seen for longest', () => {
  const counts = new RequestCounts(1_000, 2)
  counts.count('a', 0)
  counts.count('b', 1)
  counts.count('a', 2)
  counts.count('c', 3)
  expect(counts.count('a', 4).current).toBe(3)
  expect(counts.count('b', 5).current).toBe(1)
})
