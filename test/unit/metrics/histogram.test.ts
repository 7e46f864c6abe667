import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { Histogram, toFamily } from '../../../src/metrics/histogram.ts'

const family = { name: 'wait_seconds', help: 'Waiting.', type: 'histogram', buckets: [0.1, 1] } as const

test('a label set is there at zero before anything was observed', () => {
  const histogram = new Histogram(family)
  histogram.addSeries({ stream: 'a' })
  expect([...toFamily(histogram.read()).samples].map(({ suffix, le, value }) => [suffix, le, value])).toEqual(
    [
      ['_bucket', 0.1, 0],
      ['_bucket', 1, 0],
      ['_bucket', Number.POSITIVE_INFINITY, 0],
      ['_sum', undefined, 0],
      ['_count', undefined, 0],
    ],
  )
})

test('a value at a bound belongs to the bucket of that bound', () => {
  const histogram = new Histogram(family)
  histogram.addSeries({}).observe(0.1)
  expect([...toFamily(histogram.read()).samples][0]?.value).toBe(1)
})

test('each bucket counts the values up to its bound, whatever is observed', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 3, noNaN: true })), (values) => {
      const histogram = new Histogram(family)
      const series = histogram.addSeries({})
      for (const value of values) series.observe(value)
      for (const { suffix, le, value } of toFamily(histogram.read()).samples) {
        if (suffix === '_bucket') expect(value).toBe(values.filter((each) => each <= (le ?? 0)).length)
        if (suffix === '_count') expect(value).toBe(values.length)
        if (suffix === '_sum') expect(value).toBeCloseTo(values.reduce((sum, each) => sum + each, 0))
      }
    }),
  )
})
