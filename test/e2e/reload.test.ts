import { createHash, randomUUID } from 'node:crypto'
import { chmodSync, closeSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import { stringify } from 'yaml'
import { takeLock } from '../../src/spool/data-folder.ts'
import { folderOfWorker } from '../../src/spool/worker-folders.ts'
import { ConfigMap } from '../support/config-map.ts'
import { isLong } from '../support/forms.ts'
import { readTopic } from '../support/independent-reader.ts'
import { parseExposition, sumOf, valueOf, type ParsedFamily } from '../support/parse-exposition.ts'
import { serveGateway, type LogLine, type ServedGateway } from '../support/served-gateway.ts'

// Beside other tests, a start takes seconds. The long run of reloads takes minutes.
vi.setConfig({ testTimeout: process.env['CHUTE_RELOADS'] === 'long' ? 500_000 : 120_000 })

const broker = inject('kafkaBroker')

/** Keys by name; the value of each is `value-of-NAME`. */
function keysFile(...names: string[]): string {
  const entry = (name: string) => ({
    kind: name === 'ops' ? 'admin' : 'secret',
    sha256: [createHash('sha256').update(`value-of-${name}`).digest('hex')],
    ...(name !== 'ops' && { streams: ['*'] }),
  })
  return stringify({ keys: Object.fromEntries(names.map((name) => [name, entry(name)])) })
}

function streamsFile(streams: Record<string, object>): string {
  return stringify({ streams })
}

/** Those who look do not wait behind the load. */
const agents = {
  load: new Agent({ keepAlive: true, maxSockets: 64 }),
  look: new Agent({ keepAlive: true, maxSockets: 4 }),
}

async function post(
  gateway: ServedGateway,
  stream: string,
  body: string,
  key: string | null = null,
  agent = agents.look,
): Promise<{ status: number; body: string }> {
  return await new Promise((resolve, reject) => {
    const headers = key === null ? {} : { authorization: `Bearer value-of-${key}` }
    request(`${gateway.url}/v1/streams/${stream}`, { method: 'POST', agent, headers }, (response) => {
      text(response).then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), reject)
    })
      .on('error', reject)
      .end(body)
  })
}

const event = (name: string): string => JSON.stringify({ name, value: 1 })

async function scrape(gateway: ServedGateway): Promise<Map<string, ParsedFamily>> {
  const reply = await fetch(`${gateway.adminUrl}/metrics`)
  return parseExposition(await reply.text(), 'prometheus')
}

async function reloads(gateway: ServedGateway): Promise<Record<string, number>> {
  const samples = (await scrape(gateway)).get('chute_config_reloads_total')?.samples ?? []
  return Object.fromEntries(samples.map(({ labels, value }) => [labels['result'], value]))
}

/** Waits for `count` lines with this message. */
async function loggedTimes(gateway: ServedGateway, message: string, count: number): Promise<LogLine[]> {
  const found = (): LogLine[] => gateway.lines.filter(({ msg }) => msg === message)
  await vi.waitUntil(() => found().length >= count, { timeout: 40_000, interval: 5 })
  return found()
}

const reloaded = 'the configuration was reloaded'
const refused = 'the new configuration cannot be used, and the old one goes on'

async function start(env: NodeJS.ProcessEnv): Promise<ServedGateway> {
  const gateway = await serveGateway({ KAFKA_BROKERS: broker, ADMIN_PORT: '0', ...env })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return gateway
}

async function stopped(gateway: ServedGateway): Promise<void> {
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
}

/** The names of the events in a topic. */
async function landed(topic: string): Promise<string[]> {
  const records = await readTopic(broker, topic)
  return records.map(({ value }) => (JSON.parse(value.toString()) as { name: string }).name)
}

