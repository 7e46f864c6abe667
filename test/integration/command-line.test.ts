import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { sha256OfKey } from '../../src/config/config.ts'
import { version } from '../../src/version.ts'
import { isLong } from '../support/forms.ts'
import { chuteArguments, chuteEnvironment, serveGateway } from '../support/served-gateway.ts'

// Each test starts a process, which is slow where many run side by side.
const limit = { timeout: 30_000 }
const folder = mkdtempSync(join(tmpdir(), 'chute-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

interface Run {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function chute(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  return await new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...chuteArguments, ...args],
      { env: chuteEnvironment(env) },
      (_, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    )
  })
}

describe('chute', limit, () => {
  test('--help lists the commands, and --version says which it is', async () => {
    const [help, shown] = await Promise.all([chute(['--help']), chute(['--version'])])
    expect(help).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/serve[^]*check[^]*kafka/),
      stderr: '',
    })
    expect(shown).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  test('with no command or an unknown one writes the help to stderr and exits 2', async () => {
    const [none, unknown] = await Promise.all([chute([]), chute(['sevre'])])
    expect(none).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('usage: chute') })
    expect(unknown).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('no command sevre'),
    })
  })
})

const commands = ['serve', 'check', 'doctor', 'consume', 'audit', 'tail', 'kafka']

/** Each is two processes. */
describe.each(isLong ? commands : ['serve', 'consume'])('chute %s', limit, (command) => {
  test('--help says how it is called, and what it does not know is an error with exit code 2', async () => {
    const kafka = { KAFKA_BROKERS: '127.0.0.1:1' }
    const [help, unknown] = await Promise.all([
      chute([command, '--help'], kafka),
      chute([command, '--port-number', '9'], kafka),
    ])
    const usage = new RegExp(`^usage: chute ${command}`, 'm')
    expect(help).toMatchObject({ code: 0, stdout: expect.stringMatching(usage), stderr: '' })
    expect(unknown).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(usage) })
    expect(unknown.stderr).toContain('--port-number')
  })
})

const withSecrets = [
  ['audit', '--topic', 'a', '--gateway', 'http://chk_secret:@127.0.0.1:1'],
  ['audit', '--topic', 'a', '--gateway', 'ftp://chk_secret:@127.0.0.1:1'],
  ['audit', 'http://chk_secret:@127.0.0.1:1'],
  ['tail', '--url', 'ftp://chk_secret:@127.0.0.1:1'],
  ['consume', '--topic', 'a', '--group', 'g', '--http', 'http://user:chk_secret@127.0.0.1:1'],
  ['consume', '--topic', 'a', '--group', 'g', '--http', 'ftp://user:chk_secret@127.0.0.1:1'],
]

test.each(isLong ? withSecrets : withSecrets.slice(0, 1))(
  'chute %s %s … refuses a URL with a secret in it, and does not show the secret',
  limit,
  async (...args) => {
    const { code, stdout, stderr } = await chute(args, { KAFKA_BROKERS: '127.0.0.1:1' })
    expect(code).toBe(2)
    expect(stdout + stderr).not.toContain('chk_secret')
  },
)

describe('chute check', limit, () => {
  test('prints the effective configuration and exits 0', async () => {
    const run = await chute(['check'], { KAFKA_BROKERS: 'kafka:9092' })
    expect(run).toMatchObject({ code: 0, stdout: expect.stringContaining('linger.ms: 5'), stderr: '' })
    // No file of streams: these are the usual ones.
    expect(run.stdout).toContain('CHUTE_CONFIG: null\n')
  })

  test('tells every problem on stderr and exits 1', async () => {
    const run = await chute(['check'], { PORT: 'x' })
    expect(run).toMatchObject({ code: 1, stdout: '' })
    expect(run.stderr).toMatch(/2 problems[^]*PORT is "x"[^]*KAFKA_BROKERS is not set/)
  })

  test('tries the JSON Schemas of the streams, and tells their flaws with all others', async () => {
    const file = join(folder, 'chute.json')
    writeFileSync(join(folder, 's.json'), '{ "type": "colour" }')
    writeFileSync(file, '{ "streams": { "a": { "delivery": "at-most-once", "schema": "s.json" } } }')
    const run = await chute(['check'], { KAFKA_BROKERS: 'kafka:9092', CHUTE_CONFIG: file, PORT: 'x' })
    expect(run.code).toBe(1)
    expect(run.stderr).toMatch(/2 problems[^]*PORT is "x"[^]*streams\.a\.schema cannot be used/)
  })
})

