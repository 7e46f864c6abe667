import type { GaugeMerge, MergeableFamily, Sample } from './exposition.ts'

/**
 * Adds up families that several processes collected, series by series. A series that only some have is in the result, with
 * what they say. Families and series keep the order in which they are first met, so buckets stay beside their histogram.
 */
export function mergeFamilies(processes: readonly (readonly MergeableFamily[])[]): MergeableFamily[] {
  const merged = new Map<string, { family: MergeableFamily; series: Map<string, Sample> }>()
  for (const family of processes.flat()) {
    let known = merged.get(family.name)
    if (known === undefined) merged.set(family.name, (known = { family, series: new Map() }))
    const rule = rules[family.type === 'gauge' ? family.merge : 'sum']
    for (const sample of family.samples) {
      const key = keyOf(sample)
      const other = known.series.get(key)
      const value = other === undefined ? sample.value : rule(other.value, sample.value)
      known.series.set(key, { ...sample, value })
    }
  }
  return Array.from(merged.values(), ({ family, series }) => ({ ...family, samples: [...series.values()] }))
}

/** A lag that nothing was measured of is not a number, and no reason to hide another's. */
const rules: Readonly<Record<GaugeMerge, (one: number, other: number) => number>> = {
  sum: (one, other) => one + other,
  max: (one, other) => (one > other || Number.isNaN(other) ? one : other),
  min: (one, other) => (one < other || Number.isNaN(other) ? one : other),
}

/** The families come from one and the same code, so a label set has its labels in one order. */
function keyOf({ suffix, labels, le }: Sample): string {
  return JSON.stringify([suffix, labels, le === Number.POSITIVE_INFINITY ? '+Inf' : le])
}
