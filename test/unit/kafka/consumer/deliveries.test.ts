import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ConsumerDelivery } from '../../../../src/config/consumer-config.ts'
import type { Process, ConsumedRecord } from '../../../../src/kafka/consumer/consumer.ts'
import { silentLogger } from '../../../../src/logger.ts'
import { ConsumerAccount } from '../../../../src/kafka/consumer/consumer-account.ts'
import { deliveries, FailureLog, type Poll } from '../../../../src/kafka/consumer/deliveries.ts'
import { pass, useVirtualClock } from '../../../support/virtual-clock.ts'

beforeEach(() => useVirtualClock())
afterEach(() => {
  vi.useRealTimers()
})

/** Ten records and everything that happens to them, in order. */
function setUp(changes: { commit?: () => Promise<void>; isCurrent?: () => boolean } = {}) {
  const steps: string[] = []
  const stop = new AbortController()
  const account = new ConsumerAccount()
  const records = Array.from({ length: 10 }, (_, offset) => ({ offset: String(offset) }) as ConsumedRecord)
  const poll: Poll = {
    records,
    async commit() {
      steps.push('commit')
      await changes.commit?.()
      steps.push('committed')
    },
    moveOn: () => void steps.push('move on'),
    isCurrent: changes.isCurrent ?? (() => true),
    hurry: stop.signal,
    signal: stop.signal,
  }
  const failures: string[] = []
  const deliver = async (delivery: ConsumerDelivery, process: Process): Promise<void> => {
    account.poll(records.length)
    await deliveries[delivery](poll, {
      account,
      onFailure: ({ records: count, fate }) => void failures.push(`${count} ${fate}`),
      process: async (each, context) => {
        steps.push(`process ${each[0]!.offset}`)
        await process(each, context)
        steps.push('processed')
      },
    })
  }
  const sums = () => ({
    processed: account.processed,
    lost: account.lost,
    returned: account.returned,
    pending: account.pending,
  })
  return { steps, stop, failures, deliver, sums }
}

const none = { processed: 0, lost: 0, returned: 0, pending: 0 }

describe('at most once', () => {
  test('commits, and processes when the commit was answered', async () => {
    const { steps, deliver, sums } = setUp()
    await deliver('at-most-once', () => {})
    expect(steps).toEqual(['commit', 'committed', 'move on', 'process 0', 'processed'])
    expect(sums()).toEqual({ ...none, processed: 10 })
  })

  test('processes nothing whose commit failed, and lets the group know', async () => {
    const refused = new Error('The coordinator is rebalancing')
    const { steps, deliver, sums } = setUp({ commit: async () => await Promise.reject(refused) })
    await expect(deliver('at-most-once', () => {})).rejects.toBe(refused)
    expect(steps).toEqual(['commit'])
    expect(sums()).toEqual({ ...none, returned: 10 })
  })

  test('processes nothing if a rebalance came while the commit was on its way', async () => {
    let current = true
    const commit = async (): Promise<void> => void (current = false)
    const { steps, deliver, sums } = setUp({ commit, isCurrent: () => current })
    await deliver('at-most-once', () => {})
    expect(steps).not.toContain('process 0')
    expect(sums()).toEqual({ ...none, lost: 10 })
  })

  test('a process that fails loses what it had not done, and is not called again', async () => {
    const { steps, deliver, sums, failures } = setUp()
    await deliver('at-most-once', (_, { processed }) => {
      processed(4)
      throw new Error('no')
    })
    expect(steps.filter((step) => step.startsWith('process'))).toEqual(['process 0'])
    expect(sums()).toEqual({ ...none, processed: 4, lost: 6 })
    expect(failures).toEqual(['6 lost'])
  })

  test('a process that says nothing of its progress loses all', async () => {
    const { deliver, sums } = setUp()
    await deliver('at-most-once', async () => await Promise.reject(new Error('no')))
    expect(sums()).toEqual({ ...none, lost: 10 })
  })
})

