import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ProducerStats } from '../src/kafka/producer/producer.ts'
import { freePorts } from '../test/support/free-ports.ts'
import type { ProbeReading } from './probe.mjs'

/** A server under test, as a process of its own. What it used is read from `/proc`: Linux only. */
export interface ServerProcess {
  readonly url: string
  usage(): ServerUsage
  /** What the probe saw since the last reading; only with `probe`. */
  readProbe(): Promise<ProbeReading>
  /** Asks it to stop and waits. */
  stop(): Promise<void>
}

/** Since the start of the process. */
export interface ServerUsage {
  /** CPU time, user and system, of it and its workers, in microseconds. */
  readonly cpuMicros: number
  /** Time that its main thread was ready to run and had no core, in microseconds. */
  readonly waitMicros: number
  /** Resident memory of it and its workers. */
  readonly rssBytes: number
  /** Calls to the kernel that write, of its main process: to sockets, for the most part. */
  readonly writeCalls: number
}

/** A gateway under test. */
export interface ChuteProcess extends ServerProcess {
  stats(): Promise<readonly ProducerStats[]>
}

const root = new URL('../', import.meta.url)

/** `chute serve`, as `npm run build` made it, with the flags that it ships with. */
export async function startChute(
  broker: string,
  env: NodeJS.ProcessEnv = {},
  options: StartOptions = {},
): Promise<ChuteProcess> {
  const server = await startServer(
    [fileURLToPath(new URL('dist/main.js', root)), 'serve'],
    { KAFKA_BROKERS: broker, LOG_LEVEL: 'error', ...env },
    options,
  )
  return {
    ...server,
    async stats() {
      const headers = options.adminKey === undefined ? {} : { 'x-chute-key': options.adminKey }
      const reply = await fetch(`${server.url}/live.json`, { headers })
      return ((await reply.json()) as { streams: ProducerStats[] }).streams
    },
  }
}

/** A server of bench/baselines/. */
export async function startBaseline(name: string, env: NodeJS.ProcessEnv = {}): Promise<ServerProcess> {
  const file = fileURLToPath(new URL(`bench/baselines/${name}.ts`, root))
  return await startServer(['--import', 'tsx', file], env, {})
}

interface StartOptions {
  /** Watches the event loop from inside (`probe.mjs`). */
  readonly probe?: boolean
  /** Of Node. */
  readonly flags?: readonly string[]
  /** A gateway with keys shows its numbers to this one. */
  readonly adminKey?: string
}

/** Starts `node args…` with `PORT` set and returns when its port answers. */
async function startServer(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  { probe = false, flags = [] }: StartOptions,
): Promise<ServerProcess> {
  const [port] = await freePorts(1)
  const nodeFlags = probe ? [...flags, '--import', new URL('bench/probe.mjs', root).href] : flags
  const child = spawn(process.execPath, [...nodeFlags, ...args], {
    cwd: fileURLToPath(root),
    env: {
      ...process.env,
      NODE_ENV: 'production',
      HOST: '127.0.0.1',
      PORT: String(port),
      DRAIN_DELAY_MS: '0',
      ...env,
    },
    stdio: probe ? ['ignore', 'ignore', 'inherit', 'ipc'] : ['ignore', 'ignore', 'inherit'],
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  const url = `http://127.0.0.1:${port}`
  await untilAnswers(url, child)
  return {
    url,
    usage: () => usageOf(child.pid!),
    async readProbe() {
      const answer = once(child, 'message')
      child.send('read')
      return (await answer)[0] as ProbeReading
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
    },
  }
}

function usageOf(pid: number): ServerUsage {
  const waitNanos = Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1])
  const pids = [pid, ...childrenOf(pid)]
  return {
    cpuMicros: pids.reduce((sum, each) => sum + cpuMicrosOf(each), 0),
    waitMicros: waitNanos / 1000,
    // Field 24, in pages.
    rssBytes: pids.reduce((sum, each) => sum + statOf(each)[21]! * 4096, 0),
    writeCalls: Number(/^syscw: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))![1]),
  }
}

function childrenOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return children.split(' ').filter(Boolean).map(Number)
}

/** CPU time of a process since its start, in microseconds: fields 14 and 15, in ticks of 10 ms. */
export function cpuMicrosOf(pid: number): number {
  const fields = statOf(pid)
  return (fields[11]! + fields[12]!) * 10_000
}

/** The fields of `/proc/<pid>/stat` from the third on: what stands before may hold spaces. */
function statOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ').map(Number)
}

async function untilAnswers(url: string, child: ChildProcess): Promise<void> {
  while (child.exitCode === null) {
    const reply = await fetch(`${url}/readyz`).catch(() => null)
    if (reply !== null && reply.status !== 503) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`the server ended with ${child.exitCode}`)
}

/** No server outlives the bench that started it. */
const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})
