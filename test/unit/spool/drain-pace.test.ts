import { beforeEach, expect, test } from 'vitest'
import { DrainPace } from '../../../src/spool/drain-pace.ts'

/** Time that stands still unless a test lets it pass. */
let nowMs: number
let pace: DrainPace
beforeEach(() => {
  nowMs = 1_000
  pace = new DrainPace()
})

interface Load {
  readonly ms: number
  /** Of a commit; every 10 ms there is one of 5 records. Null: no new events. */
  readonly commitMs: (drainedPerMs: number) => number | null
  readonly isBacklog?: boolean
  readonly sizeBytes?: number
}

/** @returns how many records were read back a second. */
function run({ ms, commitMs, isBacklog = true, sizeBytes = 1_000 }: Load): number {
  let drained = 0
  for (let passed = 0; passed < ms; passed++) {
    nowMs++
    const tookMs = commitMs(passed === 0 ? 0 : drained / passed)
    if (passed % 10 === 0 && tookMs !== null) pace.committed(tookMs, 5, nowMs)
    if (isBacklog) while (drained < 2_000_000 && pace.take(sizeBytes, nowMs)) drained++
  }
  return (drained * 1_000) / ms
}

const liveRecordsPerSecond = 500

test('goes faster and faster while new events do not feel it', () => {
  run({ ms: 2_000, commitMs: () => 3, isBacklog: false })
  const first = run({ ms: 500, commitMs: () => 3 })
  run({ ms: 3_000, commitMs: () => 3 })
  expect(run({ ms: 500, commitMs: () => 3 })).toBeGreaterThan(5 * first)
})

test('goes faster still where no new events come', () => {
  const withEvents = new DrainPace()
  const alone = run({ ms: 1_000, commitMs: () => null })
  pace = withEvents
  expect(alone).toBeGreaterThan(5 * run({ ms: 1_000, commitMs: () => 3 }))
})

test('gives way once commits take half as long again as they did without it, and comes back after', () => {
  run({ ms: 2_000, commitMs: () => 4, isBacklog: false })
  run({ ms: 4_000, commitMs: () => 5 })
  const before = run({ ms: 500, commitMs: () => 5 })
  run({ ms: 1_000, commitMs: () => 8 })
  const held = run({ ms: 500, commitMs: () => 8 })
  expect(held).toBeLessThan(before / 5)
  run({ ms: 4_000, commitMs: () => 5 })
  expect(run({ ms: 500, commitMs: () => 5 })).toBeGreaterThan(3 * held)
})

test('settles where it makes commits no slower than they may be', () => {
  run({ ms: 2_000, commitMs: () => 4, isBacklog: false })
  // A disk that takes 40 records a millisecond before others have to wait.
  const slowed = (perMs: number): number => 4 + Math.max(0, perMs - 40)
  run({ ms: 10_000, commitMs: slowed })
  const settled = run({ ms: 10_000, commitMs: slowed })
  expect(settled).toBeGreaterThan(20_000)
  expect(settled).toBeLessThan(60_000)
})

test('never goes slower than half as fast again as new records come, however long these take', () => {
  run({ ms: 2_000, commitMs: () => 4, isBacklog: false })
  run({ ms: 5_000, commitMs: () => 500, sizeBytes: 100_000 })
  const held = run({ ms: 2_000, commitMs: () => 500, sizeBytes: 100_000 })
  expect(held).toBeGreaterThanOrEqual(1.4 * liveRecordsPerSecond)
})

test('a gateway that starts with a backlog takes the best that it has seen for calm', () => {
  run({ ms: 3_000, commitMs: () => 4 })
  const before = run({ ms: 500, commitMs: () => 4 })
  run({ ms: 1_000, commitMs: () => 8 })
  expect(run({ ms: 500, commitMs: () => 8 })).toBeLessThan(before / 5)
})