describe('at least once', () => {
  test('commits nothing in another assignment: another member may have moved the group on', async () => {
    const { steps, deliver, sums } = setUp({ isCurrent: () => false })
    await deliver('at-least-once', () => {})
    expect(steps).toEqual(['process 0', 'processed'])
    expect(sums()).toEqual({ ...none, processed: 10 })
  })

  test('processes, and commits then', async () => {
    const { steps, deliver, sums } = setUp()
    await deliver('at-least-once', () => {})
    expect(steps).toEqual(['process 0', 'processed', 'commit', 'committed', 'move on'])
    expect(sums()).toEqual({ ...none, processed: 10 })
  })

  test('calls a process that fails again with the rest, after a pause that grows', async () => {
    const { steps, deliver, sums, failures } = setUp()
    let calls = 0
    const delivered = deliver('at-least-once', (_, { processed }) => {
      if (calls++ === 3) return
      processed(2)
      throw new Error('no')
    })
    await pass(50)
    expect(calls).toBe(1)
    await pass(100)
    expect(calls).toBe(2)
    await pass(100)
    expect(calls).toBe(2)
    await pass(200 + 400)
    await delivered
    const processing = steps.filter((step) => step.startsWith('process '))
    expect(processing).toEqual(['process 0', 'process 2', 'process 4', 'process 6'])
    expect(steps.slice(-3)).toEqual(['commit', 'committed', 'move on'])
    expect(failures).toEqual(['8 retried', '6 retried', '4 retried'])
    expect(sums()).toEqual({ ...none, processed: 10 })
  })

  test('gives up without a commit when the group goes on or the time to stop is up', async () => {
    const { steps, deliver, sums, stop, failures } = setUp()
    const delivered = deliver('at-least-once', () => {
      throw new Error('no')
    })
    await pass(1_000)
    stop.abort()
    await delivered
    expect(failures.at(-1)).toBe('10 returned')
    expect(failures.slice(0, -1)).not.toContain('10 returned')
    expect(steps).not.toContain('commit')
    expect(sums()).toEqual({ ...none, returned: 10 })
  })

  test('a commit that fails leaves the position where it was', async () => {
    const { steps, deliver } = setUp({ commit: async () => await Promise.reject(new Error('no')) })
    await expect(deliver('at-least-once', () => {})).rejects.toThrow('no')
    expect(steps).toEqual(['process 0', 'processed', 'commit'])
  })
})

test('auto-commit moves on before it processes, and commits nothing itself', async () => {
  const { steps, deliver, sums } = setUp()
  await deliver('auto-commit', (_, { processed }) => {
    processed(1)
    throw new Error('no')
  })
  expect(steps).toEqual(['move on', 'process 0'])
  expect(sums()).toEqual({ ...none, processed: 1, lost: 9 })
})

test('failures are logged by what becomes of the records, at most every ten seconds, and each record is counted once', async () => {
  const said: [object, string][] = []
  const error = (fields: object, message: string): void => void said.push([fields, message])
  const log = new FailureLog({ ...silentLogger, error })
  const refused = new Error('no')
  for (let attempt = 0; attempt < 8; attempt++) {
    log.add({ error: refused, records: 441, fate: 'retried' })
    await pass(1_500)
  }
  log.add({ error: refused, records: 441, fate: 'returned' })
  for (const records of [3, 4]) log.add({ error: refused, records, fate: 'lost' })
  await pass(10_000)
  log.add({ error: refused, records: 5, fate: 'lost' })
  const cause = 'no'
  const again = 'records could not be processed; trying again'
  const lost = 'records could not be processed: they are lost'
  expect(said).toEqual([
    [{ cause, records: 441, attempts: 1 }, again],
    [{ cause, records: 441, attempts: 7 }, again],
    [{ cause, records: 441 }, expect.stringContaining('given back')],
    [{ cause, records: 3 }, lost],
    [{ cause, records: 9 }, lost],
  ])
})
