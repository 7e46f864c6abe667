import type { ExpositionFormat } from './exposition.ts'

/**
 * Picks the format for an `Accept` header (RFC 9110, section 12.5.1): OpenMetrics where it is asked for by name at least
 * as much as plain text is, else Prometheus's text, which is also the answer to a browser, to `*` and to no header at
 * all. It never fails: a scrape that gets a format it did not name is better than none.
 */
export function negotiateFormat(accept: string | undefined): ExpositionFormat {
  let openMetrics = 0
  let plainText = 0
  for (const range of (accept ?? '').toLowerCase().split(',')) {
    const [mediaType, ...parameters] = range.split(';').map((part) => part.trim())
    const quality = readQuality(parameters)
    const version = parameters.find((parameter) => parameter.startsWith('version='))
    if (mediaType === 'application/openmetrics-text') {
      // Prometheus also offers the draft 0.0.1, which is not what we write.
      if (version === undefined || version === 'version=1.0.0') openMetrics = Math.max(openMetrics, quality)
    } else if (mediaType === 'text/plain') {
      plainText = Math.max(plainText, quality)
    }
  }
  return openMetrics > 0 && openMetrics >= plainText ? 'openmetrics' : 'prometheus'
}

/** `q`, 1 where it is missing and 0 where it is not a number. */
function readQuality(parameters: readonly string[]): number {
  const parameter = parameters.find((candidate) => candidate.startsWith('q='))
  if (parameter === undefined) return 1
  const quality = Number(parameter.slice('q='.length))
  return quality >= 0 && quality <= 1 ? quality : 0
}
