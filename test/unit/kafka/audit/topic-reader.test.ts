import { expect, test } from 'vitest'
import { isRead, thoseThatWentBack } from '../../../../src/kafka/audit/topic-reader.ts'

test.each([
  ['is empty', { low: 7, high: 7 }, { low: 7, high: 9 }, 0, true],
  ['was read to its end', { low: 0, high: 500 }, { low: 0, high: 600 }, 500, true],
  ['was read in part', { low: 0, high: 500 }, { low: 0, high: 600 }, 499, false],
  ['was deleted in part', { low: 0, high: 500 }, { low: 499, high: 600 }, 0, false],
  ['was deleted before it was read', { low: 0, high: 500 }, { low: 500, high: 500 }, 0, true],
  ['goes back, and was read to its new end', { low: 0, high: 500 }, { low: 0, high: 400 }, 400, true],
  ['goes back, and was read in part', { low: 0, high: 500 }, { low: 0, high: 400 }, 399, false],
] as const)('a partition that %s', (_of, wanted, now, position, expected) => {
  expect(isRead(wanted, now, position)).toBe(expected)
})

test('logs went back that end before what was read of them', () => {
  const ranges = new Map([
    [0, { low: 0, high: 5 }],
    [1, { low: 3, high: 20 }],
    [2, { low: 0, high: 0 }],
  ])
  const positions = new Map([
    [0, 6],
    [1, 20],
  ])
  expect(thoseThatWentBack(ranges, positions)).toEqual([{ partition: 0, position: 6, logEnd: 5 }])
})
