import { expect, test } from 'vitest'
import { Assignment } from '../../../../src/kafka/consumer/assignment.ts'

test('every rebalance begins a new epoch and forgets the positions', () => {
  const assignment = new Assignment()
  const epochs = new Set([assignment.epoch])
  assignment.join([0, 1])
  epochs.add(assignment.epoch)
  assignment.advance(0, 7)
  expect(assignment.position(0)).toBe(7)
  assignment.leave()
  epochs.add(assignment.epoch)
  expect([assignment.isJoined, assignment.owns(0), assignment.position(0)]).toEqual([false, false, null])
  assignment.join([0])
  epochs.add(assignment.epoch)
  expect([assignment.isJoined, assignment.owns(0), assignment.owns(1)]).toEqual([true, true, false])
  expect(assignment.position(0)).toBeNull()
  expect(epochs.size).toBe(4)
})

test('a position never goes back, and that of another member is not kept', () => {
  const assignment = new Assignment()
  assignment.join([0])
  assignment.advance(0, 10)
  assignment.advance(0, 5)
  assignment.advance(3, 5)
  expect([...assignment.positions]).toEqual([[0, 10]])
})

test('what is handed out again is counted, over rebalances and over gaps between offsets', () => {
  const assignment = new Assignment()
  assignment.join([0])
  expect(assignment.handOut(0, 0, 10, 10)).toBe(0)
  expect(assignment.handOut(0, 10, 30, 5)).toBe(0)
  assignment.leave()
  assignment.join([0, 1])
  expect(assignment.handOut(1, 0, 10, 10)).toBe(0)
  expect(assignment.handOut(0, 28, 40, 12)).toBe(2)
  expect(assignment.handOut(0, 0, 40, 25)).toBe(25)
})

test('a member whose session ran out without an answer is not in its group, and is again once it is answered', () => {
  const assignment = new Assignment()
  const inSessionAt = (nowMs: number): boolean => assignment.isInSession(nowMs, 3_000)
  assignment.heard(1_000)
  expect(inSessionAt(1_000)).toBe(false)
  assignment.join([0])
  expect([inSessionAt(4_000), inSessionAt(4_001)]).toEqual([true, false])
  assignment.heard(5_000)
  expect([inSessionAt(8_000), inSessionAt(8_001)]).toEqual([true, false])
  assignment.leave()
  expect(inSessionAt(5_000)).toBe(false)
})
