import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, inject, onTestFinished, test } from 'vitest'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { chuteEnvironment } from '../support/served-gateway.ts'

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }

/** Runs `npm run <script>`, in a process group of its own, which the test's end kills. */
function npmRun(script: string, env: NodeJS.ProcessEnv, cwd = '.'): ChildProcess {
  const child = spawn('npm', ['run', '--silent', script], {
    cwd,
    env: chuteEnvironment({ HOME: process.env['HOME'], ...env }),
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  onTestFinished(() => {
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // All of it is gone, as it should be.
    }
  })
  return child
}

/** Reads what a process writes until a line fits. */
async function untilWritten(child: ChildProcess, pattern: RegExp): Promise<void> {
  for await (const line of createInterface(child.stdout!)) if (pattern.test(line)) return
  throw new Error(`it ended before it wrote ${pattern}`)
}

async function isRefused(port: number): Promise<boolean> {
  return await new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => done(false))
    socket.once('error', () => done(true)).once('connect', () => socket.destroy())
  })
}

/** Sends SIGTERM to npm alone, as a supervisor does, and waits for the end of npm. */
async function terminate(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.stdout!.resume()
  child.kill('SIGTERM')
  await ended
}

test.runIf(isLong)('SIGTERM to npm start ends the gateway, and its port is free', async () => {
  // The script as it is, over the sources: the package is not built here.
  const folder = mkdtempSync(join(tmpdir(), 'chute-npm-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  for (const name of ['src', 'public']) cpSync(name, join(folder, name), { recursive: true })
  for (const name of ['openapi.yaml', 'tsconfig.json']) cpSync(name, join(folder, name))
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
  const start = scripts['start']!.replace('node dist/main.js', 'node --import tsx src/main.ts')
  expect(start).not.toBe(scripts['start'])
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: 'chute', version: '0.0.0', type: 'module', scripts: { start } }),
  )
  const [port] = (await freePorts(1)) as [number]
  const env = { KAFKA_BROKERS: inject('kafkaBroker'), PORT: String(port), DRAIN_DELAY_MS: '0' }
  const npm = npmRun('start', env, folder)
  await untilWritten(npm, /listening on/)
  await terminate(npm)
  expect(await isRefused(port)).toBe(true)
})

test.runIf(isLong)(
  'SIGTERM to npm run kafka ends the broker, and its port is free',
  { timeout: 120_000 },
  async () => {
    const [port] = (await freePorts(1)) as [number]
    const npm = npmRun('kafka', { KAFKA_PORT: String(port), JAVA_HOME: process.env['JAVA_HOME'] })
    await untilWritten(npm, /is ready on/)
    await terminate(npm)
    expect(await isRefused(port)).toBe(true)
  },
)

test.each(['start', 'kafka', 'demo', 'example:gaming', 'example:logs', 'example:web'])(
  'npm run %s leaves no shell between npm and what it starts',
  (script) => {
    expect(scripts[script]).toMatch(/^exec /)
  },
)
