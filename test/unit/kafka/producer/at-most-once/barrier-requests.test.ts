import { expect, test } from 'vitest'
import { BarrierRequests } from '../../../../../src/kafka/producer/at-most-once/barrier-requests.ts'
import { encodeListOffsets } from '../../../../../src/kafka/protocol/requests.ts'

test('the two requests of a barrier are made once for the same partitions, and anew for others', () => {
  const requests = new BarrierRequests('events')
  const pair = (partitions: number[]): object => ({
    logEnd: encodeListOffsets('events', partitions, 'log_end'),
    highWatermark: encodeListOffsets('events', partitions, 'high_watermark'),
  })
  const first = requests.about([0, 5])
  expect(first).toEqual(pair([0, 5]))
  expect(requests.about([0, 5])).toBe(first)
  for (const partitions of [[0], [5], [5, 0], [0, 5], []])
    expect(requests.about(partitions)).toEqual(pair(partitions))
})
