import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { realDisk, type Disk } from '../../../src/spool/disk.ts'
import { nextFreeSeq } from '../../../src/spool/segment.ts'
import { FakeInnerProducer } from '../../support/fake-inner-producer.ts'
import { numbered, SpoolFixture } from '../../support/spool-fixture.ts'

const noSpace = () => Object.assign(new Error('no space'), { code: 'ENOSPC' })

test('a request that comes while the first of a file fails is on disk when it is told so', async () => {
  let writes = 0
  let second: Promise<string | null> = Promise.resolve('it was not sent')
  const created: string[] = []
  const spool: SpoolFixture = new SpoolFixture({
    disk: {
      create(path, done) {
        created.push(path)
        realDisk.create(path, done)
      },
      write(fd, buffers, position, done) {
        if (++writes > 1) return realDisk.write(fd, buffers, position, done)
        second = spool.request(numbered(1, 100))
        setTimeout(() => done(noSpace(), 0), 5)
      },
    },
  })
  expect(await spool.request(numbered(1))).toBe('ENOSPC')
  expect(await second).toBeNull()
  // What a removal without a wait would have taken with it.
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(readdirSync(spool.folder).filter((name) => name.endsWith('.log'))).toHaveLength(1)
  expect(created).toHaveLength(1)
  const after = new SpoolFixture({ folder: spool.copy() })
  await after.until(() => after.inner.records.length === 1)
  expect(after.inner.values).toEqual(['100'])
})

test('no name is created twice, whatever fails, in one life or in the next', async () => {
  const created: string[] = []
  const failing = new Set<keyof Disk>()
  const disk: Partial<Disk> = {
    create(path, done) {
      realDisk.create(path, (error, fd) => {
        if (error === null) created.push(path.slice(path.lastIndexOf('/')))
        // The file is there all the same.
        if (error === null && failing.has('create')) realDisk.close(fd, () => done(noSpace(), -1))
        else done(error, fd)
      })
    },
    write: (fd, buffers, position, done) =>
      failing.has('write') ? done(noSpace(), 0) : realDisk.write(fd, buffers, position, done),
    sync: (fd, done) => (failing.has('sync') ? done(noSpace()) : realDisk.sync(fd, done)),
    remove: (path, done) => (failing.has('remove') ? done(noSpace()) : realDisk.remove(path, done)),
  }
  let spool = new SpoolFixture({ disk })
  for (const step of ['create', 'write', 'sync', 'remove'] as const) {
    failing.add(step)
    await spool.request(numbered(2))
    failing.clear()
    await spool.until(() => spool.producer.admission === 'open')
    expect(await spool.request(numbered(1))).toBeNull()
    spool.inner.settleAll()
    await spool.until(() => spool.producer.stats.spool!.bytes === 0)
    await spool.producer.close(performance.now() + 5_000)
    spool = new SpoolFixture({ disk, folder: spool.copy() })
  }
  const logs = created.filter((name) => name.endsWith('.log'))
  expect(logs.length).toBeGreaterThanOrEqual(4)
  expect(new Set(logs).size).toBe(logs.length)
}, 60_000)

test('numbers go on above every name of the folder, and begin at random in an empty one', () => {
  const names = ['000000000000007.notes', '000000000000009.log.damaged', 'else', '000000000000004.ack']
  expect(nextFreeSeq(names, 5)).toBe(10)
  expect(nextFreeSeq([], 12)).toBe(12)
  expect(nextFreeSeq([], 0)).not.toBe(nextFreeSeq([], 0))
  // More than a call may have arguments.
  const many = Array.from({ length: 200_000 }, (_, seq) => `${String(seq).padStart(15, '0')}.notes`)
  expect(nextFreeSeq(many, 0)).toBe(200_000)
})

test('acks that an earlier life left behind say nothing of the records of a later one', async () => {
  const first = new SpoolFixture({
    // The acks cannot be removed.
    disk: { remove: (path, done) => (path.endsWith('.ack') ? done(noSpace()) : realDisk.remove(path, done)) },
  })
  await first.request(numbered(10))
  first.inner.settleAll()
  await first.until(() => first.producer.stats.spool!.bytes === 0)
  expect(readdirSync(first.folder)).toEqual([expect.stringMatching(/\.ack$/)])
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  const second = new SpoolFixture({ folder: first.copy(), inner })
  expect(await second.request(numbered(10, 100))).toBeNull()
  expect(new SpoolFixture({ folder: second.copy() }).producer.stats.recovered).toBe(10)
})

test('what is not of the spool is named and left alone', async () => {
  const spool = new SpoolFixture()
  mkdirSync(join(spool.folder, '000000000000001.log'))
  mkdirSync(join(spool.folder, 'lost+found'))
  writeFileSync(join(spool.folder, '999999999999999.log'), 'no frame')
  writeFileSync(join(spool.folder, 'readme.txt'), 'mine')
  spool.inner.admission = 'not_known_yet'
  await spool.request(numbered(3))
  const after = new SpoolFixture({ folder: spool.copy() })
  expect(after.producer.stats.recovered).toBe(3)
  const named = after.logs.lines.map(({ fields }) => JSON.stringify(fields))
  for (const name of ['000000000000001.log', 'lost+found', '999999999999999.log', 'readme.txt'])
    expect(named).toContainEqual(expect.stringContaining(name))
  await after.until(() => after.inner.records.length === 3)
  after.inner.settleAll()
  await after.until(() => after.producer.stats.spool!.bytes === 0)
  expect(readdirSync(after.folder)).toEqual([
    '000000000000001.log',
    '999999999999999.log',
    'lost+found',
    'readme.txt',
  ])
}, 20_000)
