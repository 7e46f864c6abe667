import type { CollectedFamily, Family, Labels, Sample } from './family.ts'

/** What a histogram is, apart from its values. */
export interface HistogramFamily extends Family {
  readonly type: 'histogram'
  /** Upper bounds, ascending. The last bound, +Inf, is not in the list. */
  readonly buckets: readonly number[]
}

/**
 * The values of a histogram at one instant, with one number a bucket. Readings are kept, sent from one process to another and
 * added up, since they take a tenth of the memory of their samples. Samples are made while they are written.
 */
export interface HistogramReading extends HistogramFamily {
  readonly series: readonly SeriesReading[]
}

/** See {@link HistogramReading}. */
export interface SeriesReading {
  readonly labels: Labels
  /** Observations by bucket, not cumulated. The last number is that of +Inf. */
  readonly counts: readonly number[]
  readonly sum: number
}

/**
 * One label set of a histogram. It is looked up once, and then takes values without a look-up, in a few nanoseconds.
 * prom-client's bound child hashes its labels each time, which takes most of a microsecond. That is too much for every request.
 */
export class HistogramSeries {
  readonly #labels: Labels
  readonly #buckets: readonly number[]
  /** As {@link SeriesReading.counts}. */
  readonly #counts: number[]
  #sum = 0

  constructor(buckets: readonly number[], labels: Labels) {
    this.#labels = labels
    this.#buckets = buckets
    this.#counts = Array.from({ length: buckets.length + 1 }, () => 0)
  }

  /** Counts one value, in the unit of the metric's name. */
  observe(value: number): void {
    let index = 0
    while (index < this.#buckets.length && value > (this.#buckets[index] ?? 0)) index++
    this.#counts[index] = (this.#counts[index] ?? 0) + 1
    this.#sum += value
  }

  /** A copy of the numbers at this moment. */
  read(): SeriesReading {
    return { labels: this.#labels, counts: this.#counts.slice(), sum: this.#sum }
  }
}

/** A histogram and its series. A label set is added before its first value, so that its series exist at zero from the start. */
export class Histogram {
  readonly #family: HistogramFamily
  readonly #series: HistogramSeries[] = []

  constructor(family: HistogramFamily) {
    this.#family = family
  }

  /** Adds a label set. To be called once a label set. */
  addSeries(labels: Labels): HistogramSeries {
    const series = new HistogramSeries(this.#family.buckets, labels)
    this.#series.push(series)
    return series
  }

  /** A copy of the numbers at this moment. */
  read(): HistogramReading {
    return { ...this.#family, series: this.#series.map((series) => series.read()) }
  }
}

/** A reading as both text formats want it: cumulated buckets up to +Inf. The count of +Inf is `_count`. */
export function toFamily({ name, help, type, buckets, series }: HistogramReading): CollectedFamily {
  return { name, help, type, samples: samplesOf(buckets, series) }
}

function* samplesOf(buckets: readonly number[], series: readonly SeriesReading[]): Generator<Sample> {
  for (const { labels, counts, sum } of series) {
    let cumulated = 0
    for (const [index, count] of counts.entries()) {
      cumulated += count
      yield { suffix: '_bucket', labels, le: buckets[index] ?? Number.POSITIVE_INFINITY, value: cumulated }
    }
    yield { suffix: '_sum', labels, value: sum }
    yield { suffix: '_count', labels, value: cumulated }
  }
}

/** Adds up the readings of several processes, series by series, in the order in which the series are first met. */
export function mergeHistograms(processes: readonly (readonly HistogramReading[])[]): HistogramReading[] {
  const merged = new Map<string, { family: HistogramReading; series: Map<string, SeriesReading> }>()
  for (const family of processes.flat()) {
    let known = merged.get(family.name)
    if (known === undefined) merged.set(family.name, (known = { family, series: new Map() }))
    for (const one of family.series) {
      // All processes run the same code, so a label set has its labels in one order.
      const key = JSON.stringify(one.labels)
      const other = known.series.get(key)
      known.series.set(key, other === undefined ? one : addSeries(one, other))
    }
  }
  return Array.from(merged.values(), ({ family, series }) => ({ ...family, series: [...series.values()] }))
}

function addSeries(one: SeriesReading, other: SeriesReading): SeriesReading {
  const counts = one.counts.map((count, index) => count + (other.counts[index] ?? 0))
  return { labels: one.labels, counts, sum: one.sum + other.sum }
}
