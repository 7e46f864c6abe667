/** A limit that a fault is held to, and what was measured. */
export interface Bar {
  readonly name: string
  readonly measured: number | null
  /** What it may be: a bound with its sign, as people read it. */
  readonly limit: string
  readonly holds: boolean
}

/** It must be exactly this. */
export function exactly(name: string, measured: number, wanted: number): Bar {
  return { name, measured, limit: `= ${wanted}`, holds: measured === wanted }
}

/** It must not be more than this. What could not be measured does not hold. */
export function atMost(name: string, measured: number | null, limit: number): Bar {
  return { name, measured, limit: `≤ ${rounded(limit)}`, holds: measured !== null && measured <= limit }
}

/** It must be this or more. */
export function atLeast(name: string, measured: number | null, limit: number): Bar {
  return { name, measured, limit: `≥ ${rounded(limit)}`, holds: measured !== null && measured >= limit }
}

/** The bars that do not hold, as text for an assertion. */
export function broken(bars: readonly Bar[]): string[] {
  return bars
    .filter(({ holds }) => !holds)
    .map(({ name, measured, limit }) => `${name}: ${measured ?? 'not known'}, and should be ${limit}`)
}

/** The value that a share of the numbers does not pass, 0 to 1; null without any. */
export function quantile(numbers: readonly number[], share: number): number | null {
  if (numbers.length === 0) return null
  const sorted = numbers.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]!
}

/** Three digits at the most behind the point. */
export function rounded(number: number): number {
  return Math.round(number * 1000) / 1000
}