describe.each(isLong ? ['1', '2'] : ['1'])('with %s worker(s)', (WORKERS) => {
  test('a swapped ConfigMap adds and takes keys and streams, within a second', async () => {
    const topics = { a: `reload-a-${randomUUID()}`, b: `reload-b-${randomUUID()}` }
    const a = { topic: topics.a, delivery: 'at-most-once' }
    const b = { topic: topics.b, delivery: 'at-least-once' }
    const files = new ConfigMap({ keys: keysFile('one'), streams: streamsFile({ a }) })
    const gateway = await start({
      WORKERS,
      CHUTE_KEYS_FILE: files.path('keys'),
      CHUTE_CONFIG: files.path('streams'),
    })
    expect(await reloads(gateway)).toEqual({ success: 0, needs_restart: 0, failure: 0 })
    const hash = valueOf(await scrape(gateway), 'chute_config_hash')
    expect(await post(gateway, 'a', event('1'), 'two')).toMatchObject({ status: 401 })

    files.swap({ keys: keysFile('one', 'two'), streams: streamsFile({ a, b }) })
    const swappedAtMs = performance.now()
    await vi.waitUntil(async () => (await post(gateway, 'a', event('2'), 'two')).status === 202, {
      timeout: 10_000,
      interval: 20,
    })
    expect(performance.now() - swappedAtMs).toBeLessThan(2_000)
    const [line] = await loggedTimes(gateway, reloaded, 1)
    expect(line).toMatchObject({ changes: ['streams.b is new', 'keys.two is new'] })
    await vi.waitUntil(async () => (await post(gateway, 'b', event('3'), 'two')).status === 202, {
      timeout: 10_000,
    })
    expect((await fetch(`${gateway.adminUrl}/readyz`)).ok).toBe(true)
    expect(valueOf(await scrape(gateway), 'chute_config_hash')).not.toBe(hash)

    files.swap({ keys: keysFile('one'), streams: streamsFile({ a }) })
    await loggedTimes(gateway, reloaded, 2)
    // On a slow machine the many tries above have used up the guesses of this address: 429.
    const isOut = async (): Promise<boolean> =>
      [401, 429].includes((await post(gateway, 'a', event('4'), 'two')).status)
    await vi.waitUntil(isOut, { timeout: 10_000 })
    const gone = await post(gateway, 'b', event('5'), 'one')
    expect(gone.status).toBe(404)
    expect(JSON.parse(gone.body)).toMatchObject({ code: 'unknown_stream', streams: ['a'] })
    await gateway.logged('the stream has drained')
    const families = await scrape(gateway)
    expect(valueOf(families, 'chute_config_hash')).toBe(hash)
    expect(valueOf(families, 'chute_config_reloads_total', { result: 'success' })).toBe(2)
    // The account of the stream that is gone stays, and is closed.
    expect(sumOf(families, 'chute_records_accepted_total')).toBe(
      sumOf(families, 'chute_events_total', { result: 'accepted' }),
    )
    expect(sumOf(families, 'chute_records_total', { stream: 'b', outcome: 'acked' })).toBe(
      sumOf(families, 'chute_records_accepted_total', { stream: 'b' }),
    )
    await stopped(gateway)
    expect(await landed(topics.b)).toContain('3')
  })

  test('reloads under load, a third of them of broken files, cost no request and no record', async () => {
    const topic = `reload-load-${randomUUID()}`
    const a = { topic, delivery: 'at-most-once' }
    const good = (nth: number): Record<string, string> => ({
      keys: keysFile('one', `k${nth}`),
      streams: streamsFile({
        a,
        [`s${nth % 2}`]: { topic: `${topic}-${nth % 2}`, delivery: 'at-most-once' },
      }),
    })
    const broken: Record<string, string>[] = [
      { keys: 'keys: [', streams: streamsFile({ a }) },
      { keys: keysFile('one').replace('secret', 'secrets'), streams: 'streams: {}' },
      { streams: streamsFile({ a }) },
      { keys: '', streams: streamsFile({ a: { ...a, delivery: 'sometimes' } }) },
    ]
    const files = new ConfigMap(good(0))
    const gateway = await start({
      WORKERS,
      CHUTE_KEYS_FILE: files.path('keys'),
      CHUTE_CONFIG: files.path('streams'),
    })
    const load = new Load(gateway, { perSecond: loadPerSecond })
    let [changed, bad] = [0, 0]
    for (let nth = 1; nth <= reloadCount; nth++) {
      if (nth % 3 === 0) {
        const before = (await reloads(gateway))['failure']!
        files.swap(broken[bad++ % broken.length]!)
        if (bad % 2 === 0) gateway.signal('SIGHUP')
        await vi.waitUntil(async () => (await reloads(gateway))['failure']! > before, { timeout: 20_000 })
      } else {
        files.swap(good(nth))
        const swappedAtMs = performance.now()
        changed++
        // A key that is not known yet gets 401, and then 429.
        const isKnown = async (): Promise<boolean> =>
          (await post(gateway, 'a', event('x'), `k${nth}`)).status === 202
        await vi.waitUntil(isKnown, { timeout: 20_000, interval: 20 })
        load.keyGoodAfterMs.push(performance.now() - swappedAtMs)
        load.others++
      }
    }
    await load.stop()
    const families = await scrape(gateway)
    expect(await reloads(gateway)).toMatchObject({ success: changed })
    await stopped(gateway)
    process.stderr.write(
      `${reloadCount} reloads, ${WORKERS} worker(s): ${load.taken} requests, p99 ${load.percentile(0.99).toFixed(1)} ms, a key is good after ${Math.max(...load.keyGoodAfterMs).toFixed(0)} ms at most\n`,
    )
    expect(load.failed).toEqual([])
    expect(Math.max(...load.keyGoodAfterMs)).toBeLessThan(isLongRun ? 1_000 : 3_000)
    expect(valueOf(families, 'chute_records_accepted_total', { stream: 'a' })).toBe(load.taken + load.others)
    const names = (await landed(topic)).filter((name) => name !== 'x')
    expect(names).toHaveLength(load.taken)
    expect(new Set(names).size).toBe(load.taken)
  })
})

