import { expect, onTestFinished, test, vi } from 'vitest'
import { runConsumeCommand, whatBecameOf } from '../../../src/commands/consume-command.ts'
import { consumerStats } from '../../support/consumer-stats.ts'

const reachable = { KAFKA_BROKERS: '127.0.0.1:1' }
const words = ['--topic', 't', '--group', 'g']

/** The exit code, and what was said on standard error. */
async function endOf(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<[number, string]> {
  const stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  onTestFinished(() => stderr.mockRestore())
  const code = await runConsumeCommand(argv, env)
  return [code, stderr.mock.calls.join('')]
}

test.each([
  [[], '--topic is missing'],
  [[...words, '--delivery', 'exactly-once'], '--delivery is'],
  [[...words, '--set', 'foo=1'], '--set foo'],
  [[...words, '--set', 'bar'], '--set bar is not key=value'],
  [[...words, '--set', 'enable.auto.commit=true'], '--set enable.auto.commit'],
  [[...words, '--http', 'foo'], '--http must be'],
] as const)('a command line that is wrong ends with 2: %j', async (argv, said) => {
  expect(await endOf(argv, reachable)).toEqual([2, expect.stringContaining(said)])
  // Also if the environment is wrong besides.
  expect((await endOf(argv, {}))[0]).toBe(2)
})

test('an environment that is wrong ends with 1', async () => {
  expect(await endOf(words, {})).toEqual([1, expect.stringContaining('KAFKA_BROKERS')])
})

const none = { consumed: 0, processed: 0, lost: 0, returned: 0, pending: 0 }

test.each([
  [none, 0, 'no record was polled'],
  [{ ...none, consumed: 9, processed: 9 }, 0, 'what was polled was processed'],
  [
    { ...none, consumed: 1_002, lost: 1_002 },
    1_002,
    '0 of 1002 polled records were processed; 1002 were lost while it ran',
  ],
  [
    { ...none, consumed: 441, returned: 441 },
    0,
    '0 of 441 polled records were processed; 441 were given back: the group polls them again',
  ],
  [
    { consumed: 20, processed: 5, lost: 9, returned: 2, pending: 4 },
    6,
    '5 of 20 polled records were processed; 6 were lost while it ran; 3 were lost as it stopped; 2 were given back: the group polls them again; 4 were under way: they may be lost',
  ],
])('the last line says what became of the records: %j', (counts, lostBefore, said) => {
  expect(whatBecameOf(consumerStats(counts), lostBefore)).toBe(said)
})

test('at least once, records that were under way at the end are polled again', () => {
  const stats = consumerStats({ consumed: 4, pending: 4, delivery: 'at-least-once' })
  expect(whatBecameOf(stats, 0)).toMatch(/4 were under way: the group polls them again$/)
})
