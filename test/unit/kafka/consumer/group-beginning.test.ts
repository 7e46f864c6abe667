import { expect, test } from 'vitest'
import { GroupBeginning } from '../../../../src/kafka/consumer/group-beginning.ts'
import type { MemberOffsets } from '../../../../src/kafka/consumer/kafkajs-beginning.ts'

/** A topic whose partitions start at 3 and end at 9, and what a group has committed there. */
class Group {
  committed = new Map<number, string>()
  partitions = 2

  as(...assigned: number[]): MemberOffsets {
    return {
      all: Array.from({ length: this.partitions }, (_, partition) => partition),
      assigned,
      committed: async () => new Map(this.committed),
      ask: async (partitions, which) =>
        new Map(partitions.map((partition) => [partition, which === 'starts' ? '3' : '9'])),
      commit: async (offsets) => {
        for (const [partition, offset] of offsets) this.committed.set(partition, offset)
      },
    }
  }
}

const leader = { isLeader: true, isLate: false }
const follower = { isLeader: false, isLate: false }

/** A member, with the partitions that it has found new. */
function member(): { beginning: GroupBeginning; found: number[] } {
  const found: number[] = []
  return { beginning: new GroupBeginning((partitions) => void found.push(...partitions)), found }
}

test('a group begins at the end of all partitions at once, by its leader, and the others wait for that', async () => {
  const group = new Group()
  const [first, second] = [member(), member()]
  expect(await second.beginning.begin(group.as(1), follower)).toBe(false)
  expect(group.committed.size).toBe(0)
  expect(await first.beginning.begin(group.as(0), leader)).toBe(true)
  expect(await second.beginning.begin(group.as(1), follower)).toBe(true)
  expect(Object.fromEntries(group.committed)).toEqual({ 0: '9', 1: '9' })
  expect([first.found, second.found]).toEqual([[], []])
})

test('a partition that is added later begins at its start, whoever gets it, and whoever was there before', async () => {
  const group = new Group()
  const [first, other] = [member(), member()]
  await first.beginning.begin(group.as(0, 1), leader)
  group.partitions = 4
  expect(await first.beginning.begin(group.as(0, 2), leader)).toBe(true)
  expect(await other.beginning.begin(group.as(1, 3), follower)).toBe(true)
  expect(Object.fromEntries(group.committed)).toEqual({ 0: '9', 1: '9', 2: '3', 3: '3' })
  expect([first.found, other.found]).toEqual([[2], [3]])
})

test('a topic that was made anew begins at its start, for a member that had read the old one', async () => {
  const group = new Group()
  const { beginning, found } = member()
  await beginning.begin(group.as(0, 1), leader)
  group.committed.clear()
  await beginning.begin(group.as(0, 1), leader)
  expect(Object.fromEntries(group.committed)).toEqual({ 0: '3', 1: '3' })
  expect(found).toEqual([0, 1])
})

test('a member waits only for so long for a leader that commits no beginning', async () => {
  const group = new Group()
  const { beginning } = member()
  expect(await beginning.begin(group.as(1), follower)).toBe(false)
  expect(await beginning.begin(group.as(1), { isLeader: false, isLate: true })).toBe(true)
  expect(Object.fromEntries(group.committed)).toEqual({ 1: '9' })
})

test('members that are late, and a leader that comes behind them, begin at the ends, each of what nobody has committed', async () => {
  const group = new Group()
  group.partitions = 3
  const [first, second, last] = [member(), member(), member()]
  const late = { isLeader: false, isLate: true }
  expect(await second.beginning.begin(group.as(2), follower)).toBe(false)
  // The leader has met the empty group, and its question to the brokers fails at first.
  const fails = { ...group.as(0), ask: async () => await Promise.reject(new Error('timed out')) }
  await expect(last.beginning.begin(fails, leader)).rejects.toThrow('timed out')
  await first.beginning.begin(group.as(1), late)
  await second.beginning.begin(group.as(2), late)
  await last.beginning.begin(group.as(0), leader)
  expect(Object.fromEntries(group.committed)).toEqual({ 0: '9', 1: '9', 2: '9' })
  expect([first.found, second.found, last.found]).toEqual([[], [], []])
})

test('what a member has committed while the leader asks stays', async () => {
  const group = new Group()
  const { beginning } = member()
  const offsets = group.as(0)
  const slow: MemberOffsets = {
    ...offsets,
    ask: async (...which) => {
      group.committed.set(1, '5')
      return await offsets.ask(...which)
    },
  }
  await beginning.begin(slow, leader)
  expect(Object.fromEntries(group.committed)).toEqual({ 0: '9', 1: '5' })
})
