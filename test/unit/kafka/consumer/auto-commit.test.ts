import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ConsumerConfig } from '../../../../src/config/consumer-config.ts'
import { AutoCommit, type Moved } from '../../../../src/kafka/consumer/auto-commit.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

function start(): { autoCommit: AutoCommit; commits: Moved[][] } {
  const commits: Moved[][] = []
  const config = { autoCommitIntervalMs: 5_000 } as ConsumerConfig
  const autoCommit = new AutoCommit(config, async (partitions) => void commits.push([...partitions]))
  return { autoCommit, commits }
}

test('commits the last position of each partition by the clock, and what is left at the end', async () => {
  const { autoCommit, commits } = start()
  autoCommit.moved(0, 10, 10)
  autoCommit.moved(0, 15, 5)
  autoCommit.moved(1, 3, 3)
  vi.advanceTimersByTime(5_000)
  vi.advanceTimersByTime(5_000)
  autoCommit.moved(1, 4, 1)
  await autoCommit.stop()
  expect(commits).toEqual([
    [
      { partition: 0, offset: '15', count: 15 },
      { partition: 1, offset: '3', count: 3 },
    ],
    [{ partition: 1, offset: '4', count: 1 }],
  ])
})

test('commits no position of an assignment that is over: another member may be further', async () => {
  const { autoCommit, commits } = start()
  autoCommit.moved(0, 10, 10)
  autoCommit.forgetAll()
  vi.advanceTimersByTime(5_000)
  autoCommit.moved(1, 7, 7)
  autoCommit.commitNow()
  await autoCommit.stop()
  expect(commits).toEqual([[{ partition: 1, offset: '7', count: 7 }]])
})
