/**
 * The seed of all that is random in tests: cases of property tests, faults, moments. The same each time, so that a change is never refused for a
 * case that has nothing to do with the change. `PROMISE_SEED` is another one; `vitest.config.ts` turns `random` into a number.
 */
export const seed = Number(process.env['PROMISE_SEED'] ?? 1)
if (!Number.isInteger(seed)) throw new Error('PROMISE_SEED is an integer, or "random"')
