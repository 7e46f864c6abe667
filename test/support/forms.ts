/**
 * Tests of real processes have three forms. `npm test` has each promise once, and has to take less than eight minutes on two
 * cores. CI (`CI=true npm test`) has every test, and more rounds of the same. The full form (`npm run faults`) has the real rates
 * and durations.
 */
export const isFull = process.env['CHUTE_FAULTS'] === 'full'

/**
 * CI, or the full form. `runIf(isLong)` is for a test that repeats a promise which a test of `npm test` holds: with another delivery or
 * client, as a matrix, or in a scene of many parts (CONTRIBUTING.md).
 */
export const isLong = isFull || process.env['CI'] !== undefined

/** What differs by form: a duration, or a number of rounds. CI has what `npm test` has unless `ci` is given. */
export function byForm({ short, ci = short, full }: { short: number; ci?: number; full: number }): number {
  if (isFull) return full
  return isLong ? ci : short
}

/** Cases of a property that is tried `count` times in CI: a tenth elsewhere, but 200 at the least. */
export function casesOf(count: number): number {
  return isLong ? count : Math.min(count, Math.max(200, count / 10))
}