test(
  'chute check --connect waits for a broker that does not answer for no longer than --timeout-ms',
  limit,
  async () => {
    const silent = createServer((socket) => socket.on('error', () => {}))
    onTestFinished(() => void silent.close())
    await once(silent.listen(0, '127.0.0.1'), 'listening')
    const broker = `127.0.0.1:${(silent.address() as AddressInfo).port}`
    const beganMs = performance.now()
    const run = await chute(['check', '--connect', '--timeout-ms', '500'], {
      KAFKA_BROKERS: broker,
      KAFKA_CONNECTION_TIMEOUT_MS: '20000',
    })
    expect(performance.now() - beganMs).toBeLessThan(15_000)
    expect(run.code).toBe(1)
    expect(run.stdout).toContain(`FAIL broker ${broker}: not reached: no answer within 500 ms`)
  },
)

test(
  'chute keys list shows limits and that no source is allowed, and check takes a key from standard input',
  limit,
  async () => {
    const file = join(folder, 'keys.json')
    const limits = { requests: 60, bytes: 1000, window: '1m', burst: 5 }
    const key = {
      kind: 'public',
      sha256: sha256OfKey('chk_pub_a'),
      streams: ['*'],
      sources: [],
      addressLimits: limits,
    }
    writeFileSync(file, JSON.stringify({ keys: { web: key } }))
    const child = execFile(process.execPath, [...chuteArguments, 'keys', 'check', '-'], {
      env: chuteEnvironment({ CHUTE_KEYS_FILE: file }),
    })
    child.stdin!.end('chk_pub_a\n')
    const [listed, [code]] = await Promise.all([
      chute(['keys', 'list'], { CHUTE_KEYS_FILE: file }),
      once(child, 'close'),
    ])
    expect(listed.stdout).toMatch(/ as CORS_ORIGINS +none +– +60 requests, 1000 bytes in 60 s × 5 +never/)
    expect(code).toBe(0)
  },
)

test(
  'chute drain takes neither a folder nor a stream called dead-letters for dead letters',
  limit,
  async () => {
    const dataDir = join(folder, 'dead-letters')
    mkdirSync(join(dataDir, 'spool', 'dead-letters'), { recursive: true })
    mkdirSync(join(dataDir, 'dead-letters'))
    writeFileSync(join(dataDir, 'version'), 'chute data folder, format 1\n')
    const file = join(folder, 'drain.json')
    writeFileSync(file, '{ "streams": { "dead-letters": { "delivery": "at-least-once" } } }')
    const words = ['drain', '--data-dir', dataDir, '--timeout-ms', '2000']
    const env = { KAFKA_BROKERS: '127.0.0.1:1', CHUTE_CONFIG: file }
    const empty = await chute(words, env)
    expect(empty.stdout).not.toContain('look at these files')
    expect(empty.code).toBe(0)
    const letters = join(dataDir, 'dead-letters', 'dead-letters.ndjson')
    writeFileSync(letters, '{}\n')
    const left = await chute(words, env)
    expect(left.stdout).toContain(`"files":["${letters}"],"msg":"look at these files`)
    expect(left.code).toBe(1)
  },
)

test.runIf(existsSync('/dev/full'))(
  'chute keys new ends with exit code 1 if the disk has no room for the key, which is shown once',
  limit,
  async () => {
    const full = openSync('/dev/full', 'w')
    onTestFinished(() => closeSync(full))
    const args = [...chuteArguments, 'keys', 'new', '--name', 'a', '--secret', '--stream', 'web']
    const child = spawn(process.execPath, args, {
      env: chuteEnvironment({}),
      stdio: ['ignore', full, 'pipe'],
    })
    let stderr = ''
    child.stderr!.on('data', (chunk) => (stderr += String(chunk)))
    const [code] = await once(child, 'close')
    expect(code).toBe(1)
    expect(stderr).toContain('ENOSPC')
  },
)

