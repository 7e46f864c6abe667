import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fetchAccount } from '../../src/commands/audit-command.ts'
import { totalsOf } from '../../src/kafka/audit/audit-report.ts'
import { compareAccount } from '../../src/kafka/audit/compare-account.ts'
import { TopicAudit } from '../../src/kafka/audit/topic-audit.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { DurableSetup, imbalanceOf, pendingIn, scrape, untilDrained } from '../support/durable-gateway.ts'
import { seededRandom } from '../support/fault-run.ts'
import { byForm, isLong } from '../support/forms.ts'
import { readTopic } from '../support/independent-reader.ts'
import { KeyedLoad, landingOf } from '../support/keyed-load.ts'
import { seed } from '../support/seed.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

const rounds = byForm({ short: 2, ci: 5, full: 100 })
const copies = byForm({ short: 3, ci: 10, full: 200 })
const random = seededRandom(seed)
const between = (from: number, to: number) => from + random() * (to - from)

test(
  `${rounds} times kill -9 of the gateway under load, with Kafka there or not: no 202 is lost, nothing is twice, each key keeps its order, the audit agrees`,
  { timeout: 60_000 + rounds * 20_000 },
  async () => {
    const [broker] = kafka.brokers
    const node = kafka.nodes[0]!
    const stream = { audit: true }
    const setup = new DurableSetup({ broker: broker!, name: `kill-${randomUUID()}`, stream })
    const load = new KeyedLoad({ stream: 'critical', keys: 16 })
    let pending: string[] = []
    for (let round = 0; round < rounds; round++) {
      // The last one leaves a backlog.
      const isLast = round === rounds - 1
      const isAway = isLast || random() < 0.5
      const gateway = await setup.start()
      // Until Kafka has answered once, a start with a topic that is not there yet is nothing to test.
      if (round === 0) await gateway.ready()
      load.start(gateway.url)
      await pause(between(50, 400))
      if (isAway) process.kill(node.pid!, 'SIGSTOP')
      await pause(between(isLast ? 200 : 0, 800))
      expect(imbalanceOf(await scrape(gateway))).toBe(0)
      gateway.signal('SIGKILL')
      await gateway.ended()
      await load.stop()
      if (isAway) process.kill(node.pid!, 'SIGCONT')
      pending = pendingIn(setup.dataDir)
    }
    const gateway = await setup.start()
    await untilDrained(gateway)
    const account = (await fetchAccount(gateway.url)).find((each) => each.stream === 'critical')!
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)

    const records = await readTopic(broker!, setup.critical)
    const landing = landingOf(load, records)
    expect(load.as('accepted').length).toBeGreaterThan(rounds * 50)
    // What was in flight when the process was killed goes again as the batch that it was.
    expect(landing).toMatchObject({ lost: [], ghosts: [], duplicates: [], reordered: [] })

    // Each start is a writer of its own, and what it found on disk has its numbers, but for what was in flight.
    const audit = new TopicAudit(setup.critical, new Map())
    for (const record of records) audit.take(record)
    const { lost, duplicated, reordered, unmarked } = totalsOf(audit.findings)
    expect({ lost, duplicated, reordered, unmarked }).toEqual({
      lost: 0,
      duplicated: 0,
      reordered: 0,
      unmarked: 0,
    })
    const writers = new Set(audit.findings.writers.map(({ instance }) => instance))
    expect(writers.size).toBeGreaterThan(1)
    expect(pending.length).toBeGreaterThan(0)
    expect(compareAccount(account, audit)).toMatchObject({
      verdict: 'agrees',
      stamped: pending.length,
      missing: 0,
    })
    process.stderr.write(
      `kill -9 of the gateway: ${JSON.stringify({
        rounds,
        accepted: load.as('accepted').length,
        unanswered: load.as('unanswered').length,
        landed: landing.landed,
        lost: landing.lost.length,
        duplicates: landing.duplicates.length,
        reordered: landing.reordered.length,
        audit: { writers: writers.size, lost, duplicated, reordered },
      })}\n`,
    )
  },
)

