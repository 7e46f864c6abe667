import { expect, test } from 'vitest'
import { Standstill } from '../../../../../src/kafka/producer/at-most-once/replicated-partition.ts'

const intervalMs = 20
const roundTripMs = 1

/** Something waits, and a look every interval sees that nothing moves, for `ms`. @returns when a standstill began. */
function standFor(still: Standstill, fromMs: number, ms: number): number | null {
  still.waits(fromMs)
  for (let nowMs = fromMs; nowMs <= fromMs + ms; nowMs += intervalMs)
    if (still.stays(nowMs, roundTripMs)) return nowMs - fromMs
  return null
}

test('a standstill begins after an interval and twice the usual time, once', () => {
  const still = new Standstill(intervalMs)
  expect(standFor(still, 1_000, 20)).toBeNull()
  expect(standFor(still, 1_000, 1_000)).toBe(40)
  expect(still.isOn).toBe(true)
  expect(still.stays(2_000, roundTripMs)).toBe(false)
  expect(still.lastsMs(3_000)).toBe(2_000)
})

test('nothing stands still while nothing waits', () => {
  const still = new Standstill(intervalMs)
  expect(still.stays(10_000, roundTripMs)).toBe(false)
  still.waits(10_000)
  still.moved(10_001, true)
  expect(still.stays(20_000, roundTripMs)).toBe(false)
})

test('the first move ends it, also where something waits yet', () => {
  const still = new Standstill(intervalMs)
  standFor(still, 0, 1_000)
  still.moved(1_000, false)
  expect(still.isOn).toBe(false)
  expect(still.lastsMs(5_000)).toBe(0)
  expect(still.stays(1_010, roundTripMs)).toBe(false)
})

test('what takes long every time becomes usual', () => {
  const still = new Standstill(intervalMs)
  let heldBack = 0
  for (let nowMs = 0; nowMs < 100_000; nowMs += 200) {
    if (standFor(still, nowMs, 160) !== null) heldBack++
    still.moved(nowMs + 160, true)
  }
  expect(heldBack).toBeLessThan(20)
  expect(standFor(still, 100_000, 320)).toBeNull()
})

test('one long standstill does not make the next one begin late', () => {
  const still = new Standstill(intervalMs)
  for (let nowMs = 0; nowMs < 1_000; nowMs += intervalMs) {
    still.waits(nowMs)
    still.moved(nowMs + 15, true)
  }
  standFor(still, 1_000, 60_000)
  still.moved(61_000, true)
  expect(standFor(still, 62_000, 1_000)).toBeLessThanOrEqual(80)
})
