import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { DedupeStoreConfig } from '../../src/config/config.ts'

/** Redis is installed (Debian's package `redis-server`). */
export const hasRedis = spawnSync('redis-server', ['--version']).error === undefined

/** A Redis of the test's own, in memory, that can be ended, stopped and started again on its port. */
export interface TestRedis {
  readonly port: number
  readonly store: DedupeStoreConfig
  /** Runs one command, over a connection of its own; the answer as Redis writes it. */
  ask(command: string): Promise<string>
  signal(name: NodeJS.Signals): void
  /** SIGKILL: everything that it had only in memory is lost. */
  kill(): Promise<void>
  /** SIGTERM, and waits for its end. */
  end(): Promise<void>
  /** After {@link kill} or {@link end}. */
  start(): Promise<void>
}

/**
 * Starts one. Whoever starts it kills it. Its port is none that the kernel gives to others while it is killed.
 * @param folder of its append-only file, so that a kill takes nothing that it answered; null: it is in memory only.
 */
export async function startRedis(
  store: Partial<DedupeStoreConfig> = {},
  folder: string | null = null,
): Promise<TestRedis> {
  let port = 0
  let child: ChildProcess
  const ask = async (command: string): Promise<string> =>
    await new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(`${command}\r\n`))
      socket.once('data', (answer) => {
        socket.destroy()
        resolve(answer.toString())
      })
      socket.once('error', reject).once('close', () => reject(new Error('no answer')))
      socket.setTimeout(10_000, () => socket.destroy())
    })
  const start = async (): Promise<void> => {
    const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '']
    args.push(...(folder === null ? ['--appendonly', 'no'] : ['--appendonly', 'yes', '--dir', folder]))
    child = spawn('redis-server', args, { stdio: ['ignore', 'ignore', 'inherit'] })
    while ((await ask('PING').catch(() => '')) !== '+PONG\r\n') {
      if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}`)
      await pause(10)
    }
  }
  for (let tries = 1; ; tries++) {
    port = 10_000 + Math.floor(Math.random() * 20_000)
    try {
      await start()
      break
    } catch (error) {
      if (tries === 5) throw error
    }
  }
  return {
    port,
    store: {
      url: `redis://127.0.0.1:${port}`,
      prefix: 'chute:',
      leaseMs: 30_000,
      timeoutMs: 1_000,
      ...store,
    },
    ask,
    start,
    signal: (name) => void child.kill(name),
    kill: async () => await endBy(child, 'SIGKILL'),
    end: async () => await endBy(child, 'SIGTERM'),
  }
}

async function endBy(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}
