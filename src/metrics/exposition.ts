import { readAccept } from '../accept-header.ts'
import type { CollectedFamily, Sample } from './family.ts'

/**
 * How metrics become text: Prometheus 0.0.4 and OpenMetrics 1.0.0, from the same families.
 *
 * prom-client's registry does not write the text. A registry has one content type at a time, and once it was asked for
 * OpenMetrics it has renamed its counters for good. It still collects the metrics of the process (`process-metrics.ts`).
 *
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 * @see https://prometheus.io/docs/specs/om/open_metrics_spec/
 */

/** Whatever has metrics to show. The routes of `/metrics` take one. */
export interface Scrape {
  /**
   * One scrape, in the format that `accept`, the value of an `Accept` header, asks for. All numbers are read in one turn of
   * the event loop, when the first line is read or earlier.
   */
  text(accept: string | undefined): Promise<ExpositionText>
}

/** A text that is written line by line, while it is read. It can be long, and must not hold up anything else. */
export interface ExpositionText {
  readonly contentType: string
  /** Can be read once. */
  readonly lines: Iterable<string>
}

/** The text formats that Prometheus, and every client that speaks OpenMetrics, can ask for. */
export type ExpositionFormat = 'prometheus' | 'openmetrics'

/** Values of `Content-Type`, by format. */
const contentTypes: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** Families as text, in the format that an `Accept` header asks for. The families are read when the first line is read. */
export function writeText(families: Iterable<CollectedFamily>, accept: string | undefined): ExpositionText {
  const format = negotiateFormat(accept)
  return { contentType: contentTypes[format], lines: writeExposition(families, format) }
}

/** All families line by line, each contiguous and each under its HELP and TYPE. Lines are written while they are read. */
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

/**
 * Picks the format for an `Accept` header (RFC 9110, section 12.5.1). OpenMetrics is picked where the header names it and
 * does not prefer plain text. Prometheus's text is picked in all other cases: for a browser, for an Accept of any type, and
 * without a header. It never fails: a scrape in a format that the client did not name is better than none.
 */
export function negotiateFormat(accept: string | undefined): ExpositionFormat {
  let openMetrics = 0
  let plainText = 0
  for (const { name: mediaType, parameters, quality } of readAccept(accept)) {
    const version = parameters.find((parameter) => parameter.startsWith('version='))
    if (mediaType === 'application/openmetrics-text') {
      // Prometheus offers the draft 0.0.1 too, and Chute does not write that version.
      if (version === undefined || version === 'version=1.0.0') openMetrics = Math.max(openMetrics, quality)
    } else if (mediaType === 'text/plain') {
      plainText = Math.max(plainText, quality)
    }
  }
  return openMetrics > 0 && openMetrics >= plainText ? 'openmetrics' : 'prometheus'
}
