import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { stringify } from 'yaml'
import { freePorts } from '../support/free-ports.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

/** The command of schemathesis (test/contract/requirements.txt); `.ci/run` sets it, and installs that before. */
const schemathesis = process.env['SCHEMATHESIS']

/**
 * Whatever changes the contract of a path: the delivery, whether duplicates are told, whether a 202 is on disk. The streams
 * are named after it.
 */
const streams = {
  'at-most-once': { delivery: 'at-most-once' },
  'at-most-once-dedupe': { delivery: 'at-most-once', dedupe: 'on' },
  'at-least-once': { delivery: 'at-least-once', durable: 'off', preset: 'critical' },
  'at-least-once-no-dedupe': { delivery: 'at-least-once', durable: 'off', dedupe: 'off' },
  durable: { delivery: 'at-least-once' },
  'exactly-once': { delivery: 'exactly-once' },
}

/** Requests that schemathesis makes up for each operation, besides those of its fixed lists. */
const examples = 40

let folder: string
let gateway: ServedGateway
let adminUrl: string

/**
 * schemathesis makes up requests that openapi.yaml allows, and some that it forbids, sends them to a real gateway, and compares
 * each reply with openapi.yaml. What it may find is in test/contract/allowed_failures.py.
 */
describe.skipIf(schemathesis === undefined)('openapi.yaml (needs SCHEMATHESIS)', { retry: 0 }, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chute-contract-'))
    const config = join(folder, 'chute.yaml')
    writeFileSync(config, stringify({ streams }))
    const [adminPort] = await freePorts(1)
    adminUrl = `http://127.0.0.1:${adminPort}`
    gateway = await serveGateway({
      KAFKA_BROKERS: inject('kafkaBroker'),
      CHUTE_CONFIG: config,
      CHUTE_DATA_DIR: join(folder, 'data'),
      ADMIN_PORT: String(adminPort),
      // Each refused request would be a line.
      LOG_LEVEL: 'info',
    })
    while (!(await fetch(`${adminUrl}/readyz`)).ok) await pause(100)
  })

  afterAll(async () => {
    gateway.signal('SIGTERM')
    await gateway.ended()
    rmSync(folder, { recursive: true, force: true })
  })

  // What does not depend on a stream is looked at once.
  const all = 'examples,coverage,fuzzing'
  test.each(Object.keys(streams))(
    'is what a gateway does with events of the stream %s',
    { timeout: 300_000 },
    async (stream) => {
      const phases = stream === 'at-most-once' || stream === 'exactly-once' ? all : 'examples,fuzzing'
      const said = await look(gateway.url, ['--include-tag', 'events', '--phases', phases], stream)
      expect(said).toContain('Selected: 3/14')
    },
  )

  test('is what a gateway does with a stream that is not there', { timeout: 300_000 }, async () => {
    await look(gateway.url, ['--include-tag', 'events', '--phases', 'examples,fuzzing'], 'nope')
  })

  test('is what pages load their client from', { timeout: 300_000 }, async () => {
    const said = await look(gateway.url, ['--include-tag', 'client', '--phases', all], 'at-most-once')
    expect(said).toContain('Selected: 2/14')
  })

  test('is what the admin port serves', { timeout: 300_000 }, async () => {
    // Its replies have no end.
    const operation = ['--include-tag', 'operation', '--exclude-path', '/live/events']
    const said = await look(adminUrl, [...operation, '--phases', all], 'at-most-once')
    expect(said).toContain('Selected: 8/14')
  })
})

/** Runs schemathesis. @returns what it said. @throws Error with what it said, if it found a failure that is not allowed. */
async function look(url: string, which: readonly string[], stream: string): Promise<string> {
  const options = ['--checks', 'all', '--continue-on-failure', '--suppress-health-check', 'all', '--no-color']
  const made = ['--seed', '1', '--max-examples', String(examples), '--generation-database', 'none']
  const config = ['--config-file', 'test/contract/schemathesis.toml']
  const args = [...config, 'run', 'openapi.yaml', '--url', url, ...which, ...options, ...made]
  const env = {
    ...process.env,
    CONTRACT_STREAM: stream,
    PYTHONPATH: [join(process.cwd(), 'test/contract'), process.env['PYTHONPATH'] ?? ''].join(':'),
    PYTHONDONTWRITEBYTECODE: '1',
  }
  return await new Promise((resolve, reject) => {
    execFile(schemathesis!, args, { env, timeout: 240_000, maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
      const said = `${stdout}${stderr}`
      if (error === null) resolve(said)
      else reject(new Error(`schemathesis says of ${url}, ${stream}:\n${said.slice(-50_000)}`))
    })
  })
}
