import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeInnerProducer } from '../../support/fake-inner-producer.ts'
import { FaultyDisk, faultyFolder, randomOf } from '../../support/faulty-disk.ts'
import { isLong } from '../../support/forms.ts'
import { numbered, SpoolFixture } from '../../support/spool-fixture.ts'

/** More in CI; where people wait for it, fewer. */
const runs = isLong ? 6_000 : 1_200

beforeEach(() => {
  const toFake = [
    'Date',
    'setTimeout',
    'clearTimeout',
    'setInterval',
    'clearInterval',
    'performance',
  ] as const
  // The notes' own clock begins with the process. So does the one of a test, however late the test begins.
  vi.useFakeTimers({ toFake: [...toFake], now: Math.round(performance.timeOrigin) })
})
afterEach(() => void vi.useRealTimers())

type Note = readonly [key: string, value: string]

/** One gateway after another on the same disk. All of them keep notes. */
class Lives {
  disk: FaultyDisk
  spool: SpoolFixture
  /** What the newest start has read. */
  found: Note[] = []

  constructor(seed: number) {
    this.disk = new FaultyDisk(randomOf(seed))
    this.spool = this.#start()
  }

  next(end: 'kill' | 'power'): void {
    this.disk = end === 'power' ? this.disk.cutPower() : this.disk.kill()
    this.spool.producer.abort()
    this.spool = this.#start()
  }

  /** What counts of the notes that the newest start has read. */
  get known(): Record<string, string> {
    return Object.fromEntries(this.found)
  }

  /** A request with notes. Kafka has its record. */
  async note(notes: readonly Note[], forMs = 1e9): Promise<void> {
    const state = { isCommitted: false }
    this.spool.submit(numbered(1), (failure) => {
      expect(failure).toBeNull()
      state.isCommitted = true
    })
    for (const [key, value] of notes) this.spool.producer.note(key, Buffer.from(value), Date.now() + forMs)
    await until(() => state.isCommitted)
    await until(() => this.spool.inner.batches.length > 0)
    this.spool.inner.settleAll()
  }

  /** Lets time pass until all segments are gone. */
  async segmentsGone(): Promise<void> {
    for (let nth = 0; nth < 100 && this.names('.log').length > 0; nth++) await pass(1_000)
    expect(this.names('.log')).toEqual([])
    await turns(20)
  }

  names(end: string): string[] {
    return this.disk.names.filter((name) => name.endsWith(end))
  }

  get notesBytes(): number {
    let sum = 0
    for (const name of this.names('.notes')) {
      const fd = this.disk.openNow(`${faultyFolder}/${name}`)
      sum += this.disk.statNow(fd).sizeBytes
      this.disk.closeNow(fd)
    }
    return sum
  }

  #start(): SpoolFixture {
    const spool = new SpoolFixture({ disk: this.disk, inner: new FakeInnerProducer() })
    this.found = []
    spool.producer.readNotes(1e12, (key, value) => this.found.push([key, value.toString()]))
    return spool
  }
}

async function turns(count: number): Promise<void> {
  for (let nth = 0; nth < count; nth++) await nextTurn()
}

async function pass(ms: number): Promise<void> {
  vi.advanceTimersByTime(ms)
  await turns(40)
}

async function until(holds: () => boolean): Promise<void> {
  for (let nth = 0; nth < 1_000 && !holds(); nth++) await nextTurn()
  expect(holds()).toBe(true)
}

test('the notes of many small segments are in one file, and each start reads all of them in order', async () => {
  const lives = new Lives(1)
  const notes: Note[] = []
  for (const end of ['kill', 'power'] as const) {
    for (let nth = 0; nth < 100; nth++) {
      const note = [`key ${nth % 30}`, `${end} ${nth}`] as const
      notes.push(note)
      await lives.note([note])
      await lives.segmentsGone()
      expect(lives.names('.notes')).toHaveLength(1)
    }
    lives.next(end)
    expect(lives.found).toEqual(notes)
  }
  expect(lives.known).toMatchObject({ 'key 0': 'power 90', 'key 29': 'power 89' })
}, 60_000)