test.runIf(isLong)(
  '1,000 keys and 50 streams with JSON Schemas are reloaded beside the event loop',
  async () => {
    const names = Array.from({ length: 50 }, (_, nth) => `s${nth}`)
    const topic = `reload-large-${randomUUID()}`
    const streams = streamsFile(
      Object.fromEntries(
        names.map((name) => [name, { topic, delivery: 'at-most-once', schema: `${name}.json` }]),
      ),
    )
    /** Each schema and each key is another one in each round. */
    const files = (round: number): Record<string, string> => {
      const rule = { type: 'string', maxLength: 100 + round }
      const properties = Object.fromEntries(Array.from({ length: 12 }, (_, nth) => [`field${nth}`, rule]))
      const schema = JSON.stringify({ type: 'object', properties, required: ['name'] })
      const others = Array.from({ length: 1_000 }, (_, nth) => `k${nth}-${round}`)
      const schemas = Object.fromEntries(names.map((name) => [`${name}.json`, schema]))
      return { keys: keysFile('one', ...others), streams, ...schemas }
    }
    const map = new ConfigMap(files(0))
    const gateway = await start({ CHUTE_KEYS_FILE: map.path('keys'), CHUTE_CONFIG: map.path('streams') })
    const load = new Load(gateway, { stream: 's0', perSecond: 100 })
    const longestPausesMs: number[] = []
    // What a scrape tells is since the one before.
    await scrape(gateway)
    for (let round = 1; round <= 3; round++) {
      map.swap(files(round))
      await loggedTimes(gateway, reloaded, round)
      expect((await post(gateway, 's1', event('e'), `k999-${round}`)).status).toBe(202)
      longestPausesMs.push(1_000 * valueOf(await scrape(gateway), 'nodejs_eventloop_lag_max_seconds'))
    }
    await load.stop()
    await stopped(gateway)
    process.stderr.write(
      `1,000 keys and 50 schemas: longest pauses of the event loop ${longestPausesMs.map((ms) => ms.toFixed(0)).join(', ')} ms\n`,
    )
    expect(load.failed).toEqual([])
    // On a machine that is busy with other things, a pause is longer than the work in it.
    expect(Math.min(...longestPausesMs)).toBeLessThan(isLongRun ? 20 : 1_000)
  },
)

/** `CHUTE_RELOADS=long`: what docs/reload.md has. */
const isLongRun = process.env['CHUTE_RELOADS'] === 'long'
const [reloadCount, loadPerSecond] = isLongRun ? [100, 2_000] : [12, 300]

/** Sends one event a request, at a steady rate as far as the answers allow. */
class Load {
  taken = 0
  others = 0
  readonly failed: string[] = []
  readonly keyGoodAfterMs: number[] = []
  readonly #latenciesMs: number[] = []
  readonly #pending = new Set<Promise<void>>()
  readonly #timer: NodeJS.Timeout
  readonly #stream: string

