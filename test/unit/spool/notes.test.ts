import { readdirSync } from 'node:fs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'
import { realDisk, type Disk } from '../../../src/spool/disk.ts'
import { numbered, SpoolFixture } from '../../support/spool-fixture.ts'

function notesOf({ producer }: SpoolFixture, windowMs = 60_000): [string, string][] {
  const notes: [string, string][] = []
  producer.readNotes(windowMs, (key, value) => notes.push([key, value.toString()]))
  return notes
}

/** A request whose events are kept together with a note. */
async function noted(spool: SpoolFixture, key: string, untilMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    spool.submit(numbered(2), () => resolve())
    spool.producer.note(key, Buffer.from(`value of ${key}`), untilMs)
  })
}

test('a note is there after a crash, with the records that it was kept with, until its time is over', async () => {
  const before = new SpoolFixture()
  await noted(before, 'a', Date.now() + 60_000)
  await noted(before, 'b', Date.now() - 1)
  const after = new SpoolFixture({ folder: before.copy() })
  expect(notesOf(after)).toEqual([['a', 'value of a']])
  expect(after.producer.stats.recovered).toBe(4)
})

test('a note outlives the records that it was kept with', async () => {
  const before = new SpoolFixture()
  await noted(before, 'a', Date.now() + 60_000)
  await noted(before, 'ü', Date.now() + 60_000)
  before.inner.settleAll()
  await before.until(() => before.producer.stats.spool!.bytes === 0)
  expect(readdirSync(before.folder)).toEqual([expect.stringMatching(/^\d+\.notes$/)])
  const after = new SpoolFixture({ folder: before.copy() })
  expect(notesOf(after)).toEqual([
    ['a', 'value of a'],
    ['ü', 'value of ü'],
  ])
})

test('a step of the wall clock forward, and back again before the next start, costs no note its time', async () => {
  const before = new SpoolFixture()
  await noted(before, 'a', Date.now() + 600_000)
  const clock = vi.spyOn(Date, 'now')
  onTestFinished(() => clock.mockRestore())
  clock.mockImplementation(() => Math.floor(performance.timeOrigin + performance.now()) + 15 * 60_000)
  before.inner.settleAll()
  await before.until(() => before.producer.stats.spool!.bytes === 0)
  clock.mockRestore()
  expect(notesOf(new SpoolFixture({ folder: before.copy() }))).toEqual([['a', 'value of a']])
})

test('notes go when their time is over, and when nobody asks for them at start', async () => {
  const spool = new SpoolFixture()
  await noted(spool, 'a', Date.now() + 5_000)
  spool.inner.settleAll()
  await spool.until(() => readdirSync(spool.folder).some((name) => name.endsWith('.notes')))
  const after = new SpoolFixture({ folder: spool.copy() })
  await after.until(() => readdirSync(after.folder).length === 0)
  await spool.until(() => readdirSync(spool.folder).length === 0)
}, 30_000)

test('notes are known in each later life, however often the process starts', async () => {
  const kept: string[] = []
  let spool = new SpoolFixture()
  for (const key of ['a', 'b']) {
    expect(notesOf(spool).map(([name]) => name)).toEqual(kept)
    await noted(spool, key, Date.now() + 60_000)
    kept.push(key)
    spool.inner.settleAll()
    await spool.until(() => spool.producer.stats.spool!.bytes === 0)
    await spool.producer.close(performance.now() + 5_000)
    spool = new SpoolFixture({ folder: spool.folder })
  }
  expect(notesOf(spool).map(([name]) => name)).toEqual(kept)
}, 30_000)

test('a note for later goes with the next records, before their own', async () => {
  const before = new SpoolFixture()
  await noted(before, 'a', Date.now() + 60_000)
  before.producer.noteLater('a', Buffer.from('another'), Date.now() + 60_000)
  expect(notesOf(new SpoolFixture({ folder: before.copy() }))).toEqual([['a', 'value of a']])
  await noted(before, 'b', Date.now() + 60_000)
  const after = new SpoolFixture({ folder: before.copy() })
  expect(notesOf(after)).toEqual([
    ['a', 'value of a'],
    ['a', 'another'],
    ['b', 'value of b'],
  ])
  expect(after.producer.stats.recovered).toBe(4)
})

/** A spool of which the test ends the next writes of groups, with an error or well. */
class HeldWrites {
  readonly held: ((code: string | null) => void)[] = []
  isHolding = false
  readonly spool: SpoolFixture

  constructor() {
    const write: Disk['write'] = (fd, buffers, position, done) => {
      if (!this.isHolding) return realDisk.write(fd, buffers, position, done)
      this.held.push((code) => {
        if (code === null) realDisk.write(fd, buffers, position, done)
        else done(Object.assign(new Error(code), { code }), 0)
      })
    }
    this.spool = new SpoolFixture({ disk: { write } })
  }