describe('chute serve', limit, () => {
  /** Nobody listens on port 1: Kafka is away. */
  const away = { KAFKA_BROKERS: '127.0.0.1:1' }

  test('tells what is wrong with the configuration and exits 1', async () => {
    const run = await chute(['serve'])
    expect(run).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('npm run kafka') })
  })

  test('SIGHUPs that come one after the other are few readings, with as few errors', async () => {
    const file = join(folder, 'streams.json')
    writeFileSync(file, '{ "streams": { "a": { "delivery": "at-most-once" } } }')
    const gateway = await serveGateway({ ...away, CHUTE_CONFIG: file, SHUTDOWN_TIMEOUT_MS: '100' })
    onTestFinished(() => gateway.signal('SIGKILL'))
    writeFileSync(file, '{}')
    const readings = () => gateway.lines.filter(({ msg }) => String(msg).includes('cannot be used')).length
    for (let times = 0; times < 50; times++) {
      gateway.signal('SIGHUP')
      await pause(10)
    }
    await expect.poll(readings, { timeout: 10_000 }).toBeGreaterThan(1)
    expect(readings()).toBeLessThan(20)
    gateway.signal('SIGTERM')
    await gateway.ended()
  })

  test('with workers and the longest SPOOL_DRAIN_TIMEOUT_MS answers what is under way at a SIGTERM', async () => {
    const gateway = await serveGateway({ ...away, WORKERS: '2', SPOOL_DRAIN_TIMEOUT_MS: '2147483647' })
    onTestFinished(() => gateway.signal('SIGKILL'))
    const { port } = new URL(gateway.url)
    const body = '{"name":"a","value":1}'
    const client = connect(Number(port), '127.0.0.1')
    let reply = ''
    client.on('data', (chunk) => (reply += String(chunk))).on('error', () => {})
    client.write(
      `POST /v1/streams/metrics-realtime HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n`,
    )
    client.write(body.slice(0, 5))
    await pause(500)
    gateway.signal('SIGTERM')
    await gateway.logged('draining')
    await pause(500)
    expect(reply).toBe('')
    client.write(body.slice(5))
    // Kafka is away.
    await expect.poll(() => reply, { timeout: 10_000 }).toContain('HTTP/1.1 503')
    expect(await gateway.ended()).toBe(0)
  })

  test('says which port is taken and exits 1', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void other.close())
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const run = await chute(['serve'], { ...away, PORT: '0', ADMIN_PORT: String(port) })
    expect(run.code).toBe(1)
    expect(run.stderr).toContain(`Port ${port} is taken`)
    expect(run.stderr).toContain('set ADMIN_PORT')
  })

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'drains on %s, and ends its log with the account',
    async (signal) => {
      const gateway = await serveGateway({ ...away, SHUTDOWN_TIMEOUT_MS: '2000' })
      onTestFinished(() => gateway.signal('SIGKILL'))
      expect((await fetch(`${gateway.url}/livez`)).status).toBe(200)
      gateway.signal(signal)
      expect(await gateway.ended()).toBe(0)
      const { lines } = gateway
      expect(lines).toContainEqual(expect.objectContaining({ version, streams: expect.any(Array) }))
      expect(lines).toContainEqual(expect.objectContaining({ stream: 'metrics-critical', level: 'warn' }))
      const alone = { streams: ['metrics-critical'], level: 'warn' }
      const msg = expect.stringMatching(/told by this gateway alone.*CHUTE_DEDUPE_REDIS_URL/) as string
      expect(lines).toContainEqual(expect.objectContaining({ ...alone, msg }))
      expect(lines.at(-2)).toMatchObject({ msg: 'draining', signal })
      const nothing = { accepted: 0, confirmed: 0, suspectedLost: 0, dropped: {}, buffered: 0, inFlight: 0 }
      expect(lines.at(-1)).toMatchObject({
        account: { 'metrics-realtime': nothing, 'metrics-critical': nothing },
      })
    },
  )
})

test('chute kafka in Docker: a signal to it alone ends the container', limit, async () => {
  const bin = mkdtempSync(join(folder, 'bin-'))
  const docker = `#!${process.execPath}
if (process.argv[2] === 'run') {
  process.on('SIGTERM', () => process.exit(143))
  setTimeout(() => {}, 60_000)
  console.log('the container runs')
}
`
  writeFileSync(join(bin, 'docker'), docker, { mode: 0o755 })
  const child = execFile(process.execPath, [...chuteArguments, 'kafka'], { env: { PATH: bin } })
  onTestFinished(() => void child.kill('SIGKILL'))
  let said = ''
  child.stdout!.on('data', (text: string) => (said += text))
  await expect.poll(() => said, { timeout: 20_000 }).toContain('the container runs')
  child.kill('SIGTERM')
  const [code] = (await once(child, 'exit')) as [number | null]
  expect(code).toBe(0)
})
