import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Account } from '../../../../src/kafka/producer/account.ts'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { OutageLog } from '../../../../src/kafka/network/outage-log.ts'
import { LogKeeper } from '../../../support/producer-fixture.ts'
import { pass, useVirtualClock } from '../../../support/virtual-clock.ts'

const cause = new Error('gone')
let logs: LogKeeper
let outages: OutageLog

beforeEach(() => {
  useVirtualClock()
  logs = new LogKeeper()
  const account = new Account(new BufferMemory(100))
  outages = new OutageLog('events', logs, () => account.buffered)
})
afterEach(() => vi.useRealTimers())

test('one line when a broker goes and one when it comes, with what it cost', async () => {
  outages.down(1, cause, 5)
  for (let i = 0; i < 20; i++) {
    await pass(500)
    outages.down(1, cause, 1)
  }
  outages.up(1)
  outages.up(1)
  expect(logs.lines.map(({ level, fields }) => ({ level, ...fields }))).toEqual([
    { level: 'warn', stream: 'events', broker: 1, cause: 'gone', suspectedLost: 5 },
    { level: 'info', stream: 'events', broker: 1, awayMs: 10_000, buffered: 0, suspectedLost: 25 },
  ])
})

test('a broker that comes and goes is not told of more than every 10 s', async () => {
  for (let i = 0; i < 60; i++) {
    outages.down(1, cause, 0)
    await pass(250)
    outages.up(1)
    await pass(250)
  }
  expect(logs.lines).toHaveLength(6)
})

test('an outage that begins quietly is told if it lasts', async () => {
  outages.down(1, cause, 0)
  outages.up(1)
  await pass(1_000)
  outages.down(1, cause, 7)
  expect(logs.lines).toHaveLength(2)
  await pass(10_000)
  outages.down(1, cause, 0)
  outages.up(1)
  expect(logs.lines).toHaveLength(4)
  expect(logs.lines[3]!.fields).toMatchObject({ awayMs: 10_000, suspectedLost: 7 })
})
