import { expect, test } from 'vitest'
import { parseDurationMs } from '../../../src/config/setting.ts'

test.each([
  ['60000', 60_000],
  ['0', 0],
  ['500ms', 500],
  ['60s', 60_000],
  ['1m', 60_000],
  ['2 h', 7_200_000],
])('%s is %d milliseconds', (text, expected) => {
  expect(parseDurationMs(text)).toBe(expected)
})

test.each(['', 's', '1.5s', '-1s', '1d', '1 minute', '1e3'])('"%s" is no duration', (text) => {
  expect(parseDurationMs(text)).toBeNull()
})
