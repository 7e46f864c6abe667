import { openSync, readdirSync } from 'node:fs'
import { expect, test, vi } from 'vitest'
import type { IdentifiedBatch } from '../../../src/kafka/producer/batch-journal.ts'
import type { PendingBatch, Settlement } from '../../../src/kafka/producer/producer.ts'
import { realDisk, type Disk, type DiskDone } from '../../../src/spool/disk.ts'
import { findJournal } from '../../../src/spool/find-sent.ts'
import { Runs } from '../../../src/spool/sent-batch.ts'
import { SentJournal } from '../../../src/spool/sent-journal.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'
import { temporaryFolder } from '../../support/spool-fixture.ts'

const refusal = Object.assign(new Error('full'), { code: 'ENOSPC' })

/** A journal on a real folder, and a disk of which the test ends the syncs. */
class JournalFixture {
  readonly folder = temporaryFolder()
  readonly folderFd = openSync(this.folder, 'r')
  /** Syncs that are under way: of which file, and how they end. */
  readonly syncs: { fd: number; end: DiskDone }[] = []
  readonly closed: number[] = []
  readonly journal: SentJournal

  /** Writes that hang, while {@link hangs}. */
  readonly writes: (() => void)[] = []
  readonly logs = new LogKeeper()
  hangs = false
  refuses = false
  /** Calls that wait for the ack files, while {@link holdsAcks}. */
  readonly waitForAcks: DiskDone[] = []
  holdsAcks = false

  constructor(isExactlyOnce = false) {
    const disk: Disk = {
      ...realDisk,
      write: (fd, buffers, position, done) => {
        const write = () => realDisk.write(fd, buffers, position, done)
        if (this.refuses) done(refusal, 0)
        else if (this.hangs) this.writes.push(write)
        else write()
      },
      sync: (fd, end) => void this.syncs.push({ fd, end }),
      close: (fd, done) => {
        this.closed.push(fd)
        realDisk.close(fd, done)
      },
    }
    this.journal = new SentJournal({
      stream: 'critical',
      folder: this.folder,
      folderFd: this.folderFd,
      fsync: true,
      disk,
      logger: this.logs,
      waitLimitMs: 20,
      isExactlyOnce,
      secureAcks: (done) => {
        if (this.holdsAcks) this.waitForAcks.push(done)
        else done(null)
      },
    })
    this.journal.start({ paths: [], nextNumber: 1, open: [], done: [] }, () => {})
  }

  get files(): string[] {
    return readdirSync(this.folder).toSorted()
  }

  async note(partition: number, journal = this.journal): Promise<void> {
    await note(journal, partition)
  }

  /** The journal of the next process. @param create makes its files. */
  next(create: Disk['create']): SentJournal {
    return new SentJournal({
      stream: 'critical',
      folder: this.folder,
      folderFd: this.folderFd,
      fsync: false,
      disk: { ...realDisk, create },
      logger: this.logs,
      waitLimitMs: 10_000,
      isExactlyOnce: false,
      secureAcks: (done) => done(null),
    })
  }

  /** Until the first file that the disk takes has the batch of partition 0 as done, notes one of partition 1. */
  async hasDoneFirst(journal: SentJournal): Promise<void> {
    await vi.waitFor(
      async () => {
        await this.note(1, journal)
        const { batches } = findJournal(this.folder, realDisk, this.logs)
        expect(batches.map(({ partition, isDone }) => [partition, isDone]).slice(0, 2)).toEqual([
          [0, true],
          [1, false],
        ])
      },
      { timeout: 20_000, interval: 100 },
    )
  }

  /** Ends the oldest sync. @returns the file. */
  endSync(code: string | null = null): number {
    const { fd, end } = this.syncs.shift()!
    end(code === null ? null : Object.assign(new Error(code), { code }))
    return fd
  }
}

/** Notes a batch of one record, and waits until the note is written. */
async function note(
  journal: SentJournal,
  partition: number,
  more: Partial<IdentifiedBatch> = {},
): Promise<void> {
  const batch = {
    partition,
    producerId: 1n,
    epoch: 0,
    baseSequence: 0,
    recordCount: 1,
    uncompressedBytes: 100,
    baseTimestampMs: 1,
    maxTimestampMs: 1,
    firstHeaders: null,
    onSettled() {},
    ...more,
  } as unknown as IdentifiedBatch
  const runs = new Runs()
  runs.add(partition)
  await new Promise<void>((done) => journal.note(1, [batch], { runsOf: () => runs, done }))
}