test.runIf(isLong)(
  `the data folder is copied at ${copies} moments: each copy starts, with every 202 that is older`,
  { timeout: 60_000 + copies * 15_000 },
  async () => {
    const [broker] = kafka.brokers
    const node = kafka.nodes[0]!
    // Small files, so that they come and go while they are copied.
    const setup = new DurableSetup({
      broker: broker!,
      name: `copy-${randomUUID()}`,
      stream: { 'spool.max.bytes': 8 << 20, producer: { 'buffer.memory': 4 << 20 } },
    })
    const load = new KeyedLoad({ stream: 'critical', keys: 16, eventsPerRequest: 10, eventBytes: 400 })
    const gateway = await setup.start()
    await gateway.ready()
    load.start(gateway.url)
    // How many of the load's accepted events are older than the copy: they stand in the order of their answers.
    const older: { path: string; accepted: number }[] = []
    for (let nth = 0; nth < copies; nth++) {
      const isAway = nth % 2 === 1
      if (isAway) process.kill(node.pid!, 'SIGSTOP')
      await pause(between(50, 300))
      const path = join(setup.folder, `copy-${nth}`)
      const accepted = load.as('accepted').length
      if (nth % 4 < 2) copyAsPeopleDo(setup.dataDir, path)
      else copyByFile(setup.dataDir, path)
      if (isAway) process.kill(node.pid!, 'SIGCONT')
      older.push({ path, accepted })
    }
    await load.stop()
    await untilDrained(gateway)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    const landed = await readTopic(broker!, setup.critical)
    const idsOf = (records: typeof landed) =>
      records.map(({ key, value }) => `${key}:${(JSON.parse(value.toString()) as { value: number }).value}`)
    const acknowledged = new Set(idsOf(landed))
    expect(landingOf(load, landed)).toMatchObject({ lost: [], ghosts: [], duplicates: [], reordered: [] })

    const inOrder = load.as('accepted')
    for (const [nth, { path, accepted }] of older.entries()) {
      const pending = pendingIn(path)
      const there = new Set(pending)
      expect(inOrder.slice(0, accepted).filter((id) => !there.has(id) && !acknowledged.has(id))).toEqual([])
      const copy = new DurableSetup({ broker: broker!, name: `copied-${randomUUID()}`, dataDir: path })
      // Most of them with Kafka away: it is the start that counts. Some go all the way.
      const started = await copy.start(nth % 5 === 0 ? {} : { KAFKA_BROKERS: '127.0.0.1:1' })
      const sums = await scrape(started)
      expect(sums.get('chute_records_recovered_total')).toBe(pending.length)
      if (nth % 5 === 0) {
        await untilDrained(started)
        const again = idsOf(await readTopic(broker!, copy.critical))
        expect(again.toSorted()).toEqual(pending.toSorted())
      }
      started.signal('SIGKILL')
      await started.ended()
      rmSync(path, { recursive: true })
    }
    process.stderr.write(
      `copies of the folder: ${JSON.stringify({ copies, accepted: load.as('accepted').length, lost: 0 })}\n`,
    )
  },
)

/** `cp -r`, which complains about files that went away under its hands. */
function copyAsPeopleDo(from: string, to: string): void {
  try {
    execFileSync('cp', ['-r', from, to], { stdio: 'ignore' })
  } catch {
    // The exit code is about those files.
  }
}

/** Copies one file after the other, and leaves out what went away meanwhile. `cpSync` would end there, with a part of the folder. */
function copyByFile(from: string, to: string): void {
  mkdirSync(to)
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) copyByFile(source, target)
    else copyUnlessGone(source, target)
  }
}

function copyUnlessGone(source: string, target: string): void {
  try {
    copyFileSync(source, target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
