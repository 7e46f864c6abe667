import type { MergeableFamily, Family, Labels, Sample } from './exposition.ts'

/** What a histogram is, apart from its values. */
export interface HistogramFamily extends Family {
  readonly type: 'histogram'
  /** Upper bounds, ascending; the last, +Inf, is not written down. */
  readonly buckets: readonly number[]
}

/**
 * One label set of a histogram, resolved once and then observed without any look-up: a few nanoseconds, where
 * prom-client's bound child takes most of a microsecond to hash its labels again. That matters once a request.
 */
export class HistogramSeries {
  readonly #labels: Labels
  readonly #buckets: readonly number[]
  /** Observations by bucket, not cumulated; the last is +Inf's. */
  readonly #counts: Float64Array
  #sum = 0

  constructor(buckets: readonly number[], labels: Labels) {
    this.#labels = labels
    this.#buckets = buckets
    this.#counts = new Float64Array(buckets.length + 1)
  }

  /** Counts one value, in the unit of the metric's name. */
  observe(value: number): void {
    let index = 0
    while (index < this.#buckets.length && value > (this.#buckets[index] ?? 0)) index++
    this.#counts[index] = (this.#counts[index] ?? 0) + 1
    this.#sum += value
  }

  /** The samples as both text formats want them: cumulated buckets up to +Inf, whose count is `_count`. */
  collect(): Sample[] {
    let cumulated = 0
    const samples: Sample[] = Array.from(this.#counts, (count, index) => {
      cumulated += count
      const le = this.#buckets[index] ?? Number.POSITIVE_INFINITY
      return { suffix: '_bucket', labels: this.#labels, le, value: cumulated }
    })
    samples.push(
      { suffix: '_sum', labels: this.#labels, value: this.#sum },
      { suffix: '_count', labels: this.#labels, value: cumulated },
    )
    return samples
  }
}

/** A histogram and its series. Label sets are added before the first observation, so that they exist from the start at zero. */
export class Histogram {
  readonly #family: HistogramFamily
  readonly #series: HistogramSeries[] = []

  constructor(family: HistogramFamily) {
    this.#family = family
  }

  /** Adds a label set. The caller adds each one once. */
  addSeries(labels: Labels): HistogramSeries {
    const series = new HistogramSeries(this.#family.buckets, labels)
    this.#series.push(series)
    return series
  }

  collect(): MergeableFamily {
    const { name, help, type } = this.#family
    return { name, help, type, samples: this.#series.flatMap((series) => series.collect()) }
  }
}