test('a file of 64 KiB takes in no more notes', async () => {
  const lives = new Lives(1)
  const notes: Note[] = []
  for (let nth = 0; nth < 20; nth++) {
    const note = ['key', `${nth} `.padEnd(10_000, '.')] as const
    notes.push(note)
    await lives.note([note])
    await lives.segmentsGone()
    expect(lives.names('.notes')).toHaveLength(1 + Math.floor(nth / 7))
  }
  lives.next('kill')
  expect(lives.found).toEqual(notes)
}, 60_000)

test('notes whose time is over leave the file, and the file goes when the time of its last note is over', async () => {
  const lives = new Lives(1)
  await lives.note([['long', '']], 900_000)
  for (let nth = 0; nth < 30; nth++) {
    await lives.note([['short', '.'.repeat(1_000)]], 20_000)
    await lives.segmentsGone()
  }
  await pass(25_000)
  await lives.note([['short', '.'.repeat(1_000)]], 20_000)
  await lives.segmentsGone()
  // Of the thirty none has time left.
  expect(lives.notesBytes).toBeLessThan(3_000)
  await pass(300_000)
  lives.next('kill')
  expect(lives.found).toEqual([['long', '']])
  await pass(600_000)
  expect(lives.disk.names).toEqual([])
}, 60_000)

test('a file that the disk does not remove at first goes later', async () => {
  const lives = new Lives(1)
  await lives.note([['a', '1']])
  await lives.segmentsGone()
  const [older] = lives.names('.notes')
  const remove = lives.disk.remove.bind(lives.disk)
  const refused: string[] = []
  lives.disk.remove = (path, done) => {
    if (!path.endsWith(older!) || refused.length === 3) return remove(path, done)
    refused.push(path)
    setImmediate(() => done(Object.assign(new Error('EIO'), { code: 'EIO' })))
  }
  await lives.note([['a', '2']])
  await lives.segmentsGone()
  for (let nth = 0; nth < 5; nth++) await pass(1_000)
  expect(refused).toHaveLength(3)
  expect(lives.names('.notes')).toEqual([expect.not.stringMatching(older!)])
  lives.next('kill')
  expect(lives.found).toEqual([
    ['a', '1'],
    ['a', '2'],
  ])
})

test('whenever it crashes, no note is lost, and the newest note of each key counts, in this life and in the next ones', async () => {
  let doubles = 0
  for (const end of ['kill', 'power'] as const) {
    for (let nth = 0; nth < runs; nth++) {
      const step = nth % 120
      const lives = new Lives(nth)
      await lives.note([
        ['a', '1'],
        ['b', '1'],
      ])
      await lives.segmentsGone()
      await lives.note([
        ['a', '2'],
        ['c', '2'],
      ])
      // The crash is at any moment on the way of the second segment's notes to a file.
      if (nth % 3 === 0) lives.disk.faults = { fail: 0.2, short: 0.2, hang: 0 }
      for (let turn = 0; turn < step; turn++) {
        if (turn % 30 === 0) vi.advanceTimersByTime(1_000)
        await nextTurn()
      }
      lives.next(end)
      expect(lives.known).toEqual({ a: '2', b: '1', c: '2' })
      if (lives.names('.notes').length > 1) doubles++
      lives.spool.inner.acksAtOnce = true
      await pass(1_000)
      await lives.segmentsGone()
      lives.next(end)
      expect(lives.known).toEqual({ a: '2', b: '1', c: '2' })
      await lives.note([['a', '3']])
      await lives.segmentsGone()
      lives.next(end)
      expect(lives.known).toEqual({ a: '3', b: '1', c: '2' })
      lives.spool.producer.abort()
    }
  }
  // Some of the crashes left both files.
  expect(doubles).toBeGreaterThan(0)
}, 120_000)
