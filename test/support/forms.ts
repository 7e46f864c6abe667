/**
 * Tests of real processes have three forms. `npm test` has each promise and each fault, and has to take less than eight minutes
 * on two cores. CI (`CI=true npm test`) has more rounds of the same, and chaos. The full form (`npm run faults`) has the real
 * rates and durations.
 */
export const isFull = process.env['CHUTE_FAULTS'] === 'full'

/** More rounds than `npm test` has: CI, or the full form. */
export const isLong = isFull || process.env['CI'] !== undefined

/** What differs by form: a duration, or a number of rounds. CI has what `npm test` has unless `ci` is given. */
export function byForm({ short, ci = short, full }: { short: number; ci?: number; full: number }): number {
  if (isFull) return full
  return isLong ? ci : short
}
