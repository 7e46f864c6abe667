import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { DurableSetup, imbalanceOf, pendingIn, scrape, untilDrained } from '../support/durable-gateway.ts'
import { byForm, isLong } from '../support/forms.ts'
import { readTopic } from '../support/independent-reader.ts'
import { KeyedLoad, landingOf } from '../support/keyed-load.ts'
import type { ServedGateway } from '../support/served-gateway.ts'

/** Only the disk suffers, and the broker of all tests takes what is on the disk. */
const broker = inject('kafkaBroker')

const away = { KAFKA_BROKERS: '127.0.0.1:1' }

/** Mounts something on a folder for the time of the test. @returns false where this user may not. */
function mounts(...argv: string[]): boolean {
  const target = argv.at(-1)!
  try {
    execFileSync('mount', argv, { stdio: 'ignore' })
  } catch {
    return false
  }
  onTestFinished(() => void execFileSync('umount', ['-l', target]))
  return true
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-disk-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The realtime stream takes events whatever becomes of the other's disk. */
async function realtimeStatus({ url }: ServedGateway): Promise<number> {
  const body = '{"name":"a","value":1}'
  return (await fetch(`${url}/v1/streams/realtime`, { method: 'POST', body })).status
}

async function sendUntil(load: KeyedLoad, url: string, holds: () => boolean): Promise<void> {
  while (!holds()) await load.send(url, 'key-0')
}

test.runIf(isLong)(
  'a disk that is full: 503, a metric, the other stream untouched, and nothing accepted is lost',
  async (context) => {
    const disk = temporaryFolder()
    if (!mounts('-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk))
      context.skip('this user may not mount a small disk')
    // It stands still.
    const kafka = await startKafka()
    onTestFinished(async () => await kafka.stop())
    const [stopped] = kafka.brokers as [string]
    const setup = new DurableSetup({
      broker: stopped,
      name: `full-${randomUUID()}`,
      dataDir: join(disk, 'data'),
    })
    const load = new KeyedLoad({ stream: 'critical', keys: 1, eventsPerRequest: 20, eventBytes: 500 })
    const gateway = await setup.start()
    await gateway.ready()
    process.kill(kafka.nodes[0]!.pid!, 'SIGSTOP')
    try {
      await sendUntil(load, gateway.url, () => load.as('refused').length >= 100)
      expect([...load.refusals.keys()]).toEqual(['spool_unavailable'])
      expect(load.as('accepted').length).toBeGreaterThan(500)
      const sums = await scrape(gateway)
      expect(sums.get('chute_spool_failures_total{write}')).toBeGreaterThan(0)
      expect(imbalanceOf(sums)).toBe(0)
      expect(gateway.lines).toContainEqual(expect.objectContaining({ level: 'error', code: 'ENOSPC' }))
      expect(await realtimeStatus(gateway)).toBe(202)
    } finally {
      process.kill(kafka.nodes[0]!.pid!, 'SIGCONT')
    }
    // What Kafka takes makes room again.
    const accepted = load.as('accepted').length
    await sendUntil(load, gateway.url, () => load.as('accepted').length > accepted)
    await untilDrained(gateway)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    expect(landingOf(load, await readTopic(stopped, setup.critical))).toMatchObject({
      lost: [],
      ghosts: [],
      duplicates: [],
      reordered: [],
    })
  },
)

/** A disk of 6 MB as a file system of its own. @returns false where this user may not mount one. */
function mountSmallDisk(kind: 'tmpfs' | 'ext4', folder: string): boolean {
  if (kind === 'tmpfs') return mounts('-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', folder)
  const image = join(temporaryFolder(), 'disk')
  execFileSync('truncate', ['-s', '6M', image])
  execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-m', '0', image], { stdio: 'ignore' })
  return mounts('-o', 'loop', image, folder)
}

const fullRounds = byForm({ short: 1, ci: 2, full: 20 })

test.each(isLong ? (['tmpfs', 'ext4'] as const) : (['ext4'] as const))(
  `${fullRounds} times a full disk (%s) and kill -9, under large and small requests: no durable 202 is lost, nothing refused is sent`,
  { timeout: 120_000 + fullRounds * 30_000 },
  async (kind) => {
    const disk = temporaryFolder()
    if (!mountSmallDisk(kind, disk)) {
      process.stderr.write(`a full disk: this user may not mount ${kind}\n`)
      return
    }
    const setup = new DurableSetup({
      broker,
      name: `d1-${kind}-${randomUUID()}`,
      dataDir: join(disk, 'data'),
    })
    const stream = 'critical'
    const loads = [
      new KeyedLoad({ stream, keys: 3, prefix: 'large', eventsPerRequest: 60, eventBytes: 6_000 }),
      new KeyedLoad({ stream, keys: 5, prefix: 'small', eventsPerRequest: 1 }),
    ]
    const refusals = () => loads.map(({ refusals: each }) => each.get('spool_unavailable') ?? 0)
    for (let round = 0; round < fullRounds; round++) {
      const gateway = await setup.start(away)
      const before = refusals()
      for (const load of loads) load.start(gateway.url, 2)
      const untilMs = performance.now() + 20_000
      while (refusals().some((count, nth) => count < before[nth]! + 20) && performance.now() < untilMs)
        await pause(5)
      gateway.signal('SIGKILL')
      await gateway.ended()
      for (const load of loads) await load.stop()
      // What Kafka takes makes room for the next round.
      const next = await setup.start()
      await untilDrained(next)
      next.signal('SIGKILL')
      await next.ended()
    }
    const records = await readTopic(broker, setup.critical)
    for (const load of loads) {
      const own = records.filter(({ key }) => key!.startsWith(load.prefix))
      const { lost, ghosts, landed } = landingOf(load, own)
      const [accepted, refused] = [load.as('accepted').length, load.as('refused').length]
      const sums = { kind, load: load.prefix, rounds: fullRounds, accepted, refused, landed }
      process.stderr.write(
        `a full disk: ${JSON.stringify({ ...sums, lost: lost.length, refusedAndSent: ghosts.length })}\n`,
      )
      expect(accepted).toBeGreaterThan(fullRounds)
      expect(refused).toBeGreaterThan(fullRounds)
      expect({ lost, ghosts }).toEqual({ lost: [], ghosts: [] })
    }
  },
)

test.runIf(isLong)(
  'a disk that stands still holds up no shutdown: the account is told in time',
  async (context) => {
    const disk = temporaryFolder()
    if (!mountSmallDisk('ext4', disk)) context.skip('this user may not mount a disk')
    const setup = new DurableSetup({ broker, name: `frozen-${randomUUID()}`, dataDir: join(disk, 'data') })
    const gateway = await setup.start({ SHUTDOWN_TIMEOUT_MS: '2000' })
    await gateway.ready()
    const load = new KeyedLoad({ stream: 'critical', keys: 1 })
    await load.send(gateway.url, 'key-0')
    execFileSync('fsfreeze', ['-f', disk])
    let isFrozen = true
    const thaw = (): void => {
      if (isFrozen) execFileSync('fsfreeze', ['-u', disk])
      isFrozen = false
    }
    onTestFinished(thaw)
    const unanswered = load.send(gateway.url, 'key-0')
    await pause(300)
    const startedMs = performance.now()
    gateway.signal('SIGTERM')
    while (!gateway.lines.some(({ account }) => account !== undefined)) await pause(20)
    expect(performance.now() - startedMs).toBeLessThan(4_000)
    expect(gateway.lines.at(-1)).toMatchObject({ account: { critical: { accepted: 3 } } })
    thaw()
    await gateway.ended()
    await unanswered
    // What got no answer may have been kept.
    const next = await setup.start()
    await untilDrained(next)
    next.signal('SIGTERM')
    expect(await next.ended()).toBe(0)
    expect(landingOf(load, await readTopic(broker, setup.critical)).lost).toEqual([])
  },
)

test.runIf(isLong)(
  'spool.max.bytes: 503 with Retry-After beyond it, and room again when Kafka takes records',
  async () => {
    const setup = new DurableSetup({
      broker,
      name: `limit-${randomUUID()}`,
      stream: { 'spool.max.bytes': 1 << 20, producer: { 'buffer.memory': 1 << 19 } },
    })
    const load = new KeyedLoad({ stream: 'critical', keys: 1, eventsPerRequest: 20, eventBytes: 500 })
    const gateway = await setup.start(away)
    await sendUntil(load, gateway.url, () => load.as('refused').length > 0)
    expect([...load.refusals.keys()]).toEqual(['buffer_full'])
    const sums = await scrape(gateway)
    expect(sums.get('chute_spool_bytes')).toBeGreaterThan(900_000)
    expect(sums.get('chute_spool_bytes')).toBeLessThanOrEqual(1 << 20)
    expect(sums.get('chute_spool_records')).toBe(load.as('accepted').length)
    expect(sums.get('chute_spool_oldest_age_seconds')).toBeGreaterThan(0)
    const body = '{"name":"a","value":1,"source":"key-0"}\n'.repeat(2_000)
    const reply = await fetch(`${gateway.url}/v1/streams/critical`, { method: 'POST', body })
    expect(reply.status).toBe(503)
    expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)

    const next = await setup.start()
    await untilDrained(next)
    await load.send(next.url, 'key-0')
    await untilDrained(next)
    next.signal('SIGTERM')
    expect(await next.ended()).toBe(0)
    expect(landingOf(load, await readTopic(broker, setup.critical))).toMatchObject({
      lost: [],
      ghosts: [],
      duplicates: [],
      reordered: [],
    })
  },
)

test('SIGTERM does not wait for Kafka: what is on disk stays, is told, and goes with the next start, once', async () => {
  const setup = new DurableSetup({ broker, name: `term-${randomUUID()}` })
  const load = new KeyedLoad({ stream: 'critical', keys: 4 })
  const gateway = await setup.start({ ...away, SHUTDOWN_TIMEOUT_MS: '60000' })
  await sendUntil(load, gateway.url, () => load.as('accepted').length >= 300)
  const startedMs = performance.now()
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
  expect(performance.now() - startedMs).toBeLessThan(30_000)
  expect(gateway.lines.at(-1)).toMatchObject({
    level: 'info',
    msg: expect.stringContaining('300 accepted records are on disk'),
    spooled: 300,
    account: {
      critical: { accepted: 300, recovered: 0, spooled: 300, acked: 0, dropped: {}, suspectedLost: 0 },
    },
  })
  expect(pendingIn(setup.dataDir)).toHaveLength(300)

  const next = await setup.start()
  expect(next.lines).toContainEqual(expect.objectContaining({ stream: 'critical', records: 300 }))
  // New events go behind the backlog, and are answered at once.
  await load.send(next.url, 'key-0')
  const sums = await untilDrained(next)
  expect(sums.get('chute_spool_drained_total')).toBe(303)
  next.signal('SIGTERM')
  expect(await next.ended()).toBe(0)
  expect(next.lines.at(-1)).toMatchObject({
    account: { critical: { recovered: 300, spooled: 0, acked: 303 } },
  })
  expect(landingOf(load, await readTopic(broker, setup.critical))).toMatchObject({
    lost: [],
    ghosts: [],
    duplicates: [],
    reordered: [],
    landed: 303,
  })
})

test.runIf(isLong)(
  'a broken page: what it held is counted and kept, everything else lands, and both streams go on',
  async () => {
    const setup = new DurableSetup({ broker, name: `broken-${randomUUID()}` })
    const load = new KeyedLoad({ stream: 'critical', keys: 1, eventBytes: 400 })
    const gateway = await setup.start(away)
    await sendUntil(load, gateway.url, () => load.as('accepted').length >= 300)
    gateway.signal('SIGKILL')
    await gateway.ended()
    const spool = join(setup.dataDir, 'spool', 'critical')
    const name = readdirSync(spool).find((each) => each.endsWith('.log'))
    const bytes = readFileSync(join(spool, name!))
    bytes.fill(0xaa, 40_000, 40_000 + 4_096)
    writeFileSync(join(spool, name!), bytes)

    const next = await setup.start()
    await load.send(next.url, 'key-0')
    const sums = await untilDrained(next)
    const damaged = sums.get('chute_records_total{spool_damaged}')!
    expect(sums.get('chute_records_recovered_total')).toBe(300)
    // A page of 4096 bytes touches this many requests of three events at the most.
    expect(damaged).toBeGreaterThan(0)
    expect(damaged).toBeLessThanOrEqual(3 * (Math.ceil(4_096 / 1_200) + 1))
    expect(await realtimeStatus(next)).toBe(202)
    expect(readdirSync(spool)).toContain(`${name!}.damaged`)
    next.signal('SIGTERM')
    // What was accepted and cannot be read is a loss, but not one of this shutdown.
    expect(await next.ended()).toBe(0)
    const landing = landingOf(load, await readTopic(broker, setup.critical))
    expect(landing).toMatchObject({ ghosts: [], duplicates: [], reordered: [] })
    expect(landing.lost).toHaveLength(damaged)
  },
)

test.runIf(isLong)(
  'a second gateway on the folder does not start, and says why; the first goes on',
  async () => {
    const setup = new DurableSetup({ broker, name: `second-${randomUUID()}` })
    const gateway = await setup.start()
    await gateway.ready()
    const second = await setup.refused()
    expect(second.code).toBe(1)
    expect(second.stderr).toContain(`${setup.dataDir} is in use by another gateway (process`)
    const load = new KeyedLoad({ stream: 'critical', keys: 1 })
    await load.send(gateway.url, 'key-0')
    expect(load.as('accepted')).toHaveLength(3)
    // A lock ends with its process, however that ended.
    gateway.signal('SIGKILL')
    await gateway.ended()
    const next = await setup.start()
    await next.ready()
    await untilDrained(next)
  },
)

test.runIf(isLong)(
  'a folder that is read-only, or of a newer version, keeps the gateway from starting, and it says why',
  async (context) => {
    const setup = new DurableSetup({ broker, name: `ro-${randomUUID()}` })
    const load = new KeyedLoad({ stream: 'critical', keys: 1 })
    const gateway = await setup.start(away)
    await load.send(gateway.url, 'key-0')
    gateway.signal('SIGKILL')
    await gateway.ended()

    const version = join(setup.dataDir, 'version')
    writeFileSync(version, 'chute data folder, format 99\n')
    const newer = await setup.refused()
    expect(newer.code).toBe(1)
    expect(newer.stderr).toContain('was written by a newer version of Chute')
    writeFileSync(version, 'chute data folder, format 1\n')

    const view = join(setup.folder, 'read-only')
    mkdirSync(view)
    if (!mounts('--bind', setup.dataDir, view)) context.skip('this user may not mount a folder read-only')
    execFileSync('mount', ['-o', 'remount,bind,ro', view])
    const readOnly = await setup.refused({ CHUTE_DATA_DIR: view })
    expect(readOnly.code).toBe(1)
    expect(readOnly.stderr).toContain('it is read-only')

    expect(pendingIn(setup.dataDir)).toHaveLength(3)
  },
)
