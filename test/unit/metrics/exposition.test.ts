import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ExpositionFormat, negotiateFormat, writeExposition } from '../../../src/metrics/exposition.ts'
import type { CollectedFamily } from '../../../src/metrics/family.ts'
import { parseExposition } from '../../support/parse-exposition.ts'

const counter: CollectedFamily = {
  name: 'jobs_total',
  help: 'A "quoted" \\ help\nof two lines',
  type: 'counter',
  samples: [{ suffix: '', labels: { kind: 'a' }, value: 3 }],
}

function written(families: readonly CollectedFamily[], format: ExpositionFormat): string {
  return [...writeExposition(families, format)].join('')
}

describe('writeExposition', () => {
  test('a counter keeps _total in the name of its family in Prometheus text only', () => {
    expect(written([counter], 'prometheus')).toBe(
      '# HELP jobs_total A "quoted" \\\\ help\\nof two lines\n# TYPE jobs_total counter\njobs_total{kind="a"} 3\n',
    )
    expect(written([counter], 'openmetrics')).toBe(
      '# HELP jobs A \\"quoted\\" \\\\ help\\nof two lines\n# TYPE jobs counter\njobs_total{kind="a"} 3\n# EOF\n',
    )
  })

  test('writing one format leaves the other as it was', () => {
    const before = written([counter], 'prometheus')
    written([counter], 'openmetrics')
    expect(written([counter], 'prometheus')).toBe(before)
  })

  test('a whole bound of a bucket is a float in OpenMetrics', () => {
    const histogram: CollectedFamily = {
      name: 'size_bytes',
      help: 'Sizes.',
      type: 'histogram',
      samples: [{ suffix: '_bucket', labels: {}, le: 1024, value: 0 }],
    }
    expect(written([histogram], 'prometheus')).toContain('size_bytes_bucket{le="1024"} 0')
    expect(written([histogram], 'openmetrics')).toContain('size_bytes_bucket{le="1024.0"} 0')
  })

  test('numbers that are not finite have the names that the formats give them', () => {
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
    const samples = values.map((value, index) => ({ suffix: '', labels: { index: String(index) }, value }))
    const text = written([{ name: 'x', help: 'x', type: 'gauge', samples }], 'prometheus')
    expect(text.match(/ (NaN|\+Inf|-Inf)$/gm)).toEqual([' NaN', ' +Inf', ' -Inf'])
  })

  test('any label value and any number come back from a parser as they were', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.double(),
        fc.constantFrom('prometheus', 'openmetrics'),
        (label, value, format) => {
          const samples = [{ suffix: '', labels: { label }, value }]
          const text = written([{ name: 'x', help: 'x', type: 'gauge', samples }], format)
          const [parsed] = parseExposition(text, format).get('x')?.samples ?? []
          expect(parsed?.labels['label']).toBe(label)
          // -0 and 0 are one value to Prometheus.
          expect(parsed?.value).toEqual(value + 0)
        },
      ),
    )
  })
})

const cases: readonly [string, string | undefined, 'prometheus' | 'openmetrics'][] = [
  ['no header', undefined, 'prometheus'],
  ['anything', '*/*', 'prometheus'],
  ['a browser', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'prometheus'],
  [
    'Prometheus 2.42',
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
    'openmetrics',
  ],
  [
    'Prometheus 3 with OpenMetrics first',
    'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
    'openmetrics',
  ],
  [
    'Prometheus text first',
    'text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5',
    'prometheus',
  ],
  ['both alike', 'text/plain, application/openmetrics-text', 'openmetrics'],
  ['OpenMetrics in other letters', 'Application/OpenMetrics-Text; Version=1.0.0', 'openmetrics'],
  ['OpenMetrics refused', 'application/openmetrics-text;q=0, */*', 'prometheus'],
  ['a draft that we do not write', 'application/openmetrics-text;version=0.0.1', 'prometheus'],
  ['nonsense', ';;q=,,=', 'prometheus'],
  ['a quality that is no number', 'application/openmetrics-text;q=high', 'prometheus'],
]

test.each(cases)('%s', (_name, accept, expected) => {
  expect(negotiateFormat(accept)).toBe(expected)
})
