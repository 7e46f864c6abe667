import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, onTestFinished, test } from 'vitest'
import type { IdentifiedBatch } from '../../../src/kafka/producer/batch-journal.ts'
import { chargeOf } from '../../../src/kafka/producer/producer.ts'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'
import { realDisk, type Disk } from '../../../src/spool/disk.ts'
import { findJournal } from '../../../src/spool/find-sent.ts'
import { FakeInnerProducer, type FakeInnerBatch } from '../../support/fake-inner-producer.ts'
import { numbered, SpoolFixture } from '../../support/spool-fixture.ts'

const filesOf = (folder: string, ending = '.log') =>
  readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .toSorted()

const values = (count: number, from = 0) => numbered(count, from).map(({ value }) => value)

test('a record goes to Kafka only when it is on disk', async () => {
  let release = (): void => {}
  const sync: Disk['sync'] = (fd, done) => {
    release = () => realDisk.sync(fd, done)
  }
  const spool = new SpoolFixture({ disk: { sync } })
  let answer: string | null | undefined
  spool.submit(numbered(3), (failure) => {
    answer = failure
  })
  // The name of the new file, then its bytes.
  for (let step = 0; step < 2; step++) {
    const before = release
    await spool.until(() => release !== before)
    expect(answer).toBeUndefined()
    expect(spool.inner.records).toEqual([])
    expect(spool.producer.stats).toMatchObject({ accepted: 0, spooled: 0 })
    release()
  }
  await spool.until(() => answer !== undefined)
  expect(answer).toBeNull()
  expect(spool.inner.values).toEqual(values(3))
  expect(spool.producer.stats).toMatchObject({ accepted: 3, spooled: 0, buffered: 3 })
})

test('requests of one turn, and those that come while the disk is busy, share a sync', async () => {
  let syncs = 0
  const sync: Disk['sync'] = (fd, done) => {
    syncs++
    realDisk.sync(fd, done)
  }
  const spool = new SpoolFixture({ disk: { sync } })
  await Promise.all(Array.from({ length: 200 }, async (_, nth) => await spool.request(numbered(1, nth))))
  // One for the name of the file, one for what it holds.
  expect(syncs).toBe(2)
  expect(spool.inner.values).toEqual(values(200))
})

test('a large request goes to Kafka a part a turn, in order, and what comes behind it waits', async () => {
  const spool = new SpoolFixture()
  const [large, behind] = [numbered(3_000), numbered(2, 3_000)]
  let fedAtCommit = Infinity
  const committed = Promise.all([
    new Promise((resolve) => {
      const ended = (failure: string | null): void => {
        fedAtCommit = spool.inner.values.length
        resolve(failure)
      }
      spool.submit(large, ended, 'a key', () => {})
    }),
    new Promise((resolve) => spool.submit(behind, resolve)),
  ])
  expect(await committed).toEqual([null, null])
  // The turn of the commit fed none of them.
  expect(fedAtCommit).toBe(0)
  await spool.until(() => spool.inner.values.length === 3_002)
  expect(spool.inner.values).toEqual([...large, ...behind].map(({ value }) => value))
  expect(spool.imbalance).toBe(0)
})

test('the end waits for a large request that has not appended its last record', async () => {
  const spool = new SpoolFixture()
  const { producer } = spool
  const record = RecordBytes.of(Buffer.from('"a"'), null, Date.now())
  expect(producer.reserve(2 * chargeOf(record, producer.headerBytes))).toBe(true)
  const commit = producer.begin()
  commit.append(record)
  const closed = producer.close(performance.now() + 5_000)
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  commit.append(record)
  expect(await new Promise((resolve) => commit.commit({ committed: resolve }))).toBeNull()
  expect(await closed).toBe(true)
  expect(new SpoolFixture({ folder: spool.copy() }).producer.stats.recovered).toBe(2)
})

test('fsync: off syncs nothing', async () => {
  const sync: Disk['sync'] = () => {
    throw new Error('there was a sync')
  }
  const spool = new SpoolFixture({ fsync: false, disk: { sync } })
  expect(await spool.request(numbered(2))).toBeNull()
  expect(new SpoolFixture({ folder: spool.copy() }).producer.stats.recovered).toBe(2)
})

