import { expect, test } from 'vitest'
import { LogEndOffsets } from '../../../../src/kafka/producer/log-end-offsets.ts'
import { brokerLossOf } from '../../../../src/kafka/producer/producer-stats.ts'

/** Looks at partition 0 with what was written up to now. */
function look(offsets: LogEndOffsets, logEnd: bigint): void {
  offsets.observe(0, logEnd, offsets.writtenTo(0))
}

/** Partition 0 was found with a log of `logEnd` records. */
function found(logEnd: bigint): LogEndOffsets {
  const offsets = new LogEndOffsets()
  offsets.found(0, logEnd)
  return offsets
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
  const offsets = found(100n)
  offsets.written(0, 10)
  look(offsets, 107n)
  expect(brokerLossOf([...offsets])).toBeCloseTo(0.3)
  expect([...offsets]).toEqual([{ partition: 0, baseOffset: 100, logEndOffset: 107, written: 10 }])
})

test('what is written behind a look is not held against it', () => {
  const offsets = found(0n)
  offsets.written(0, 10)
  const before = offsets.writtenTo(0)
  offsets.written(0, 5)
  offsets.observe(0, 10n, before)
  expect(brokerLossOf([...offsets])).toBe(0)
})

test('a new leader that does not have everything shows the loss', () => {
  const offsets = found(0n)
  offsets.written(0, 10)
  look(offsets, 10n)
  expect(brokerLossOf([...offsets])).toBe(0)
  offsets.found(0, 8n)
  offsets.written(0, 10)
  look(offsets, 18n)
  expect(brokerLossOf([...offsets])).toBeCloseTo(0.1)
})

test('what other writers add is not counted as less than no loss', () => {
  const offsets = found(0n)
  offsets.written(0, 10)
  look(offsets, 1_000n)
  expect(brokerLossOf([...offsets])).toBe(0)
})

test('an offset that goes back behind the first starts anew: the topic was made again', () => {
  const offsets = found(100n)
  offsets.written(0, 10)
  look(offsets, 105n)
  look(offsets, 3n)
  expect(brokerLossOf([...offsets])).toBeNull()
  offsets.written(0, 2)
  look(offsets, 5n)
  expect(brokerLossOf([...offsets])).toBe(0)
})

test('a topic that was made anew is compared from the next look on, however long its log is', () => {
  const offsets = found(0n)
  offsets.written(0, 100)
  look(offsets, 100n)
  offsets.begunAnew()
  expect(offsets.isBehind(0)).toBe(true)
  look(offsets, 3n)
  expect(offsets.isBehind(0)).toBe(false)
  expect([...offsets]).toEqual([{ partition: 0, baseOffset: 3, logEndOffset: 3, written: 0 }])
  offsets.written(0, 10)
  look(offsets, 8n)
  expect(brokerLossOf([...offsets])).toBeCloseTo(0.5)
})

test('it is behind from a write until a look has accounted for it', () => {
  const offsets = found(0n)
  expect(offsets.isBehind(0)).toBe(false)
  offsets.written(0, 1)
  expect(offsets.isBehind(0)).toBe(true)
  look(offsets, 1n)
  expect(offsets.isBehind(0)).toBe(false)
})