  async end(code: string | null): Promise<void> {
    await this.spool.until(() => this.held.length > 0)
    this.held.shift()!(code)
  }

  /** A request with a note of `a`. @returns null, or why it was refused. */
  async request(value: string): Promise<string | null> {
    return await new Promise((resolve) => {
      this.spool.submit(numbered(1), resolve)
      this.spool.producer.note('a', Buffer.from(value), Date.now() + 60_000)
    })
  }

  releaseLater(): void {
    this.spool.producer.noteLater('a', Buffer.from('released'), Date.now() + 60_000)
  }

  get notesOnDisk(): string[] {
    return notesOf(new SpoolFixture({ folder: this.spool.copy() })).map(([, value]) => value)
  }
}

test('a note for later goes with other records if the disk refuses those that it went with first', async () => {
  const writes = new HeldWrites()
  const { spool } = writes
  await writes.request('first')
  writes.releaseLater()
  writes.isHolding = true
  for (let nth = 0; nth < 2; nth++) {
    const refused = spool.request(numbered(1))
    await writes.end('ENOSPC')
    expect(await refused).toBe('ENOSPC')
    await spool.until(() => spool.producer.admission === 'open')
  }
  writes.isHolding = false
  expect(await spool.request(numbered(1))).toBeNull()
  expect(await spool.request(numbered(1))).toBeNull()
  expect(writes.notesOnDisk).toEqual(['first', 'released'])
}, 30_000)

test('a note for later of a refused request never gets behind a newer note of its key', async () => {
  const writes = new HeldWrites()
  const { spool } = writes
  await writes.request('first')
  writes.releaseLater()
  writes.isHolding = true
  const refused = spool.request(numbered(1))
  await spool.until(() => writes.held.length === 1)
  const newer = writes.request('newer')
  await writes.end('ENOSPC')
  expect(await refused).toBe('ENOSPC')
  await writes.end(null)
  expect(await newer).toBeNull()
  writes.isHolding = false
  await spool.until(() => spool.producer.admission === 'open')
  expect(await spool.request(numbered(1))).toBeNull()
  expect(writes.notesOnDisk).toEqual(['first', 'newer'])
}, 30_000)

test('a note for later goes all the same if the disk also refuses the newer note of its key', async () => {
  const writes = new HeldWrites()
  const { spool } = writes
  await writes.request('first')
  writes.releaseLater()
  writes.isHolding = true
  const refused = [spool.request(numbered(1))]
  await spool.until(() => writes.held.length === 1)
  refused.push(writes.request('newer'))
  await writes.end('ENOSPC')
  await writes.end('ENOSPC')
  expect(await Promise.all(refused)).toEqual(['ENOSPC', 'ENOSPC'])
  writes.isHolding = false
  await spool.until(() => spool.producer.admission === 'open')
  expect(await spool.request(numbered(1))).toBeNull()
  expect(writes.notesOnDisk).toEqual(['first', 'released'])
}, 30_000)

test('a large request has a commit of its own, and its notes are behind those of the requests that came meanwhile', async () => {
  const before = new SpoolFixture()
  const untilMs = Date.now() + 60_000
  const answers: string[] = []
  before.producer.noteLater('a', Buffer.from('released'), untilMs)
  const large = before.producer.begin()
  const append = (nth: number): void => void large.append(RecordBytes.of(Buffer.from(`${nth}`), null, 1))
  expect(before.producer.reserve(100_000)).toBe(true)
  append(0)
  large.note('a', Buffer.from('large'), untilMs)
  await noted(before, 'b', untilMs)
  expect(new SpoolFixture({ folder: before.copy() }).producer.stats.recovered).toBe(2)
  before.producer.noteLater('b', Buffer.from('released'), untilMs)
  append(1)
  const small = noted(before, 'c', untilMs).then(() => answers.push('small'))
  before.producer.noteLater('d', Buffer.from('released'), untilMs)
  await new Promise<void>((resolve) => large.commit({ committed: () => resolve() }))
  await small
  expect(answers).toEqual(['small'])
  const after = new SpoolFixture({ folder: before.copy() })
  expect(notesOf(after).map(([key, value]) => `${key}: ${value}`)).toEqual([
    'a: released',
    'b: value of b',
    'b: released',
    'c: value of c',
    'd: released',
    'a: large',
  ])
  expect(after.producer.stats.recovered).toBe(6)
})

test('a note without records is a mistake of the caller', () => {
  const spool = new SpoolFixture()
  expect(() => spool.producer.note('a', Buffer.alloc(0), Date.now())).toThrow('with records')
})