test('a file is closed when its syncs have ended, and not before', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  const [first] = fixture.syncs
  // What the file says of the partition does not stand any more, so the next note begins another file.
  fixture.journal.forget(0)
  await fixture.note(1)
  await vi.waitFor(() => expect(fixture.syncs).toHaveLength(2))
  expect(fixture.closed).toEqual([])
  fixture.endSync()
  expect(fixture.closed).toEqual([first!.fd])

  const second = fixture.syncs.find(({ fd }) => fd !== fixture.folderFd)
  fixture.journal.close()
  expect(fixture.closed).not.toContain(second!.fd)
  while (fixture.syncs.length > 0) fixture.endSync()
  expect(fixture.closed).toContain(second!.fd)
})

test('after a sync that failed, all that is open goes into another file, also while nothing is noted', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  while (fixture.syncs.length > 0) fixture.endSync()
  const [file] = fixture.files
  await fixture.note(1)
  fixture.journal.sync()
  expect(fixture.syncs).toHaveLength(1)
  fixture.endSync('EIO')
  // A kernel may take the pages for clean, so a second sync of the same file proves nothing.
  await vi.waitFor(
    () => {
      fixture.journal.sync()
      while (fixture.syncs.length > 0) fixture.endSync()
      expect(fixture.files).toHaveLength(1)
      expect(fixture.files).not.toContain(file)
    },
    { timeout: 20_000 },
  )
})

test.each([
  [
    'as a sync of the old one failed',
    (fixture: JournalFixture) => {
      fixture.journal.sync()
      fixture.endSync('EIO')
    },
  ],
  ['as a start does not send a batch again', ({ journal }: JournalFixture) => journal.forget(0)],
])('a new file that begins %s waits for the ack files, and notes go on meanwhile', async (_why, cause) => {
  const fixture = new JournalFixture(true)
  fixture.holdsAcks = true
  await fixture.note(0)
  while (fixture.syncs.length > 0) fixture.endSync()
  const settle: (() => void)[] = []
  const onSettled: IdentifiedBatch['onSettled'] = (listener) => {
    settle.push(() => listener({ outcome: 'acked', recordCount: 1 } as Settlement, {} as never))
  }
  await note(fixture.journal, 1, { onSettled })
  settle.shift()!()
  const files = fixture.files
  cause(fixture)
  await vi.waitFor(
    async () => {
      fixture.journal.sync()
      await note(fixture.journal, 2, { onSettled })
      expect(fixture.waitForAcks).toHaveLength(1)
    },
    { timeout: 20_000, interval: 50 },
  )
  await fixture.note(3)
  expect(fixture.files).toEqual(files)
  // Nobody says that the ack files have this one.
  settle.at(-1)!()
  fixture.waitForAcks[0]!(null)
  await vi.waitFor(() => {
    while (fixture.syncs.length > 0) fixture.endSync()
    expect(fixture.files).toHaveLength(1)
    expect(fixture.files).not.toEqual(files)
  })
  const { batches } = findJournal(fixture.folder, realDisk, fixture.logs)
  const left = batches.map(({ partition, isDone }) => [partition, isDone])
  expect(left.filter(([partition]) => partition !== 0)).toEqual([
    [2, true],
    [3, false],
  ])
})

test('a file that refuses the notes of what a start does not send again is followed at once', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  while (fixture.syncs.length > 0) fixture.endSync()
  fixture.holdsAcks = true
  fixture.journal.forget(0)
  fixture.refuses = true
  const noted = fixture.note(1)
  fixture.refuses = false
  await noted
  const { batches } = findJournal(fixture.folder, realDisk, fixture.logs)
  expect(batches.map(({ partition }) => partition)).toEqual([1])
  // A disk that takes nothing at all does not hold the batches up.
  fixture.journal.forget(1)
  fixture.refuses = true
  await Promise.all([fixture.note(2), fixture.note(3)])
})

