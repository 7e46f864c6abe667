import { openSync, readdirSync } from 'node:fs'
import { expect, test, vi } from 'vitest'
import type { IdentifiedBatch } from '../../../src/kafka/producer/batch-journal.ts'
import { realDisk, type Disk, type DiskDone } from '../../../src/spool/disk.ts'
import { Runs } from '../../../src/spool/runs.ts'
import { SentJournal } from '../../../src/spool/sent-journal.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'
import { temporaryFolder } from '../../support/spool-fixture.ts'

/** A journal on a real folder, and a disk of which the test ends the syncs. */
class JournalFixture {
  readonly folder = temporaryFolder()
  readonly folderFd = openSync(this.folder, 'r')
  /** Syncs that are under way: of which file, and how they end. */
  readonly syncs: { fd: number; end: DiskDone }[] = []
  readonly closed: number[] = []
  readonly journal: SentJournal

  constructor() {
    const disk: Disk = {
      ...realDisk,
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
      logger: new LogKeeper(),
      areAcksWritten: () => true,
    })
    this.journal.start({ paths: [], nextNumber: 1, open: [], done: [] }, () => {})
  }

  get files(): string[] {
    return readdirSync(this.folder).toSorted()
  }

  /** Notes a batch of one record, and waits until the note is written. */
  async note(partition: number): Promise<void> {
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
    } as unknown as IdentifiedBatch
    const runs = new Runs()
    runs.add(partition)
    await new Promise<void>((done) => this.journal.note(1, [batch], { runsOf: () => runs, done }))
  }

  /** Ends the oldest sync. @returns the file. */
  endSync(code: string | null = null): number {
    const { fd, end } = this.syncs.shift()!
    end(code === null ? null : Object.assign(new Error(code), { code }))
    return fd
  }
}

test('a file is closed when its syncs have ended, and not before', async () => {
  const fixture = new JournalFixture()
  await fixture.note(0)
  const [first] = fixture.syncs
  // What the file says of the partition does not stand any more, so the next note begins another file.
  fixture.journal.forget(0)
  await fixture.note(1)
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
