import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startKafka } from '../src/local-kafka/local-kafka.ts'

/**
 * Writes a fixture of `test/unit/spool/earlier-formats.test.ts`: a data folder as a version of Chute leaves it, and what the folder holds.
 * `npx tsx dev/spool-fixture.ts --checkout DIR --name NAME [--headers] [--workers N]`. DIR has the sources of that version, and its packages.
 *
 * The gateway of that version sends three events to a real Kafka. Kafka is stopped then. The gateway takes four more: some are in a batch that
 * was sent, and has no answer. Then the gateway is killed.
 */
const { values: options } = parseArgs({
  options: {
    checkout: { type: 'string', default: '.' },
    name: { type: 'string' },
    headers: { type: 'boolean', default: false },
    workers: { type: 'string', default: '1' },
  },
})
const { name } = options
if (name === undefined) throw new Error('--name is missing')
const target = resolve(`test/fixtures/spool/${name}`)
const checkout = resolve(options.checkout)
const workers = Number(options.workers)

const folder = mkdtempSync(join(tmpdir(), 'chute-spool-fixture-'))
const kafka = await startKafka()
const dataDir = join(folder, 'data')
const dedupe = workers > 1 ? {} : { 'dedupe.window.ms': 86_400_000 }
const headers = options.headers ? { headers: { request: 'header:x-request' } } : {}
const critical = { topic: 'critical', delivery: 'at-least-once', ...dedupe, ...headers }
writeFileSync(join(folder, 'chute.json'), JSON.stringify({ streams: { critical } }))
const gateway = spawn(process.execPath, ['--import', 'tsx', 'src/main.ts', 'serve'], {
  cwd: checkout,
  env: {
    PATH: process.env['PATH'],
    PORT: '0',
    KAFKA_BROKERS: kafka.brokers.join(','),
    CHUTE_CONFIG: join(folder, 'chute.json'),
    CHUTE_DATA_DIR: dataDir,
    WORKERS: options.workers,
  },
  stdio: ['ignore', 'pipe', 'inherit'],
})
const [url, pids] = await listening(gateway)
for (let value = 0; value < 3; value++) await send(value)
while (/^chute_spool_records\{.*\} [^0]/m.test(await (await fetch(`${url}/metrics`)).text())) await pause(50)
// The notes of what Kafka has follow a moment later.
await pause(1_500)
await kafka.nodes[0]!.kill('SIGSTOP')
for (let value = 3; value < 5; value++) await send(value)
await pause(500)
for (let value = 5; value < 7; value++) await send(value)
for (const pid of pids) process.kill(pid, 'SIGKILL')
gateway.kill('SIGKILL')
await once(gateway, 'close')
await kafka.nodes[0]!.kill('SIGCONT')
rmSync(target, { recursive: true, force: true })
cpSync(dataDir, join(target, 'data'), { recursive: true, filter: (path) => basename(path) !== 'lock' })
const manifest = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string }
const commit = execFileSync('git', ['rev-parse', 'HEAD'], { cwd: checkout, encoding: 'utf8' }).trim()
const holds = {
  version: manifest.version,
  commit,
  writtenAtMs: Date.now(),
  workers,
  hasHeaders: options.headers,
  hasKeys: workers === 1,
  sent: [0, 1, 2],
  pending: [3, 4, 5, 6],
}
writeFileSync(join(target, 'holds.json'), `${JSON.stringify(holds, null, 2)}\n`)
await kafka.stop()
rmSync(folder, { recursive: true })
process.stdout.write(`${target}\n`)

/** Waits for the gateway. @returns its address, and its workers. */
async function listening(child: ChildProcess): Promise<[url: string, pids: number[]]> {
  for await (const line of createInterface(child.stdout!)) {
    const said = JSON.parse(line) as { msg: string; url: string; workers?: { pid: number }[] }
    if (!said.msg.startsWith('listening on')) continue
    child.stdout!.resume()
    return [said.url, (said.workers ?? []).map(({ pid }) => pid)]
  }
  throw new Error('the gateway ended before it listened')
}

/** Sends one event over a connection of its own, until it is accepted. With several workers they take these in turn. */
async function send(value: number): Promise<void> {
  const sent = request(`${url}/v1/streams/critical`, {
    method: 'POST',
    agent: false,
    headers: {
      'content-type': 'application/json',
      'idempotency-key': `"key-${value}"`,
      'x-request': `request-${value}`,
    },
  })
  sent.end(JSON.stringify({ name: 'kept', source: `source-${value % 2}`, id: `id-${value}`, value }))
  const [reply] = (await once(sent, 'response')) as [IncomingMessage]
  const body = await text(reply)
  if (reply.statusCode === 202) return
  if (reply.statusCode !== 503) throw new Error(`answered ${reply.statusCode}: ${body}`)
  await pause(100)
  await send(value)
}