  constructor(gateway: ServedGateway, { stream = 'a', perSecond }: { stream?: string; perSecond: number }) {
    this.#stream = stream
    const startedAtMs = performance.now()
    let sent = 0
    this.#timer = setInterval(() => {
      const due = ((performance.now() - startedAtMs) / 1_000) * perSecond
      // A machine that is busy with other things sends less.
      for (; sent < due && this.#pending.size < 64; sent++) {
        const one = this.#send(gateway, `n${sent}`)
        this.#pending.add(one)
        void one.finally(() => this.#pending.delete(one))
      }
    }, 5)
  }

  async #send(gateway: ServedGateway, name: string): Promise<void> {
    const sentAtMs = performance.now()
    try {
      const { status, body } = await post(gateway, this.#stream, event(name), 'one', agents.load)
      this.#latenciesMs.push(performance.now() - sentAtMs)
      if (status === 202) this.taken++
      else this.failed.push(`${status} ${body}`)
    } catch (error) {
      this.failed.push(String(error))
    }
  }

  percentile(part: number): number {
    const sorted = this.#latenciesMs.toSorted((one, other) => one - other)
    return sorted[Math.floor(sorted.length * part)] ?? Number.NaN
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.#pending)
  }
}

test.runIf(isLong)(
  'each kind of broken file is told with all of its faults, and the old configuration goes on',
  async () => {
    const topic = `reload-kinds-${randomUUID()}`
    const folder = mkdtempSync(join(tmpdir(), 'chute-reload-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const file = join(folder, 'chute.yaml')
    const good = streamsFile({ a: { topic, delivery: 'at-most-once' } })
    writeFileSync(file, good)
    const gateway = await start({ CHUTE_CONFIG: file })
    let failures = 0
    const expectRefused = async (...problems: object[]): Promise<void> => {
      const lines = await loggedTimes(gateway, refused, failures + problems.length)
      expect(lines.slice(failures)).toEqual(problems.map((problem) => expect.objectContaining(problem)))
      expect(lines.at(-1)).toMatchObject({ level: 'error' })
      failures += problems.length
      expect((await post(gateway, 'a', event('e'))).status).toBe(202)
      expect(valueOf(await scrape(gateway), 'chute_config_last_reload_successful')).toBe(0)
    }
    writeFileSync(file, '')
    await expectRefused({ setting: 'CHUTE_CONFIG' })
    rmSync(file)
    await expectRefused({ setting: 'CHUTE_CONFIG', problem: `names ${file}: there is no such file` })
    mkdirSync(file)
    await expectRefused({ setting: 'CHUTE_CONFIG', problem: `names ${file}: it is a folder` })
    rmSync(file, { recursive: true })
    writeFileSync(file, 'streams: { a: { delivery: never }, b: { delivery: at-most-once, kay: none } }')
    await expectRefused({ setting: 'streams.a.delivery' }, { setting: 'streams.b.kay' })
    if (process.getuid?.() !== 0) {
      chmodSync(file, 0o000)
      await expectRefused({ setting: 'CHUTE_CONFIG', problem: `names ${file}: this process may not read it` })
      chmodSync(file, 0o600)
    }
    // Two contradictory settings of one stream, and a schema that is no schema.
    writeFileSync(join(folder, 's.json'), '{ "type": "sometimes" }')
    writeFileSync(file, 'streams: { a: { delivery: at-most-once, schema: s.json } }')
    await expectRefused({ setting: 'streams.a.schema' })
    // Only the file of the schema changes. It was named by a configuration that is not in force.
    writeFileSync(join(folder, 's.json'), '{ "type": "sometimes", "title": "still none" }')
    await expectRefused({ setting: 'streams.a.schema' })

    writeFileSync(file, good)
    await gateway.logged('the files of the configuration say again what is in force')
    expect(valueOf(await scrape(gateway), 'chute_config_last_reload_successful')).toBe(1)
    await stopped(gateway)
  },
)

test.runIf(isLong)('a file that is written in two steps is read when it is whole', async () => {
  const topic = `reload-steps-${randomUUID()}`
  const folder = mkdtempSync(join(tmpdir(), 'chute-reload-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'chute.yaml')
  const streams = (names: string): string =>
    `streams:\n${names
      .split('')
      .map((name) => `  ${name}: { topic: ${topic}, delivery: at-most-once }\n`)
      .join('')}`
  writeFileSync(file, streams('ab'))
  const gateway = await start({ CHUTE_CONFIG: file })
  // The first step would be a configuration by itself: without b.
  writeFileSync(file, streams('ac').slice(0, streams('a').length))
  await pause(60)
  writeFileSync(file, streams('abc'))
  const [line] = await loggedTimes(gateway, reloaded, 1)
  expect(line).toMatchObject({ changes: ['streams.c is new'] })
  await stopped(gateway)
})

test('what needs a restart is named and stays, and the rest is in force', async () => {
  const topic = `reload-restart-${randomUUID()}`
  const a = { topic, delivery: 'at-most-once' }
  const files = new ConfigMap({ streams: streamsFile({ a }), level: 'info', origins: '' })
  const gateway = await start({
    CHUTE_CONFIG: files.path('streams'),
    LOG_LEVEL_FILE: files.path('level'),
    CORS_ORIGINS_FILE: files.path('origins'),
  })
  const next = { level: 'debug', origins: 'https://app.example' }
  files.swap({ streams: streamsFile({ a: { ...a, producer: { 'linger.ms': 50 } } }), ...next })
  const line = await gateway.logged('some of the new configuration needs a restart')
  expect(line).toMatchObject({
    level: 'warn',
    changes: ['CORS_ORIGINS is another one', 'LOG_LEVEL is another one'],
    needsRestart: ['streams.a.producer'],
  })
  expect(await reloads(gateway)).toEqual({ success: 0, needs_restart: 1, failure: 0 })
  const reply = await fetch(`${gateway.url}/v1/streams/a`, {
    method: 'POST',
    headers: { origin: 'https://app.example' },
    body: event('e'),
  })
  expect(reply.headers.get('access-control-allow-origin')).toBe('https://app.example')
  await fetch(`${gateway.url}/v1/streams/none`, { method: 'POST', body: event('e') })
  await gateway.logged('a request was refused')
  await stopped(gateway)
})

test.runIf(isLong)(
  'a stream that is removed and added again while it drains keeps the order of its keys',
  async () => {
    const topic = `reload-again-${randomUUID()}`
    // Records wait for a second before they are sent.
    const a = { topic, delivery: 'at-least-once', producer: { 'linger.ms': 1_000 } }
    const b = { topic: `${topic}-b`, delivery: 'at-most-once' }
    const files = new ConfigMap({ streams: streamsFile({ a, b }) })
    const gateway = await start({ CHUTE_CONFIG: files.path('streams') })
    const keyed = (name: string): string => JSON.stringify({ name, value: 1, source: 's' })
    expect((await post(gateway, 'a', keyed('1'))).status).toBe(202)
    files.swap({ streams: streamsFile({ b }) })
    gateway.signal('SIGHUP')
    await gateway.logged('the stream takes no more events')
    expect((await post(gateway, 'a', keyed('no'))).status).toBe(404)
    files.swap({ streams: streamsFile({ a, b }) })
    gateway.signal('SIGHUP')
    await loggedTimes(gateway, reloaded, 2)
    const early = await post(gateway, 'a', keyed('no'))
    // On a slow machine the stream may have drained.
    expect([202, 503]).toContain(early.status)
    if (early.status === 503) expect(JSON.parse(early.body)).toMatchObject({ code: 'stream_unavailable' })
    await vi.waitUntil(async () => (await post(gateway, 'a', keyed('2'))).status === 202, { timeout: 20_000 })
    const families = await scrape(gateway)
    expect(families.get('chute_records_accepted_total')?.samples).toHaveLength(2)
    expect(valueOf(families, 'chute_records_accepted_total', { stream: 'a' })).toBe(
      sumOf(families, 'chute_records_pending', { stream: 'a' }) +
        sumOf(families, 'chute_records_total', { stream: 'a' }),
    )
    await stopped(gateway)
    const names = (await landed(topic)).filter((name) => name !== 'no')
    expect(names).toEqual(['1', '2'])
  },
)

test.runIf(isLong)('SIGHUPs that come at once, and one during the drain, end nothing', async () => {
  const topic = `reload-hup-${randomUUID()}`
  const a = { topic, delivery: 'at-most-once' }
  const files = new ConfigMap({ streams: streamsFile({ a }) })
  const gateway = await start({ CHUTE_CONFIG: files.path('streams'), DRAIN_DELAY_MS: '1000' })
  files.swap({ streams: streamsFile({ a, b: { ...a, topic: `${topic}-b` } }) })
  for (let times = 0; times < 5; times++) gateway.signal('SIGHUP')
  await gateway.logged(reloaded)
  gateway.signal('SIGTERM')
  await gateway.logged('draining')
  files.swap({ streams: streamsFile({ a }) })
  gateway.signal('SIGHUP')
  await gateway.logged('nothing is reloaded while the gateway shuts down')
  expect(await gateway.ended()).toBe(0)
  expect(gateway.lines.filter(({ msg }) => msg === reloaded)).toHaveLength(1)
})

test.runIf(isLong)(
  'a durable stream goes when its disk is empty and comes back, and invalid events go to another topic',
  async () => {
    const topic = `reload-durable-${randomUUID()}`
    const data = mkdtempSync(join(tmpdir(), 'chute-reload-data-'))
    onTestFinished(() => rmSync(data, { recursive: true, force: true }))
    const b = { topic: `${topic}-b`, delivery: 'at-most-once' }
    const d = (invalid: string) => ({
      topic,
      delivery: 'at-least-once',
      dedupe: true,
      invalidTopic: `${topic}-${invalid}`,
    })
    const files = new ConfigMap({ streams: streamsFile({ b, d: d('one') }) })
    const gateway = await start({
      CHUTE_CONFIG: files.path('streams'),
      CHUTE_DATA_DIR: data,
      CHUTE_DATA_DIR_EPHEMERAL: 'true',
    })
    const kept = async (invalid: string): Promise<number | undefined> =>
      valueOf(await scrape(gateway), 'chute_invalid_events_total', {
        topic: `${topic}-${invalid}`,
        result: 'kept',
      })
    await post(gateway, 'd', '{ "name": 1 }')
    await vi.waitUntil(async () => (await kept('one')) === 1, { timeout: 20_000 })

    files.swap({ streams: streamsFile({ b, d: d('two') }) })
    await loggedTimes(gateway, reloaded, 1)
    await vi.waitUntil(
      async () => {
        await post(gateway, 'd', '{ "name": 1 }')
        return ((await kept('two')) ?? 0) > 0
      },
      { timeout: 20_000, interval: 100 },
    )
    expect(await kept('one')).toBe(1)

    expect((await post(gateway, 'd', event('1'))).status).toBe(202)
    files.swap({ streams: streamsFile({ b }) })
    await gateway.logged('the stream has drained')
    expect((await post(gateway, 'd', event('no'))).status).toBe(404)
    files.swap({ streams: streamsFile({ b, d: d('two') }) })
    await loggedTimes(gateway, reloaded, 3)
    expect((await post(gateway, 'd', event('2'))).status).toBe(202)
    // A stop does not wait for Kafka: what is on disk may stay there.
    await expect.poll(async () => (await landed(topic)).toSorted(), { timeout: 20_000 }).toEqual(['1', '2'])
    await stopped(gateway)
  },
)

test('a worker that is killed while the keys change comes back with the new ones', async () => {
  const a = { topic: `reload-kill-${randomUUID()}`, delivery: 'at-most-once' }
  const files = new ConfigMap({ keys: keysFile('old'), streams: streamsFile({ a }) })
  const gateway = await start({
    WORKERS: '2',
    CHUTE_KEYS_FILE: files.path('keys'),
    CHUTE_CONFIG: files.path('streams'),
  })
  const listening = gateway.lines.find(({ msg }) => String(msg).startsWith('listening on'))
  const workers = listening?.['workers'] as { pid: number }[]
  files.swap({ keys: keysFile('new'), streams: streamsFile({ a }) })
  gateway.signal('SIGHUP')
  process.kill(workers[0]!.pid, 'SIGKILL')
  await gateway.logged(reloaded)
  await gateway.logged('a worker takes requests again')
  await allWorkersHaveNewKeys(gateway)
  await stopped(gateway)
})

test('a worker that still waits for its folder holds up no reload, and has the new keys when it takes requests', async () => {
  const a = { topic: `reload-waits-${randomUUID()}`, delivery: 'at-least-once' }
  const data = mkdtempSync(join(tmpdir(), 'chute-reload-data-'))
  onTestFinished(() => rmSync(data, { recursive: true, force: true }))
  const files = new ConfigMap({ keys: keysFile('old'), streams: streamsFile({ a }) })
  const gateway = await start({
    WORKERS: '2',
    CHUTE_KEYS_FILE: files.path('keys'),
    CHUTE_CONFIG: files.path('streams'),
    CHUTE_DATA_DIR: data,
    CHUTE_DATA_DIR_EPHEMERAL: 'true',
  })
  const listening = gateway.lines.find(({ msg }) => String(msg).startsWith('listening on'))
  const workers = listening?.['workers'] as { pid: number }[]
  process.kill(workers[1]!.pid, 'SIGKILL')
  const lock = await vi.waitUntil(() => takeWhenFree(folderOfWorker(data, 2)), { interval: 5 })
  await gateway.logged('a worker of an earlier start still has its folder')
  files.swap({ keys: keysFile('new'), streams: streamsFile({ a }) })
  const line = await Promise.race([gateway.logged(reloaded), gateway.logged(refused)])
  expect(line).toMatchObject({ msg: reloaded })
  closeSync(lock)
  await gateway.logged('a worker takes requests again')
  await allWorkersHaveNewKeys(gateway)
  await stopped(gateway)
})

test('a worker that is killed with records of a stream that a reload took out comes back, and lets the stream go', async () => {
  const a = { topic: `reload-stays-${randomUUID()}`, delivery: 'at-least-once' }
  const gone = { topic: `reload-goes-${randomUUID()}`, delivery: 'at-least-once' }
  const data = mkdtempSync(join(tmpdir(), 'chute-reload-data-'))
  onTestFinished(() => rmSync(data, { recursive: true, force: true }))
  const files = new ConfigMap({ streams: streamsFile({ a, gone }) })
  // It is not ready, and takes events that go to disk all the same.
  const gateway = await serveGateway({
    ADMIN_PORT: '0',
    WORKERS: '2',
    KAFKA_BROKERS: '127.0.0.1:1',
    CHUTE_CONFIG: files.path('streams'),
    CHUTE_DATA_DIR: data,
    CHUTE_DATA_DIR_EPHEMERAL: 'true',
  })
  onTestFinished(() => gateway.signal('SIGKILL'))
  const statusOf = async (stream: string): Promise<number> => {
    const headers = { connection: 'close' }
    return (await fetch(`${gateway.url}/v1/streams/${stream}`, { method: 'POST', headers, body: event('e') }))
      .status
  }
  for (let times = 0; times < 8; times++) expect(await statusOf('gone')).toBe(202)
  files.swap({ streams: streamsFile({ a }) })
  await gateway.logged(reloaded)
  const listening = gateway.lines.find(({ msg }) => String(msg).startsWith('listening on'))
  const workers = listening?.['workers'] as { pid: number }[]
  process.kill(workers[1]!.pid, 'SIGKILL')
  await gateway.logged('a worker takes requests again')
  await vi.waitFor(async () => {
    const statuses = new Set<number>()
    for (let times = 0; times < 8; times++) statuses.add(await statusOf('gone'))
    expect([...statuses]).toEqual([404])
  })
  for (let times = 0; times < 8; times++) expect(await statusOf('a')).toBe(202)
  // A worker that is killed now would find the records of a stream that has no disk.
  files.swap({ streams: streamsFile({ a, gone: { ...gone, delivery: 'at-most-once' } }) })
  expect(await gateway.logged(refused)).toMatchObject({
    problem: expect.stringContaining('still sends what it has on disk') as string,
  })
  // The records of both workers are there for as long as Kafka is away.
  const samples = (await scrape(gateway)).get('chute_spool_records')?.samples ?? []
  expect(samples.find(({ labels }) => labels['stream'] === 'gone')?.value).toBe(8)
})

/** @returns null: its worker still has the folder. */
function takeWhenFree(folder: string): number | null {
  try {
    return takeLock(folder, 'worker')
  } catch {
    return null
  }
}

/** Each request has a connection of its own: the workers take them in turn. */
async function allWorkersHaveNewKeys({ url }: ServedGateway): Promise<void> {
  const fresh = async (key: string): Promise<number> => {
    const headers = { authorization: `Bearer value-of-${key}`, connection: 'close' }
    return (await fetch(`${url}/v1/streams/a`, { method: 'POST', headers, body: event('e') })).status
  }
  const seen = { old: new Set<number>(), new: new Set<number>() }
  for (let times = 0; times < 8; times++) {
    seen.new.add(await fresh('new'))
    seen.old.add(await fresh('old'))
  }
  expect([...seen.old]).toEqual([401])
  expect([...seen.new]).toEqual([202])
}
