import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ConsumerConfig } from '../../../../src/config/consumer-config.ts'
import { AutoCommit, type Moved } from '../../../../src/kafka/consumer/auto-commit.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

const config = { autoCommitIntervalMs: 5_000 } as ConsumerConfig

function start(): { autoCommit: AutoCommit; commits: Moved[][] } {
  const commits: Moved[][] = []
  const autoCommit = new AutoCommit(config, async (partitions) => commits.push([...partitions]) > 0)
  return { autoCommit, commits }
}

/** A broker that answers a commit when the test says so. */
function startSlow() {
  const commits: Moved[][] = []
  const answers: ((isCommitted: boolean) => void)[] = []
  const autoCommit = new AutoCommit(config, async (partitions) => {
    commits.push([...partitions])
    return await new Promise((resolve) => answers.push(resolve))
  })
  const answer = async (isCommitted: boolean): Promise<void> => {
    answers.shift()!(isCommitted)
    await vi.advanceTimersByTimeAsync(0)
  }
  return { autoCommit, commits, answer }
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

test('one commit is under way at a time, so that none lands behind a later one', async () => {
  const { autoCommit, commits, answer } = startSlow()
  autoCommit.moved(0, 10, 10)
  vi.advanceTimersByTime(5_000)
  autoCommit.moved(0, 20, 10)
  vi.advanceTimersByTime(5_000)
  autoCommit.commitNow()
  expect(commits).toHaveLength(1)
  await answer(true)
  expect(commits).toEqual([
    [{ partition: 0, offset: '10', count: 10 }],
    [{ partition: 0, offset: '20', count: 10 }],
  ])
  const stopped = autoCommit.stop()
  await answer(true)
  await stopped
  expect(commits).toHaveLength(2)
})

test('the next commit takes what one that failed has left, and not what was forgotten meanwhile', async () => {
  const { autoCommit, commits, answer } = startSlow()
  for (const partition of [0, 1, 2]) autoCommit.moved(partition, 10, 10)
  vi.advanceTimersByTime(5_000)
  autoCommit.moved(0, 12, 2)
  autoCommit.forget(1)
  await answer(false)
  vi.advanceTimersByTime(5_000)
  const left = [
    { partition: 0, offset: '12', count: 12 },
    { partition: 2, offset: '10', count: 10 },
  ]
  expect(commits[1]).toEqual(left)
  autoCommit.forgetAll()
  await answer(false)
  vi.advanceTimersByTime(5_000)
  expect(commits).toHaveLength(2)

  autoCommit.moved(3, 7, 7)
  const stopped = autoCommit.stop()
  await vi.advanceTimersByTimeAsync(0)
  await answer(false)
  await answer(false)
  await stopped
  const last = [{ partition: 3, offset: '7', count: 7 }]
  expect(commits.slice(2)).toEqual([last, last])
})
