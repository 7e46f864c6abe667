import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { inject } from 'vitest'
import { parseExposition, type ParsedFamily } from './parse-exposition.ts'

/**
 * The command line, as arguments of Node: built where the project has it built (`build-setup.ts`), or else from its sources,
 * which takes twice the time to start.
 */
export const chuteArguments: readonly string[] = inject('builtChute') ?? ['--import', 'tsx', 'src/main.ts']

/** An environment of which only `env` concerns Chute. */
export function chuteEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], ...env }
}

/** A line of the log. */
export type LogLine = Readonly<Record<string, unknown>>

/** `chute serve` in a process of its own, so that signals and exit codes can be tested. */
export interface ServedGateway {
  readonly url: string
  /** Where the admin routes are: `url`, unless `ADMIN_PORT` is set. */
  readonly adminUrl: string
  readonly pid: number
  /** The log so far. */
  readonly lines: readonly LogLine[]
  signal(name: NodeJS.Signals): void
  /** Waits for the line with this message. */
  logged(message: string): Promise<LogLine>
  /** Waits until `/readyz` says yes. */
  ready(): Promise<void>
  /** Waits until a scrape fits. */
  reported(fits: (families: Map<string, ParsedFamily>) => boolean): Promise<void>
  /** Waits for the end of the process, and of its log. */
  ended(): Promise<number | null>
}

/** Starts a gateway on a free port, and waits until it listens. Whoever starts it ends it. */
export async function serveGateway(
  env: NodeJS.ProcessEnv,
  chute: readonly string[] = chuteArguments,
): Promise<ServedGateway> {
  const child = spawn(process.execPath, [...chute, 'serve'], {
    // No balancer has to learn that it leaves, unless a test says so.
    env: chuteEnvironment({ PORT: '0', DRAIN_DELAY_MS: '0', ...env }),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return await followGateway(child, (name) => void child.kill(name))
}

/**
 * Follows a `chute serve` that writes its log to the standard output of `child`, and waits until it listens.
 * @param signal sends a signal to the gateway, which need not be `child` itself.
 */
export async function followGateway(
  child: ChildProcessByStdio<null, Readable, Readable | null>,
  signal: (name: NodeJS.Signals) => void,
): Promise<ServedGateway> {
  const closed = once(child, 'close')
  const lines: LogLine[] = []
  const waiting = new Set<() => void>()
  createInterface(child.stdout).on('line', (line) => {
    lines.push(JSON.parse(line) as LogLine)
    for (const look of waiting) look()
  })

  const logged = async (message: string): Promise<LogLine> =>
    await new Promise((resolve, reject) => {
      const look = () => {
        const line = lines.find(({ msg }) => String(msg).startsWith(message))
        if (line === undefined) return
        waiting.delete(look)
        resolve(line)
      }
      waiting.add(look)
      look()
      void closed.then(() => reject(new Error(`chute serve ended before it logged "${message}"`)))
    })
  const listening = (await logged('listening on')) as {
    readonly url: string
    readonly adminUrl: string | null
  }
  const { url } = listening
  const adminUrl = listening.adminUrl ?? url

  return {
    url,
    adminUrl,
    pid: child.pid!,
    lines,
    logged,
    signal,
    async ready() {
      while (!(await fetch(`${adminUrl}/readyz`)).ok) await pause(50)
    },
    async reported(fits) {
      while (!fits(parseExposition(await (await fetch(`${adminUrl}/metrics`)).text(), 'prometheus')))
        await pause(50)
    },
    async ended() {
      await closed
      return child.exitCode
    },
  }
}
