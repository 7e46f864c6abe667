import { readdirSync, statSync } from 'node:fs'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { IdentifiedBatch, ResumedBatch } from '../../../src/kafka/producer/batch-journal.ts'
import { realDisk, type Disk } from '../../../src/spool/disk.ts'
import { findJournal } from '../../../src/spool/find-sent.ts'
import { FakeInnerBatch, FakeInnerProducer } from '../../support/fake-inner-producer.ts'
import { FaultyDisk, randomOf } from '../../support/faulty-disk.ts'
import { SpoolFixture, type TestRecord } from '../../support/spool-fixture.ts'

/** So that some fifty batches fill a file of the journal. */
const headers = Buffer.alloc(20_000)

/**
 * A durable stream under load. As soon as a batch of a partition is acknowledged, the next one of the partition is noted, in the
 * same turn. So whenever a batch is noted, the ack files lack another one.
 */
class Load {
  readonly spool: SpoolFixture
  readonly records: TestRecord[]
  /** Batches that are sent, in order, by the value of their one record. */
  readonly sent: string[] = []
  /** Those of them that are acknowledged. */
  readonly settled: string[] = []
  isStopped = false
  readonly #valueOf = new Map<FakeInnerBatch, string>()
  #sequence = 0

  constructor(count: number, options: { disk?: Partial<Disk>; partitions?: number } = {}) {
    const inner = new FakeInnerProducer({ batchRecords: 1 })
    this.spool = new SpoolFixture({ inner, ...(options.disk !== undefined && { disk: options.disk }) })
    const partitions = options.partitions ?? 1
    this.records = Array.from({ length: count }, (_, nth) => ({
      key: 'k'.repeat(1 + (nth % partitions)),
      value: String(nth),
    }))
  }

