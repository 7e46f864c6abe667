import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { chuteArguments, chuteEnvironment, type LogLine } from './served-gateway.ts'

/** A command of Chute's that reads a topic, in a process of its own. */
export interface ReaderProcess {
  readonly pid: number
  /** The log so far. */
  readonly log: readonly LogLine[]
  /** What it wrote to its standard output so far, by line. */
  readonly output: readonly string[]
  signal(name: NodeJS.Signals): void
  /** Waits for the `nth` line (from 1) with this message. */
  logged(message: string, nth?: number): Promise<LogLine>
  /** Waits until the standard output has this many lines. */
  wrote(lines: number): Promise<void>
  /** Waits for the end of the process and of what it wrote. */
  ended(): Promise<number | null>
}

/** Starts `chute` with these arguments. Whoever starts it ends it. */
export function startReader(args: readonly string[], env: NodeJS.ProcessEnv): ReaderProcess {
  const child = spawn(process.execPath, [...chuteArguments, ...args], {
    env: chuteEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const closed = once(child, 'close')
  const log: LogLine[] = []
  const output: string[] = []
  const waiting = new Set<() => void>()
  const look = (): void => {
    for (const each of waiting) each()
  }
  createInterface(child.stdout).on('line', (line) => {
    output.push(line)
    look()
  })
  createInterface(child.stderr).on('line', (line) => {
    log.push(line.startsWith('{') ? (JSON.parse(line) as LogLine) : { msg: line })
    look()
  })
  const until = async (isThere: () => boolean, what: string): Promise<void> =>
    await new Promise((resolve, reject) => {
      const each = (): void => {
        if (!isThere()) return
        waiting.delete(each)
        resolve()
      }
      waiting.add(each)
      each()
      const onClosed = (): void => {
        each()
        reject(new Error(`the process ended before ${what}: ${JSON.stringify(log.slice(-3))}`))
      }
      void closed.then(onClosed)
    })
  const linesWith = (message: string): LogLine[] => log.filter(({ msg }) => String(msg).startsWith(message))
  return {
    pid: child.pid!,
    log,
    output,
    signal: (name) => void child.kill(name),
    async logged(message, nth = 1) {
      await until(() => linesWith(message).length >= nth, `it logged "${message}"`)
      return linesWith(message)[nth - 1]!
    },
    wrote: async (lines) => await until(() => output.length >= lines, `it wrote ${lines} lines`),
    async ended() {
      await closed
      return child.exitCode
    },
  }
}

/** Where and how a test's consumers read. */
export interface ConsumeTarget {
  readonly broker: string
  readonly topic: string
  readonly group: string
}

/** Starts `chute consume` from the beginning of the topic. */
export function startConsumer(
  { broker, topic, group }: ConsumeTarget,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): ReaderProcess {
  return startReader(
    [
      'consume',
      `--topic=${topic}`,
      `--group=${group}`,
      '--set=auto.offset.reset=earliest',
      '--set=session.timeout.ms=3000',
      '--set=heartbeat.interval.ms=500',
      ...args,
    ],
    { KAFKA_BROKERS: broker, ...env },
  )
}
