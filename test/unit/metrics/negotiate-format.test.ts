import { expect, test } from 'vitest'
import { negotiateFormat } from '../../../src/metrics/negotiate-format.ts'

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
