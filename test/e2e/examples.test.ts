import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect, inject, test } from 'vitest'

/** Runs an example as its README says, on the shared broker. @returns its exit code and what it printed. */
async function runExample(
  name: string,
  ...flags: string[]
): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', `examples/${name}/run.ts`, ...flags], {
    env: { ...process.env, KAFKA_BROKERS: inject('kafkaBroker'), PORT: '18080' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return { code: code as number | null, output }
}

test('gaming: kills and chat are all there, and nothing is there twice', async () => {
  const { code, output } = await runExample('gaming', '--calm')
  expect(output).toContain('Each stream kept its promise')
  expect(output).toMatch(/^kills +at-least-once +10 +10 +0 +0 +0$/m)
  expect(code).toBe(0)
})

test('logs: every line that was confirmed lands once, in fewer bytes than were sent', async () => {
  const { code, output } = await runExample('logs', '--file', 'package-lock.json')
  const times = Number(/, (\S+) times less/.exec(output)?.[1])
  expect(times).toBeGreaterThan(1)
  expect(code).toBe(0)
})