test('what an earlier process had sent and gets done before any file could be made is in the first file', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  const { folder, logs } = fixture
  const { paths, nextNumber, batches: open } = findJournal(folder, realDisk, logs)
  expect(open).toHaveLength(1)
  let isRefused = true
  const create: Disk['create'] = (path, created) => {
    if (isRefused) created(refusal, -1)
    else realDisk.create(path, created)
  }
  const journal = fixture.next(create)
  await new Promise<void>((ready) => journal.start({ paths, nextNumber, open, done: [] }, ready))
  const batch = {
    recordCount: 1,
    onSettled: (listener: (settlement: Settlement) => void) =>
      listener({ outcome: 'acked', recordCount: 1 } as Settlement),
  }
  journal.resumed(0, batch as unknown as PendingBatch)
  isRefused = false
  await fixture.hasDoneFirst(journal)
})

test('on a disk that hangs a batch goes without its note after a while, and the log says so', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  fixture.hangs = true
  const notes = [fixture.note(1), fixture.note(2)]
  await vi.waitFor(() => {
    fixture.journal.giveUpOverdueWrite()
    expect(fixture.logs.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', message: expect.stringContaining('sent without a note') }),
    )
  })
  await Promise.all(notes)
  // Those behind them do not wait at all while the same write hangs.
  await fixture.note(3)
  expect(fixture.writes).toHaveLength(1)
  fixture.hangs = false
  fixture.writes[0]!()
  await vi.waitFor(async () => {
    await fixture.note(4)
    const { batches: found } = findJournal(fixture.folder, realDisk, fixture.logs)
    expect([...new Set(found.map(({ partition }) => partition))]).toEqual([0, 1, 4])
  })
})

test('on a disk that hangs a batch of an exactly-once stream waits for its note, and the log says so', async () => {
  const fixture = new JournalFixture(true)
  fixture.hangs = true
  let isNoted = false
  const noted = fixture.note(0).then(() => (isNoted = true))
  await vi.waitFor(() => {
    fixture.journal.giveUpOverdueWrite()
    expect(fixture.logs.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', message: expect.stringContaining('the disk hangs') }),
    )
  })
  expect(isNoted).toBe(false)
  fixture.writes[0]!()
  await noted
})

test('what was found done at start gets into the first file that the disk takes', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  const { folder, logs } = fixture
  const { paths, nextNumber, batches: done } = findJournal(folder, realDisk, logs)
  expect(done).toHaveLength(1)
  let failures = 0
  const create: Disk['create'] = (path, created) => {
    if (failures++ > 0) realDisk.create(path, created)
    else created(refusal, -1)
  }
  const journal = fixture.next(create)
  await new Promise<void>((ready) => journal.start({ paths, nextNumber, open: [], done }, ready))
  expect(failures).toBe(1)
  await fixture.hasDoneFirst(journal)
})

test('what is done while a slow disk makes the next file is in that file, however much it is', async () => {
  const folder = temporaryFolder()
  const logs = new LogKeeper()
  let goOn: (() => void) | null = null
  const journal = new SentJournal({
    stream: 'critical',
    folder,
    folderFd: openSync(folder, 'r'),
    fsync: false,
    disk: {
      ...realDisk,
      create: (path, done) => {
        if (goOn === null && !path.endsWith('1.sent')) goOn = () => realDisk.create(path, done)
        else realDisk.create(path, done)
      },
    },
    logger: logs,
    // Longer than a busy machine takes: a batch that did not wait is not noted.
    waitLimitMs: 10_000,
    isExactlyOnce: false,
    secureAcks: (done) => done(null),
  })
  await new Promise<void>((ready) => journal.start({ paths: [], nextNumber: 1, open: [], done: [] }, ready))
  const settle: (() => void)[] = []
  // As many as fill a file: they have no room in the list of what is done before the acks are secure.
  for (let partition = 0; partition < 54; partition++) {
    await note(journal, partition, {
      firstHeaders: Buffer.alloc(20_000),
      onSettled: (listener) => {
        settle.push(() => listener({ outcome: 'acked', recordCount: 1 } as Settlement, {} as never))
      },
    })
  }
  await vi.waitFor(() => expect(goOn).not.toBeNull())
  for (const each of settle) each()
  goOn!()
  // The first file alone is there until the second one is made, and the second one alone when the first is gone.
  await vi.waitFor(() => expect(readdirSync(folder)).toEqual([expect.stringMatching(/2\.sent$/)]))
  const { batches } = findJournal(folder, realDisk, logs)
  expect(batches).toHaveLength(54)
  expect(batches.every(({ isDone }) => isDone)).toBe(true)
})