test('what was accepted before a crash goes first, in order; what was acknowledged does not go again', async () => {
  const inner = new FakeInnerProducer({ batchRecords: 4 })
  const before = new SpoolFixture({ inner })
  await before.request(numbered(10))
  inner.settle(inner.batches[1]!)
  await before.until(() => filesOf(before.folder, '.ack').length === 1)
  await before.until(() => readFileSync(join(before.folder, filesOf(before.folder, '.ack')[0]!)).length > 0)

  const after = new SpoolFixture({ folder: before.copy() })
  expect(after.producer.stats).toMatchObject({ recovered: 6, spooled: 6, accepted: 0 })
  expect(await after.request(numbered(2, 100))).toBeNull()
  await after.until(() => after.inner.records.length === 8)
  expect(after.inner.values).toEqual(['0', '1', '2', '3', '8', '9', '100', '101'])
  expect(after.producer.stats).toMatchObject({ recovered: 6, spooled: 0, accepted: 2, buffered: 8 })
  expect(after.imbalance).toBe(0)
})

test.each([
  ['a write that the disk takes in part', 'write'],
  ['a sync that fails', 'sync'],
] as const)('%s refuses the request, and leaves nothing of it', async (_name, step) => {
  let isBroken = false
  const error = Object.assign(new Error('no'), { code: step === 'write' ? 'ENOSPC' : 'EIO' })
  const spool = new SpoolFixture({
    disk: {
      write(fd, buffers, position, done) {
        if (!isBroken || step === 'sync') return realDisk.write(fd, buffers, position, done)
        realDisk.write(fd, [buffers[0]!.subarray(0, 30)], position, () => done(error, 0))
      },
      sync(fd, done) {
        if (isBroken && step === 'sync') done(error)
        else realDisk.sync(fd, done)
      },
    },
  })
  expect(await spool.request(numbered(3))).toBeNull()
  isBroken = true
  expect(await spool.request(numbered(3, 100))).toBe(error.code)
  // For a moment nothing is risked.
  expect(await spool.request(numbered(3, 200))).toBe('spool_unavailable')
  expect(spool.producer.stats).toMatchObject({
    accepted: 3,
    available: false,
    spool: { available: false, writeFailures: 1 },
  })
  expect(spool.inner.bufferAvailableBytes).toBeGreaterThan((1 << 20) - 400)
  isBroken = false
  await spool.until(() => spool.producer.admission === 'open')
  expect(spool.producer.stats.available).toBe(true)
  expect(await spool.request(numbered(3, 300))).toBeNull()
  expect(spool.inner.values).toEqual([...values(3), ...values(3, 300)])
  const after = new SpoolFixture({ folder: spool.copy() })
  await after.until(() => after.inner.records.length === 6)
  expect(after.inner.values).toEqual([...values(3), ...values(3, 300)])
  expect(spool.imbalance).toBe(0)
})

test('with Kafka away the disk takes what half of the buffer does not, and it comes back in order', async () => {
  const inner = new FakeInnerProducer({ bufferMemoryBytes: 20_000 })
  const spool = new SpoolFixture({ inner })
  for (let from = 0; from < 1_000; from += 50) {
    expect(await spool.request(numbered(50, from))).toBeNull()
    expect(spool.imbalance).toBe(0)
  }
  const { spooled, buffered, spool: stats } = spool.producer.stats
  expect(spooled + buffered).toBe(1_000)
  expect(spooled).toBeGreaterThan(850)
  expect(stats!.records).toBe(1_000)
  expect(stats!.oldestAgeSeconds).toBeGreaterThan(0)
  // New requests are answered while the backlog drains, and go behind it.
  let from = 1_000
  while (inner.records.length < 2_000) {
    if (from < 2_000) expect(await spool.request(numbered(50, from))).toBeNull()
    from += 50
    inner.settleAll()
    await new Promise((resolve) => setImmediate(resolve))
    expect(spool.imbalance).toBe(0)
  }
  inner.settleAll()
  expect(inner.values).toEqual(values(2_000))
  await spool.until(() => spool.producer.stats.spool!.records === 0)
  expect(spool.producer.stats).toMatchObject({ accepted: 2_000, acked: 2_000, spooled: 0 })
  expect(spool.producer.stats.spool).toMatchObject({ drained: 2_000, oldestAgeSeconds: 0 })
})

