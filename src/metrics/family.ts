/**
 * What a metric is in this folder: a family of samples, and how the families of several processes become one. The terms are
 * those of OpenMetrics. `exposition.ts` writes families as text.
 */

/** Label names and values of one sample, in the order in which they are written. */
export type Labels = Readonly<Record<string, string>>

/** One value of a family. */
export interface Sample {
  /** What the sample's name has after the family's name: `_bucket`, `_sum` or `_count` in a histogram, else nothing. */
  readonly suffix: string
  readonly labels: Labels
  /** Upper bound of a `_bucket`. It is not among the labels, since the two text formats write numbers differently there. */
  readonly le?: number
  readonly value: number
}

/** What a metric is, apart from its values. It is written once, in the file of its metrics. A counter's name ends in `_total`. */
export interface Family {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
}

/** A family and its values of one instant. Where there are many samples, they are made while they are read, and can be read once. */
export interface CollectedFamily extends Family {
  readonly samples: Iterable<Sample>
}

/**
 * A family as one process collects it, with the rule by which the values of several processes become one value. Counters
 * and histograms are added up. A gauge names its rule.
 */
export type MergeableFamily = Family & { readonly samples: readonly Sample[] } & (
    | { readonly type: 'counter' | 'histogram' }
    | { readonly type: 'gauge'; readonly merge: GaugeMerge }
  )

/** `sum` for a quantity. `max` or `min` for a state: the largest or the smallest value stands for all processes. */
export type GaugeMerge = 'sum' | 'max' | 'min'

/**
 * Adds up families that several processes collected, series by series. A series that only some processes have is in the
 * result too. Families and series keep the order in which they are first met, so buckets stay beside their histogram.
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

/** A lag is NaN where a process measured nothing. It does not hide the lag of another process. */
const rules: Readonly<Record<GaugeMerge, (one: number, other: number) => number>> = {
  sum: (one, other) => one + other,
  max: (one, other) => (one > other || Number.isNaN(other) ? one : other),
  min: (one, other) => (one < other || Number.isNaN(other) ? one : other),
}

/** All processes run the same code, so a label set has its labels in one order. */
function keyOf({ suffix, labels, le }: Sample): string {
  return JSON.stringify([suffix, labels, le === Number.POSITIVE_INFINITY ? '+Inf' : le])
}
