import { expect, test } from 'vitest'
import { BarrierPace, BarrierRequests } from '../../../../../src/kafka/producer/at-most-once/barrier.ts'
import { encodeListOffsets } from '../../../../../src/kafka/protocol/requests.ts'

/** Which writes a barrier rides on, with an interval of 20 ms. */
function ridesOf(writtenAtMs: readonly number[]): number[] {
  const pace = new BarrierPace(20)
  return writtenAtMs.filter((nowMs) => {
    const rides = pace.written(nowMs)
    if (rides) pace.sent(nowMs)
    return rides
  })
}

/** Writes in even gaps, until a second is over. */
function every(gapMs: number): number[] {
  return Array.from({ length: Math.floor(1_000 / gapMs) }, (_, i) => i * gapMs)
}

test.each([
  // the gap between writes, and between rides
  [1, 19],
  [2, 18],
  [5, 15],
  [6, 18],
  [8, 16],
  [11, 11],
  [15, 15],
  [30, 30],
])('with a write every %i ms, a barrier rides every %i ms: on the last of its interval', (gapMs, rideMs) => {
  const rides = ridesOf(every(gapMs)).slice(-5)
  expect(rides.slice(1).map((rodeAtMs, i) => rodeAtMs - rides[i]!)).toEqual([rideMs, rideMs, rideMs, rideMs])
})

test('no barrier rides before half of the interval is over, however rare writes were', () => {
  expect(ridesOf([0, 100, 200, 300, 309])).toEqual([0, 100, 200, 300])
  expect(ridesOf([0, 100, 200, 300, 310])).toEqual([0, 100, 200, 300, 310])
})

test('without a write, a barrier is due when its pause is over, and soon if it has been for long', () => {
  const pace = new BarrierPace(20)
  expect(pace.dueInMs(0, 20)).toBe(1)
  pace.sent(100)
  expect([pace.dueInMs(105, 20), pace.dueInMs(105, 8), pace.dueInMs(500, 20)]).toEqual([15, 3, 1])
})

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
