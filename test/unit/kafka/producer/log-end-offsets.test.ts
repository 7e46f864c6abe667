import { describe, expect, test } from 'vitest'
import { LogEndOffsets } from '../../../../src/kafka/producer/log-end-offsets.ts'
import { brokerLossOf } from '../../../../src/kafka/producer/stats-ratios.ts'

/** Looks at partition 0 with what was written up to now. */
function look(offsets: LogEndOffsets, logEnd: bigint): void {
  offsets.observe(0, logEnd, offsets.writtenTo(0))
}

test('there is no ratio before something was written and looked at', () => {
  const offsets = new LogEndOffsets()
  expect(brokerLossOf([...offsets])).toBeNull()
  offsets.written(0, 5)
  look(offsets, 100n)
  expect(brokerLossOf([...offsets])).toBeNull()
  expect([...offsets]).toEqual([{ partition: 0, baseOffset: 100, logEndOffset: 100, written: 0 }])
})

test('what was written and is not in the log is the loss', () => {
  const offsets = new LogEndOffsets()
  look(offsets, 100n)
  offsets.written(0, 10)
  look(offsets, 107n)
  look(offsets, 107n)
  expect(brokerLossOf([...offsets])).toBeCloseTo(0.3)
  expect([...offsets]).toEqual([{ partition: 0, baseOffset: 100, logEndOffset: 107, written: 10 }])
})

test('records that the replicas do not have yet are no loss', () => {
  const offsets = new LogEndOffsets()
  look(offsets, 0n)
  offsets.written(0, 10)
  look(offsets, 4n)
  expect(brokerLossOf([...offsets])).toBeNull()
  look(offsets, 10n)
  expect(brokerLossOf([...offsets])).toBe(0)
})

test('what other writers add is not counted as less than no loss', () => {
  const offsets = new LogEndOffsets()
  look(offsets, 0n)
  offsets.written(0, 10)
  look(offsets, 1_000n)
  look(offsets, 1_000n)
  expect(brokerLossOf([...offsets])).toBe(0)
})

test('an offset that goes back starts anew: the topic was made again', () => {
  const offsets = new LogEndOffsets()
  look(offsets, 100n)
  offsets.written(0, 10)
  look(offsets, 105n)
  look(offsets, 3n)
  expect(brokerLossOf([...offsets])).toBeNull()
  offsets.written(0, 2)
  look(offsets, 5n)
  look(offsets, 5n)
  expect(brokerLossOf([...offsets])).toBe(0)
})

describe('isBehind', () => {
  test('is so from a write until looks have accounted for it', () => {
    const offsets = new LogEndOffsets()
    look(offsets, 0n)
    expect(offsets.isBehind(0)).toBe(false)
    offsets.written(0, 1)
    expect(offsets.isBehind(0)).toBe(true)
    look(offsets, 1n)
    expect(offsets.isBehind(0)).toBe(true)
    look(offsets, 1n)
    expect(offsets.isBehind(0)).toBe(false)
  })
})
