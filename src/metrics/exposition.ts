/**
 * How metrics become text: Prometheus 0.0.4 and OpenMetrics 1.0.0, from the same families.
 *
 * prom-client's registry does not write them, for it has one content type at a time and, once asked for OpenMetrics,
 * has renamed its counters for good. It still collects the metrics of the process (`process-metrics.ts`).
 *
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 * @see https://prometheus.io/docs/specs/om/open_metrics_spec/
 */

/** Label names and values of one sample, in the order in which they are written. */
export type Labels = Readonly<Record<string, string>>

/** One value of a family. `suffix` is what the sample's name has after the family's: `_bucket`, `_sum` or `_count` in a histogram, else nothing. */
export interface Sample {
  readonly suffix: string
  readonly labels: Labels
  /** Only of a `_bucket`: its upper bound. Not among the labels, since the two formats write numbers differently there. */
  readonly le?: number
  readonly value: number
}

/** What a metric is, apart from its values: written once, in the file of its metrics. A counter's name ends in `_total`. */
export interface Family {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
}

/** A family and its values of one instant. Samples are made as they are read, and can be read once, where they are many. */
export interface CollectedFamily extends Family {
  readonly samples: Iterable<Sample>
}

/**
 * A family as one process collects it, with what several processes make of it. Counters and histograms are added up; a
 * gauge says whether it is a quantity (`sum`) or a state of which the largest or the smallest stands for all.
 */
export type MergeableFamily = Family & { readonly samples: readonly Sample[] } & (
    | { readonly type: 'counter' | 'histogram' }
    | { readonly type: 'gauge'; readonly merge: GaugeMerge }
  )

/** See {@link MergeableFamily}. */
export type GaugeMerge = 'sum' | 'max' | 'min'

/** The text formats that Prometheus, and whoever speaks OpenMetrics, can ask for. */
export type ExpositionFormat = 'prometheus' | 'openmetrics'

/** Values of `Content-Type`, by format. */
export const contentTypes: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** All families line by line, each contiguous and each under its HELP and TYPE. Lines are written as they are read. */
export function* writeExposition(
  families: Iterable<CollectedFamily>,
  format: ExpositionFormat,
): Generator<string, void, void> {
  for (const family of families) {
    // OpenMetrics names the family of a counter without the `_total` that its samples have.
    const familyName =
      format === 'openmetrics' && family.type === 'counter' ? family.name.replace(/_total$/, '') : family.name
    yield `# HELP ${familyName} ${escapeHelp(family.help, format)}\n# TYPE ${familyName} ${family.type}\n`
    for (const sample of family.samples) {
      yield `${family.name}${sample.suffix}${writeLabels(sample, format)} ${writeNumber(sample.value)}\n`
    }
  }
  if (format === 'openmetrics') yield '# EOF\n'
}

function writeLabels(sample: Sample, format: ExpositionFormat): string {
  let pairs = ''
  for (const name in sample.labels) {
    pairs += `${pairs === '' ? '' : ','}${name}="${escapeValue(sample.labels[name]!)}"`
  }
  if (sample.le !== undefined) pairs += `${pairs === '' ? '' : ','}le="${writeBound(sample.le, format)}"`
  return pairs === '' ? '' : `{${pairs}}`
}

/** OpenMetrics wants bounds as floats ("Considerations: Canonical Numbers"), so 1 is `1.0` there. */
function writeBound(bound: number, format: ExpositionFormat): string {
  return format === 'openmetrics' && Number.isInteger(bound) ? bound.toFixed(1) : writeNumber(bound)
}

function writeNumber(value: number): string {
  if (Number.isFinite(value) || Number.isNaN(value)) return String(value)
  return value > 0 ? '+Inf' : '-Inf'
}

function escapeValue(value: string): string {
  if (!/[\\\n"]/.test(value)) return value
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

/** A quote in a HELP is escaped in OpenMetrics only. */
function escapeHelp(help: string, format: ExpositionFormat): string {
  return format === 'openmetrics' ? escapeValue(help) : help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}