test('the disk has a limit; room comes with what Kafka has acknowledged', async () => {
  const inner = new FakeInnerProducer({ bufferMemoryBytes: 4_000 })
  const spool = new SpoolFixture({ inner, maxBytes: 16_000 })
  let accepted = 0
  while ((await spool.request(numbered(10, accepted))) === null) accepted += 10
  expect(accepted).toBeGreaterThan(200)
  expect(spool.producer.stats.spool!.bytes).toBeLessThanOrEqual(16_000)
  expect(await spool.request(numbered(10))).toBe('full')
  inner.isConnected = false
  expect(spool.producer.isFullAndStuck).toBe(true)
  while (inner.records.length < accepted) {
    inner.settleAll()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await spool.until(() => spool.producer.stats.spool!.bytes < 15_000)
  expect(await spool.request(numbered(10, accepted))).toBeNull()
  expect(spool.producer.isFullAndStuck).toBe(false)
})

/** What a process has left that Kafka took nothing of: a folder with one file, of so many groups of three records. */
async function leftBehind(groups: number): Promise<{ folder: string; name: string; bytes: Buffer }> {
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  const before = new SpoolFixture({ inner })
  for (let from = 0; from < 3 * groups; from += 3) await before.request(numbered(3, from))
  const folder = before.copy()
  const name = filesOf(folder)[0]!
  return { folder, name, bytes: readFileSync(join(folder, name)) }
}

test('damage costs the records that it hit, which are counted and named; the file is kept', async () => {
  const { folder, name, bytes } = await leftBehind(5)
  const group = bytes.length / 5
  bytes[Math.floor(group * 1.5)]! ^= 0xff
  bytes[Math.floor(group * 3.2)]! ^= 0xff
  writeFileSync(join(folder, name), bytes)

  const after = new SpoolFixture({ folder })
  expect(after.producer.stats.recovered).toBe(15)
  expect(await after.request(numbered(1, 100))).toBeNull()
  await after.until(() => after.inner.records.length === 10)
  expect(after.inner.values).toEqual(['0', '1', '2', '6', '7', '8', '12', '13', '14', '100'])
  expect(after.producer.stats.dropped.spool_damaged).toBe(6)
  expect(after.imbalance).toBe(0)
  after.inner.settleAll()
  await after.until(() => filesOf(folder, '.damaged').length === 1)
  expect(readFileSync(join(folder, `${name}.damaged`))).toEqual(bytes)
})

test('a damaged file is kept, however many processes it takes to send the rest of it', async () => {
  const { folder, name, bytes } = await leftBehind(3)
  bytes[Math.floor(bytes.length / 2)]! ^= 0xff
  writeFileSync(join(folder, name), bytes)

  const second = new SpoolFixture({ folder, inner: new FakeInnerProducer({ batchRecords: 3 }) })
  await second.until(() => second.inner.records.length === 6)
  second.inner.settle(second.inner.batches[0]!)
  await second.producer.close(performance.now() + 5_000)
  expect(second.producer.stats.dropped.spool_damaged).toBe(3)
  // This one finds nothing damaged by itself: what was lost is done.
  const third = new SpoolFixture({ folder, inner: new FakeInnerProducer() })
  expect(third.producer.stats.recovered).toBe(3)
  await third.until(() => third.inner.records.length === 3)
  await third.producer.close(performance.now() + 5_000)
  expect(third.producer.stats.dropped.spool_damaged).toBe(0)

  const last = new SpoolFixture({ folder })
  await last.until(() => last.inner.records.length === 3)
  last.inner.settleAll()
  await last.until(() => filesOf(folder).length === 0)
  expect(readFileSync(join(folder, `${name}.damaged`))).toEqual(bytes)
})

test('a copy of a file with zeros for what could not be read, and behind its end, costs no more than these', async () => {
  const { folder, name, bytes } = await leftBehind(40)
  // As `dd conv=noerror,sync` makes it.
  const copy = Buffer.alloc(Math.ceil(bytes.length / 512) * 512)
  bytes.copy(copy)
  copy.fill(0, 1_024, 1_536)
  writeFileSync(join(folder, name), copy)

  const after = new SpoolFixture({ folder })
  expect(await after.request(numbered(1, 120))).toBeNull()
  await after.until(() => after.inner.values.includes('120'))
  const { dropped } = after.producer.stats
  expect(dropped.spool_damaged).toBe(121 - after.inner.records.length)
  expect(dropped.spool_damaged).toBeGreaterThan(0)
  expect(dropped.spool_damaged).toBeLessThanOrEqual(3 * (Math.ceil(512 / (bytes.length / 40)) + 1))
  expect(after.inner.values).toEqual(after.inner.values.toSorted((a, b) => Number(a) - Number(b)))
  after.inner.settleAll()
  await after.until(() => filesOf(folder, '.damaged').length === 1)
})

test('a record that the buffer has no room for any more does not hold up the others', async () => {
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  const before = new SpoolFixture({ inner })
  await before.request([...numbered(1), { key: null, value: 'x'.repeat(5_000) }, ...numbered(1, 1)])
  const small = new FakeInnerProducer({ bufferMemoryBytes: 4_000 })
  const after = new SpoolFixture({ folder: before.copy(), inner: small })
  await after.until(() => small.records.length === 2)
  expect(small.values).toEqual(['0', '1'])
  expect(after.producer.stats.dropped.message_too_large).toBe(1)
  expect(after.imbalance).toBe(0)
})

test('a file goes after those before it, so that a start counts right what is left', async () => {
  const inner = new FakeInnerProducer({ batchRecords: 1_000 })
  const before = new SpoolFixture({ inner, maxBytes: 16_000 })
  // The oldest record waits for a partition that stands still; others fill some files.
  await before.request([{ key: 'k', value: 'first' }])
  for (let from = 0; from < 600; from += 50) {
    await before.request(numbered(50, from))
    for (const batch of inner.batches.filter(({ partition }) => partition === 0)) inner.settle(batch)
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(filesOf(before.folder).length).toBeGreaterThan(2)
  await before.until(() => before.producer.stats.spool!.records === 1)
  await before.producer.close(performance.now() + 5_000)
  const after = new SpoolFixture({ folder: before.folder })
  expect(after.producer.stats.recovered).toBe(1)
  await after.until(() => after.inner.records.length === 1)
  expect(after.inner.values).toEqual(['first'])
  after.inner.settleAll()
  await after.until(() => after.producer.stats.spool!.bytes === 0)
  expect(after.producer.stats.dropped.spool_damaged).toBe(0)
})

test('done files behind a record that is stuck count against the limit, and go with it', async () => {
  const maxBytes = 64_000
  const spool = new SpoolFixture({ maxBytes })
  const { inner, producer, folder } = spool
  const sizeOf = (ending: string): number =>
    filesOf(folder, ending).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
  const settleOthers = (): void => {
    for (const batch of inner.batches.filter(({ partition }) => partition === 0)) inner.settle(batch)
  }
  // A key of one letter is of partition 1, which stands still.
  await spool.request([{ key: 'k', value: 'stuck' }])
  let accepted = 1
  while ((await spool.request(numbered(50, accepted))) === null) {
    accepted += 50
    await spool.until(() => inner.records.length === accepted)
    settleOthers()
  }
  await spool.until(() => producer.stats.spool!.records === 1)
  const files = filesOf(folder)
  expect(files.length).toBeGreaterThan(4)
  // Seven eighths at least: full is full, however little of it is not done.
  expect(producer.stats.spool!.bytes).toBeGreaterThan((maxBytes * 7) / 8)
  expect(producer.stats.spool!.bytes).toBeLessThanOrEqual(maxBytes)
  expect(sizeOf('.log')).toBe(producer.stats.spool!.bytes)
  expect(sizeOf('.ack')).toBeLessThan(sizeOf('.log'))

  inner.settleAll()
  await spool.until(() => filesOf(folder).length <= 1)
  expect(await spool.request(numbered(50, accepted))).toBeNull()
  expect(spool.imbalance).toBe(0)
})

test('who waits hears of its record, fed from memory or from disk', async () => {
  const inner = new FakeInnerProducer()
  const spool = new SpoolFixture({ inner })
  const heard: string[] = []
  const listen = (from: number) => {
    const [first, second] = spool.submit(numbered(2, from), () => {})
    first!.onSettled(({ outcome }) => heard.push(`${from} ${outcome}`))
    if (from === 2) second!.hurry()
    second!.onSettled(({ outcome, reason }) => heard.push(`${from + 1} ${outcome} ${String(reason)}`))
  }
  listen(0)
  await spool.until(() => inner.records.length === 2)
  expect(inner.batches[0]!.isAwaited).toBe(false)
  inner.settle(inner.batches[0]!)
  inner.admission = 'not_known_yet'
  listen(2)
  await spool.until(() => spool.producer.stats.spooled === 2)
  inner.admission = 'open'
  await spool.until(() => inner.records.length === 4)
  expect(inner.batches[0]!.isAwaited).toBe(true)
  inner.settle(inner.batches[0]!, 'dropped', 'broker_rejected')
  await spool.until(() => heard.length === 4)
  expect(heard).toEqual(['0 acked', '1 acked null', '2 dropped', '3 dropped broker_rejected'])
})

test('who waits behind a backlog holds the record, and not the bytes of its group', async () => {
  // The buffers of groups are the only ones of this size.
  const allocUnsafeSlow = Buffer.allocUnsafeSlow.bind(Buffer)
  const buffers: WeakRef<Buffer>[] = []
  Buffer.allocUnsafeSlow = (sizeBytes) => {
    const buffer = allocUnsafeSlow(sizeBytes)
    if (sizeBytes === 16 * 1024) buffers.push(new WeakRef(buffer))
    return buffer
  }
  onTestFinished(() => void (Buffer.allocUnsafeSlow = allocUnsafeSlow))
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  const spool = new SpoolFixture({ inner, fsync: false })
  let heard = 0
  for (let nth = 0; nth < 50; nth++) {
    await new Promise((resolve) => {
      for (const record of spool.submit(numbered(1, nth), resolve)) record.onSettled(() => heard++)
    })
  }
  expect(buffers.length).toBeGreaterThanOrEqual(50)
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const left = (): number => buffers.filter((buffer) => buffer.deref() !== undefined).length
  // The turn in which a reference was read keeps its buffer.
  for (let round = 0; round < 10 && left() > 2; round++) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(left()).toBeLessThanOrEqual(2)
  inner.admission = 'open'
  await spool.until(() => inner.records.length === 50)
  inner.settleAll()
  await spool.until(() => heard === 50)
})

test('who waits for a record that the disk has lost hears that it is lost', async () => {
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  const spool = new SpoolFixture({ inner, fsync: false })
  const heard: unknown[] = []
  const submit = async (from: number) =>
    await new Promise((resolve) => {
      for (const record of spool.submit(numbered(3, from), resolve))
        record.onSettled(({ outcome, reason }) => heard.push([outcome, reason]))
    })
  // The first group is read at once, and waits in memory.
  await submit(0)
  const file = join(spool.folder, filesOf(spool.folder)[0]!)
  const from = readFileSync(file).length
  await submit(3)
  const to = readFileSync(file).length
  await submit(6)
  const bytes = readFileSync(file)
  bytes[Math.floor((from + to) / 2)]! ^= 0xff
  writeFileSync(file, bytes)
  inner.admission = 'open'
  await spool.until(() => heard.length === 3 && inner.records.length === 6)
  expect(heard).toEqual(Array.from({ length: 3 }, () => ['dropped', 'spool_damaged']))
  expect(inner.values).toEqual(['0', '1', '2', '6', '7', '8'])
})

test('damage at the end of the newest file costs nothing that is committed while the reader looks behind it', async () => {
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  let reads = 0
  const held: (() => void)[] = []
  const read: Disk['read'] = (...args) => {
    // The first group is read while it is the only one. The next read finds the damage, and the one after that looks behind it.
    if (++reads === 3) held.push(() => realDisk.read(...args))
    else realDisk.read(...args)
  }
  const spool = new SpoolFixture({ inner, disk: { read } })
  await spool.request(numbered(3))
  await spool.until(() => reads === 1)
  const file = join(spool.folder, filesOf(spool.folder)[0]!)
  const from = readFileSync(file).length
  await spool.request(numbered(3, 3))
  const bytes = readFileSync(file)
  bytes[Math.floor((from + bytes.length) / 2)]! ^= 0xff
  writeFileSync(file, bytes)
  inner.admission = 'open'
  await spool.until(() => held.length === 1)
  expect(await spool.request(numbered(3, 6))).toBeNull()
  held[0]!()
  await spool.until(() => spool.producer.stats.spool!.records === inner.records.length)
  expect(inner.values).toEqual(['0', '1', '2', '6', '7', '8'])
  expect(spool.producer.stats.dropped.spool_damaged).toBe(3)
  expect(spool.imbalance).toBe(0)
})

test('the end waits for the disk and not for Kafka, and counts what stays', async () => {
  const spool = new SpoolFixture({ inner: new FakeInnerProducer({ batchRecords: 4 }) })
  await spool.request(numbered(10))
  spool.inner.settle(spool.inner.batches[0]!)
  let answer: string | null | undefined
  spool.submit(numbered(5, 10), (failure) => {
    answer = failure
  })
  expect(await spool.producer.close(performance.now() + 5_000)).toBe(true)
  expect(answer).toBeNull()
  expect(spool.producer.admission).toBe('closing')
  expect(spool.producer.stats).toMatchObject({ accepted: 15, acked: 4, spooled: 11, buffered: 0 })
  expect(spool.producer.stats.dropped.shutdown).toBe(0)
  expect(spool.imbalance).toBe(0)
  const after = new SpoolFixture({ folder: spool.folder })
  expect(after.producer.stats).toMatchObject({ recovered: 11, spooled: 11 })
})

test.each([
  ['was in flight', { outcome: 'suspected_lost', reason: null, isFed: true }],
  ['was in the buffer', { outcome: 'dropped', reason: 'shutdown', isFed: true }],
  ['was only on disk', { outcome: 'dropped', reason: 'shutdown', isFed: false }],
] as const)('at the end, who waits for a record that %s hears that it is pending', async (_, end) => {
  const inner = new FakeInnerProducer()
  const spool = new SpoolFixture({ inner })
  const heard: unknown[] = []
  const waits = async (count: number): Promise<void> => {
    await new Promise((resolve) => {
      const [first] = spool.submit(numbered(1, count), resolve)
      first!.onSettled(({ outcome, reason }) => heard.push([outcome, reason]))
    })
  }
  if (!end.isFed) inner.admission = 'not_known_yet'
  await waits(0)
  inner.close = async () => {
    for (const batch of inner.batches.slice()) inner.settle(batch, end.outcome, end.reason)
    return await Promise.resolve(false)
  }
  expect(await spool.producer.close(performance.now() + 5_000)).toBe(true)
  expect(heard).toEqual([['pending', null]])
  expect(spool.producer.stats).toMatchObject({ accepted: 1, spooled: 1, suspectedLost: 0 })
  expect(new SpoolFixture({ folder: spool.folder }).producer.stats.recovered).toBe(1)
})

test('an end amid a group that the disk neither takes nor removes leaves the rest of the disk alone', async () => {
  const refused = Object.assign(new Error('no'), { code: 'EIO' })
  const used: (number | null)[] = []
  let isFailing = false
  let endHeld: (() => void) | null = null
  const disk: Partial<Disk> = {
    write(fd, buffers, position, done) {
      used.push(fd)
      if (isFailing) setImmediate(done, refused, 0)
      else realDisk.write(fd, buffers, position, done)
    },
    truncate(fd, sizeBytes, done) {
      used.push(fd)
      if (isFailing) endHeld = () => done(refused)
      else realDisk.truncate(fd, sizeBytes, done)
    },
    create(path, done) {
      if (isFailing) setImmediate(done, refused, -1)
      else realDisk.create(path, done)
    },
  }
  const spool = new SpoolFixture({ disk })
  expect(await spool.request(numbered(1))).toBeNull()
  const [fd] = used
  isFailing = true
  void spool.request(numbered(1, 1))
  await spool.until(() => endHeld !== null)
  await spool.producer.close(performance.now() + 10)
  // The attempt to remove what was written in part fails after the end, and so the next attempt comes.
  const before = used.length
  endHeld!()
  await spool.until(() => used.length > before + 1)
  expect(new Set(used)).toEqual(new Set([fd]))
})

/** A disk that takes nothing while it fails, and that tells when it has refused to remove what a failed write left. */
function refusingDisk() {
  const state = { isFailing: false, refusals: 0 }
  const refused = Object.assign(new Error('no'), { code: 'ENOSPC' })
  const disk: Partial<Disk> = {
    write(fd, buffers, position, done) {
      if (state.isFailing) setImmediate(done, refused, 0)
      else realDisk.write(fd, buffers, position, done)
    },
    truncate(fd, sizeBytes, done) {
      if (state.isFailing) setImmediate(done, refused)
      else realDisk.truncate(fd, sizeBytes, done)
    },
    create(path, done) {
      if (!state.isFailing) return realDisk.create(path, done)
      state.refusals++
      setImmediate(done, refused, -1)
    },
  }
  return { state, disk }
}

test('at its end a spool removes what a full disk kept at once, so that the request gets its reply before the end', async () => {
  const { state, disk } = refusingDisk()
  const spool = new SpoolFixture({ disk, fsync: false })
  expect(await spool.request(numbered(1))).toBeNull()
  state.isFailing = true
  const answers: unknown[] = []
  spool.submit(numbered(1, 1), (...answer) => answers.push(answer))
  await spool.until(() => state.refusals > 0)
  state.isFailing = false
  // The limit is below the pause between two attempts.
  expect(await spool.producer.close(performance.now() + 200)).toBe(true)
  expect(answers).toEqual([['ENOSPC', false]])
})

test('where the disk removes nothing to the end, the request is told before the end that its own end is not known', async () => {
  const { state, disk } = refusingDisk()
  const spool = new SpoolFixture({ disk })
  expect(await spool.request(numbered(1))).toBeNull()
  state.isFailing = true
  const answers: unknown[] = []
  spool.submit(numbered(1, 1), (...answer) => answers.push(answer))
  await spool.until(() => state.refusals > 0)
  // Four attempts with the usual pauses take longer.
  await spool.producer.close(performance.now() + 600)
  expect(answers).toEqual([['ENOSPC', true]])
})

test('a disk that takes and removes nothing, under records that are all in Kafka, is tried again, and its file stays open', async () => {
  const { state, disk } = refusingDisk()
  const truncated: (number | null)[] = []
  const truncate: Disk['truncate'] = (fd, sizeBytes, done) => {
    truncated.push(fd)
    disk.truncate!(fd, sizeBytes, done)
  }
  const spool = new SpoolFixture({ disk: { ...disk, truncate } })
  expect(await spool.request(numbered(1))).toBeNull()
  state.isFailing = true
  const answers: unknown[] = []
  spool.submit(numbered(1, 1), (...answer) => answers.push(answer))
  await spool.until(() => answers.length > 0)
  expect(answers).toEqual([['ENOSPC', true]])
  let isDecided = false
  spool.producer.whenDecided(() => (isDecided = true))
  spool.inner.settleAll()
  const refusals = state.refusals
  // Each second there is another try.
  await expect.poll(() => state.refusals, { timeout: 6_000 }).toBeGreaterThan(refusals + 2)
  expect(truncated).not.toContain(null)
  expect(isDecided).toBe(false)
  state.isFailing = false
  await expect.poll(() => isDecided, { timeout: 4_000 }).toBe(true)
  await expect.poll(async () => await spool.request(numbered(1, 2)), { timeout: 4_000 }).toBeNull()
}, 15_000)

test('a spool that is done takes no room', async () => {
  const spool = new SpoolFixture()
  await spool.request(numbered(10))
  spool.inner.settleAll()
  await spool.until(() => spool.producer.stats.spool!.bytes === 0)
  expect(readdirSync(spool.folder)).toEqual([])
  expect(await spool.request(numbered(1))).toBeNull()
})

test.each(['create', 'write', 'sync', 'open', 'remove', 'close'] as const)(
  'the end comes in time where a %s of the disk does not end before it',
  async (step) => {
    const isHanging = { now: false }
    const held: ((error: Error, result: number) => void)[] = []
    const hang: Partial<Disk> = {
      [step]: (...args: unknown[]) => {
        if (isHanging.now) held.push(args.at(-1) as (typeof held)[number])
        else (realDisk[step] as (...of: unknown[]) => void)(...args)
      },
    }
    const spool = new SpoolFixture({ disk: hang })
    expect(await spool.request(numbered(3))).toBeNull()
    isHanging.now = true
    let answer: string | null | undefined
    spool.submit(numbered(3, 10), (failure) => {
      answer = failure
    })
    spool.inner.settleAll()
    await new Promise((resolve) => setTimeout(resolve, 20))
    const startedMs = performance.now()
    await spool.producer.close(startedMs + 300)
    expect(performance.now() - startedMs).toBeLessThan(2_000)
    expect(spool.imbalance).toBe(0)
    if (step === 'write' || step === 'sync') expect(answer).toBeUndefined()
    // A call that ends after the end harms nothing.
    isHanging.now = false
    for (const done of held.splice(0)) done(Object.assign(new Error('late'), { code: 'EIO' }), 0)
    await spool.until(() => answer !== undefined)
    if (step === 'write' || step === 'sync') expect(answer).toBe('EIO')
  },
)

test('a batch that shutdown gives up stays in the journal, also in a file that is begun at that moment', async () => {
  let held: (() => void) | null = null
  let isHeld = false
  const fixture = new SpoolFixture({
    disk: {
      create: (path, done) => {
        if (isHeld && path.endsWith('.sent')) held = () => realDisk.create(path, done)
        else realDisk.create(path, done)
      },
    },
  })
  const { inner, producer, folder } = fixture
  await fixture.request([...numbered(3), ...numbered(1, 3, 'k')])
  const [givenUp, other] = inner.batches as [FakeInnerBatch, FakeInnerBatch]
  const identified = (batch: FakeInnerBatch, firstHeaders: Buffer | null): IdentifiedBatch => ({
    partition: batch.partition,
    producerId: 7n,
    epoch: 0,
    baseSequence: 0,
    recordCount: batch.recordCount,
    uncompressedBytes: 100,
    baseTimestampMs: Date.now(),
    maxTimestampMs: Date.now(),
    firstHeaders,
    onSettled: (listener) => batch.onSettled(listener),
    whole: batch,
    firstPlace: 0,
  })
  const note = async (batch: FakeInnerBatch, headers: Buffer | null): Promise<void> =>
    await new Promise((resolve) => inner.journal!.note(1, [identified(batch, headers)], resolve))
  await note(givenUp, null)
  // Until the next note begins a new file.
  for (let i = 0; i < 18; i++) await note(other, Buffer.alloc(60_000))
  isHeld = true
  const lastNoted = note(other, null)
  await fixture.until(() => held !== null)
  await producer.close(performance.now() + 1_000)
  held!()
  await lastNoted
  const { batches } = findJournal(folder, realDisk, fixture.logs)
  expect(batches.map(({ partition }) => partition)).toContain(givenUp.partition)
})
