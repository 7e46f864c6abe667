import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'

/** Starts a watched process, which shares its standard output, tells its id, and says when it is interrupted. */
const ownerScript = `
  import { spawnWatched } from './src/local-kafka/kafka-node.ts'
  const child = spawnWatched('sleep', ['60'], { stdio: ['ignore', 'inherit', 'ignore'] })
  process.on('SIGINT', () => process.stdout.write('interrupted'))
  process.stdout.write(String(child.pid))
  setInterval(() => {}, 1_000)
`

test('a watched process is spared by Ctrl-C and killed when its owner is', { timeout: 30_000 }, async () => {
  // In a group of its own, as a terminal has one.
  const owner = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', ownerScript], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void owner.kill('SIGKILL'))
  const told = async (): Promise<string> => String((await once(owner.stdout, 'data'))[0])
  const childPid = Number(await told())

  process.kill(-owner.pid!, 'SIGINT')
  expect(await told()).toBe('interrupted')
  expect(process.kill(childPid, 0)).toBe(true)

  owner.kill('SIGKILL')
  // Ends when nobody has it open for writing any more.
  await once(owner.stdout, 'end')
})
