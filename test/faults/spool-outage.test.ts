import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { DurableSetup, imbalanceOf, scrape } from '../support/durable-gateway.ts'
import { byForm, isFull, isLong } from '../support/forms.ts'
import { endOffsets, readTopic } from '../support/independent-reader.ts'
import { KeyedLoad, landingOf } from '../support/keyed-load.ts'
import type { ServedGateway } from '../support/served-gateway.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

const backlogBytes = byForm({ short: 12 << 20, full: 1 << 30 })
const eventBytes = byForm({ short: 1_000, full: 4_000 })
/** Memory of the process beside the stream's buffer: what a calm gateway has, and as much again. */
const bufferMemoryBytes = 16 << 20
const calmMs = byForm({ short: 2_000, full: 20_000 })

async function residentBytes({ url }: ServedGateway): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)![1])
}

/** The value that a hundredth of the numbers passes. */
function p99(numbers: readonly number[]): number {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length * 0.99)] ?? 0
}

/** Live traffic for a while: what the 202s took, and how many events a second there were. */
async function live(load: KeyedLoad, url: string, until: () => Promise<boolean>): Promise<[number, number]> {
  const [events, first, startedMs] = [load.as('accepted').length, load.latenciesMs.length, performance.now()]
  load.start(url, 10)
  while (!(await until())) await pause(100)
  await load.stop()
  const perSecond = (1_000 * (load.as('accepted').length - events)) / (performance.now() - startedMs)
  return [p99(load.latenciesMs.slice(first)), perSecond]
}

test.runIf(isLong)(
  `an outage with ${backlogBytes >> 20} MB of backlog: memory stays flat, new events are answered, all of it lands in order`,
  { timeout: isFull ? 1_800_000 : 180_000 },
  async () => {
    const [broker] = kafka.brokers
    const node = kafka.nodes[0]!
    const setup = new DurableSetup({
      broker: broker!,
      name: `outage-${randomUUID()}`,
      stream: { producer: { 'buffer.memory': bufferMemoryBytes } },
    })
    const gateway = await setup.start()
    await gateway.ready()
    let mostBytes = 0
    const look = async () => {
      mostBytes = Math.max(mostBytes, await residentBytes(gateway))
      const sums = await scrape(gateway)
      expect(imbalanceOf(sums)).toBe(0)
      return sums
    }
    const fresh = new KeyedLoad({ stream: 'critical', keys: 8, eventsPerRequest: 5, eventBytes: 300 })
    const calmEndsMs = performance.now() + calmMs
    const [calmP99, liveRate] = await live(fresh, gateway.url, async () => {
      // As while it drains: a scrape takes its time from the requests, too.
      await look()
      return performance.now() > calmEndsMs
    })
    const calmBytes = await residentBytes(gateway)

    process.kill(node.pid!, 'SIGSTOP')
    const backlog = new KeyedLoad({
      stream: 'critical',
      keys: 8,
      prefix: 'backlog',
      eventsPerRequest: 50,
      eventBytes,
    })
    backlog.start(gateway.url)
    while ((await look()).get('chute_spool_bytes')! < backlogBytes) await pause(100)
    await backlog.stop()
    expect(backlog.as('refused')).toEqual([])

    process.kill(node.pid!, 'SIGCONT')
    const before = (await look()).get('chute_spool_drained_total')!
    const drainingSinceMs = performance.now()
    let drained = 0
    const [busyP99] = await live(fresh, gateway.url, async () => {
      const sums = await look()
      drained = sums.get('chute_spool_drained_total')! - before
      // New events keep coming; the backlog is gone when no more than what is on its way is left.
      return sums.get('chute_spool_records')! < 500
    })
    const drainRate = (1_000 * drained) / (performance.now() - drainingSinceMs)
    while ((await look()).get('chute_spool_records')! > 0) await pause(50)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)

    const figures = {
      backlogMB: backlogBytes >> 20,
      records: backlog.as('accepted').length,
      calmP99Ms: Math.round(calmP99),
      drainingP99Ms: Math.round(busyP99),
      liveEventsPerSecond: Math.round(liveRate),
      drainedPerSecond: Math.round(drainRate),
      calmMB: calmBytes >> 20,
      mostMB: mostBytes >> 20,
    }
    process.stderr.write(`outage and recovery: ${JSON.stringify(figures)}\n`)
    expect(fresh.as('refused')).toEqual([])
    expect(mostBytes).toBeLessThan(2 * calmBytes + bufferMemoryBytes)
    expect(drainRate).toBeGreaterThan(liveRate / 2)
    // Where calm is a few milliseconds, twice of it is less than a sync of a disk from which a backlog is read, too.
    if (isFull) expect(busyP99).toBeLessThanOrEqual(Math.max(2 * calmP99, calmP99 + 25))
    const accepted = fresh.as('accepted').length + backlog.as('accepted').length
    const ends = await endOffsets(broker!, setup.critical)
    expect([...ends.values()].reduce((sum, end) => sum + end, 0)).toBe(accepted)
    if (isFull) return
    const records = await readTopic(broker!, setup.critical)
    for (const load of [fresh, backlog]) {
      const own = records.filter(({ key }) => key!.startsWith(load.prefix))
      expect(landingOf(load, own)).toMatchObject({ lost: [], ghosts: [], duplicates: [], reordered: [] })
    }
  },
)