  /** Runs until all is sent, or {@link isStopped}. */
  async run(): Promise<void> {
    const { inner } = this.spool
    await this.spool.request(this.records)
    inner.batches.forEach((batch, nth) => this.#valueOf.set(batch, inner.values[nth]!))
    const all = inner.batches.slice()
    const partitions = [...new Set(all.map(({ partition }) => partition))]
    const of = (wanted: number) => all.filter(({ partition }) => partition === wanted)
    await Promise.all(partitions.map(async (partition) => await this.#runPartition(of(partition))))
  }

  async #runPartition(batches: readonly FakeInnerBatch[]): Promise<void> {
    const { inner } = this.spool
    for (const batch of batches) {
      await new Promise<void>((done) => inner.journal!.note(1, [this.#identified(batch)], done))
      if (this.isStopped) return
      this.sent.push(this.#valueOf.get(batch)!)
      // The way to the broker and back: the acks before are written meanwhile.
      for (let turn = 0; turn < 12; turn++) await nextTurn()
      if (this.isStopped) return
      this.settled.push(this.#valueOf.get(batch)!)
      inner.settle(batch)
      // Settlements are told in microtasks.
      await Promise.resolve()
    }
  }

  #identified(batch: FakeInnerBatch): IdentifiedBatch {
    return {
      partition: batch.partition,
      producerId: 7n,
      epoch: 0,
      baseSequence: this.#sequence++,
      recordCount: 1,
      uncompressedBytes: 100,
      baseTimestampMs: Date.now(),
      maxTimestampMs: Date.now(),
      firstHeaders: headers,
      onSettled: (listener) => batch.onSettled(listener),
      whole: batch,
      firstPlace: 0,
    }
  }
}

/** The next process. @returns the values that it sends as they were noted, and those that it sends as new ones. */
async function nextLife(from: {
  disk?: FaultyDisk
  folder?: string
}): Promise<{ resumed: string[]; appended: string[] }> {
  const resumed: string[] = []
  const inner = new FakeInnerProducer()
  Object.assign(inner, {
    resume(noted: ResumedBatch) {
      resumed.push(...noted.records.map(({ value }) => value.toString()))
      const batch = new FakeInnerBatch(noted.partition)
      batch.recordCount = noted.recordCount
      return batch
    },
  })
  const spool = new SpoolFixture({ inner, ...from })
  const { stats } = spool.producer
  expect(stats.possiblyRepeated).toBe(0)
  for (let turn = 0; turn < 200 || resumed.length + inner.values.length < stats.recovered; turn++) {
    if (turn > 1_000) break
    await nextTurn()
  }
  spool.producer.abort()
  return { resumed, appended: inner.values }
}

test('a saturated stream goes on in new files of its journal, and a start reads no more than one of them', async () => {
  // The batches of the test come faster than any disk syncs.
  const load = new Load(400, { disk: { sync: (_fd, done) => void setImmediate(done, null) } })
  const { folder } = load.spool
  let largestBytes = 0
  const running = load.run().then(() => (load.isStopped = true))
  while (!load.isStopped) {
    await pause(1)
    for (const name of readdirSync(folder)) {
      const stat = name.endsWith('.sent') ? statSync(`${folder}/${name}`, { throwIfNoEntry: false }) : null
      largestBytes = Math.max(largestBytes, stat?.size ?? 0)
    }
  }
  await running
  // 400 batches have eight times the size of a file.
  expect(load.settled).toHaveLength(400)
  expect(largestBytes).toBeLessThan(2 << 20)
  const { nextNumber, batches } = findJournal(folder, realDisk, load.spool.logs)
  expect(nextNumber).toBeGreaterThan(5)
  expect(batches.length).toBeLessThan(100)
})

test('a gateway that is killed while its journal goes on in a new file sends no record twice, and loses none', async () => {
  let kills = 0
  for (let seed = 0; seed < 60; seed++) {
    const random = randomOf(seed)
    const disk = new FaultyDisk(random)
    const load = new Load(90, { disk, partitions: 3 })
    void load.run()
    const rolls = (): boolean => disk.created.filter((name) => name.endsWith('.sent')).length === 2
    // At any turn from a while before the new file on.
    await load.spool.until(() => load.sent.length > 45)
    if (random() < 0.7) while (!rolls() && load.settled.length < 90) await nextTurn()
    for (let turn = Math.floor(random() * 40); turn > 0; turn--) await nextTurn()
    load.isStopped = true
    const [sent, settled] = [load.sent.slice(), new Set(load.settled)]
    const after = disk.kill()
    load.spool.producer.abort()
    if (rolls()) kills++
    const { resumed, appended } = await nextLife({ disk: after })
    expect(
      appended.filter((value) => sent.includes(value)),
      `seed ${seed}`,
    ).toEqual([])
    const unsettled = load.records.map(({ value }) => value).filter((value) => !settled.has(value))
    const goes = new Set([...resumed, ...appended])
    expect(
      unsettled.filter((value) => !goes.has(value)),
      `seed ${seed}`,
    ).toEqual([])
  }
  expect(kills).toBeGreaterThan(20)
})

test('once the old file of the journal is gone, a power cut brings back no record that only the old file knew to be done', async () => {
  for (let seed = 0; seed < 10; seed++) {
    const disk = new FaultyDisk(randomOf(seed))
    const load = new Load(90, { disk, partitions: 3 })
    void load.run()
    const journals = (): string[] => disk.names.filter((name) => name.endsWith('.sent'))
    await load.spool.until(() => journals().length === 1)
    const [first] = journals()
    let settled: string[] = []
    while (journals().includes(first!) && load.settled.length < 90) {
      if (journals().length === 1) settled = load.settled.slice()
      await nextTurn()
    }
    expect(journals()).not.toContain(first)
    load.isStopped = true
    const after = disk.cutPower()
    load.spool.producer.abort()
    const { appended } = await nextLife({ disk: after })
    // One batch a partition may have been acknowledged while the new file was begun.
    const known = settled.slice(0, -3)
    expect(known.length).toBeGreaterThan(40)
    expect(
      appended.filter((value) => known.includes(value)),
      `seed ${seed}`,
    ).toEqual([])
  }
})
