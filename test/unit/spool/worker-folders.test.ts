import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { DataFolder } from '../../../src/spool/data-folder.ts'
import { SpoolFolders } from '../../../src/spool/spool-folders.ts'
import {
  folderOfWorker,
  foldersLeft,
  takeGroupFolder,
  type WorkerPlace,
} from '../../../src/spool/worker-folders.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'
import { numbered, SpoolFixture, temporaryFolder } from '../../support/spool-fixture.ts'

const logs = new LogKeeper()
const critical = { names: ['critical'], haveHeaders: false }

/** The primary of a gateway takes the folder, until the test ends it or is over. */
function group(dataDir: string): { close(): void } {
  const folder = takeGroupFolder(dataDir, logs)
  let isOpen = true
  const close = (): void => {
    if (isOpen) folder.release()
    isOpen = false
  }
  onTestFinished(close)
  return { close }
}

/** A process takes its folders: a worker, or the one process of a gateway. */
function take(dataDir: string, worker: WorkerPlace | null): SpoolFolders {
  return new SpoolFolders({ dataDir, worker }, critical, logs)
}

/** A process writes records to its folder, and is killed. */
async function leave(dataDir: string, worker: WorkerPlace | null, count: number): Promise<void> {
  const folders = take(dataDir, worker)
  const spool = new SpoolFixture({ folder: folders.stream('critical').path })
  await spool.request(numbered(count))
  spool.producer.abort()
  folders.close()
}

/** How many records a process finds in its own folder, and in the folders that it empties. */
function found(dataDir: string, worker: WorkerPlace | null): { own: number; left: number[] } {
  const folders = take(dataDir, worker)
  const count = ({ segments }: ReturnType<SpoolFolders['stream']>): number =>
    segments.reduce((sum, { recordCount }) => sum + recordCount, 0)
  const result = { own: count(folders.stream('critical')), left: folders.streamsLeft('critical').map(count) }
  folders.close()
  return result
}

function versionOf(dataDir: string): string {
  return readFileSync(join(dataDir, 'version'), 'utf8').trim().slice(-1)
}

test('each worker has a folder and a lock of its own, and takes the folder back', async () => {
  const dataDir = temporaryFolder()
  group(dataDir)
  await leave(dataDir, { number: 1, of: 2 }, 3)
  await leave(dataDir, { number: 2, of: 2 }, 4)
  const first = take(dataDir, { number: 1, of: 2 })
  onTestFinished(() => first.close())
  expect(first.path).toBe(folderOfWorker(dataDir, 1))
  expect(found(dataDir, { number: 2, of: 2 })).toEqual({ own: 4, left: [] })
  expect(() => take(dataDir, { number: 1, of: 2 })).toThrow(
    `in use by another worker (process ${process.pid})`,
  )
})

test('a second gateway is refused while a primary has the folder, whatever its number of processes', () => {
  const dataDir = temporaryFolder()
  group(dataDir)
  expect(() => takeGroupFolder(dataDir, logs)).toThrow(`in use by another gateway (process ${process.pid})`)
  expect(() => take(dataDir, null)).toThrow(`in use by another gateway (process ${process.pid})`)
})

test('one process that meets a worker is told of the gateway, as long as the primary of the worker lives', async () => {
  const dataDir = temporaryFolder()
  const primary = group(dataDir)
  await leave(dataDir, { number: 1, of: 2 }, 3)
  const worker = take(dataDir, { number: 1, of: 2 })
  onTestFinished(() => worker.close())
  expect(() => take(dataDir, null)).toThrow(`${dataDir} is in use by another gateway`)
  primary.close()
  expect(() => take(dataDir, null)).toThrow(`${folderOfWorker(dataDir, 1)} is in use by another worker`)
})

test('fewer workers take over what the others left, and a worker takes over the same at each start', async () => {
  const dataDir = temporaryFolder()
  group(dataDir)
  for (const number of [1, 2, 3, 4, 5]) await leave(dataDir, { number, of: 5 }, number)
  expect(found(dataDir, { number: 1, of: 2 })).toEqual({ own: 1, left: [3, 5] })
  expect(found(dataDir, { number: 2, of: 2 })).toEqual({ own: 2, left: [4] })
  expect(found(dataDir, { number: 1, of: 2 })).toEqual({ own: 1, left: [3, 5] })
})

test('one process takes over what workers left', async () => {
  const dataDir = temporaryFolder()
  const primary = group(dataDir)
  await leave(dataDir, { number: 1, of: 2 }, 3)
  await leave(dataDir, { number: 2, of: 2 }, 4)
  primary.close()
  await leave(dataDir, null, 5)
  expect(found(dataDir, null)).toEqual({ own: 5, left: [3, 4] })
})

test('a process waits for no folder in vain: one that a worker still has is named', async () => {
  const dataDir = temporaryFolder()
  const primary = group(dataDir)
  await leave(dataDir, { number: 2, of: 2 }, 4)
  const orphan = take(dataDir, { number: 2, of: 2 })
  onTestFinished(() => orphan.close())
  primary.close()
  expect(() => take(dataDir, null)).toThrow(folderOfWorker(dataDir, 2))
  // What was opened before is free again.
  takeGroupFolder(dataDir, logs).release()
})

test('a process waits for a folder that a worker still has, also while nothing is in it', () => {
  const dataDir = temporaryFolder()
  const primary = group(dataDir)
  const orphan = take(dataDir, { number: 2, of: 2 })
  primary.close()
  expect(() => take(dataDir, null)).toThrow(folderOfWorker(dataDir, 2))
  expect(() => take(dataDir, { number: 1, of: 1 })).toThrow(folderOfWorker(dataDir, 2))
  orphan.close()
  take(dataDir, null).close()
})

test('workers take over what one process left, also where every worker has records of its own', async () => {
  const dataDir = temporaryFolder()
  await leave(dataDir, null, 7)
  const primary = group(dataDir)
  expect(existsSync(join(dataDir, 'spool'))).toBe(false)
  expect(found(dataDir, { number: 1, of: 2 })).toEqual({ own: 7, left: [] })
  await leave(dataDir, { number: 2, of: 2 }, 8)
  primary.close()
  await leave(dataDir, null, 9)
  group(dataDir)
  expect(found(dataDir, { number: 1, of: 2 })).toEqual({ own: 7, left: [9] })
  expect(found(dataDir, { number: 2, of: 2 })).toEqual({ own: 8, left: [] })
})

test('a spool is not moved to a folder that another process still has', async () => {
  const dataDir = temporaryFolder()
  await leave(dataDir, null, 7)
  const orphan = take(dataDir, { number: 1, of: 2 })
  onTestFinished(() => orphan.close())
  group(dataDir)
  expect(found(dataDir, { number: 2, of: 2 })).toEqual({ own: 7, left: [] })
})

test('older versions refuse the folder while workers have something in it, and can read it again afterwards', async () => {
  const dataDir = temporaryFolder()
  await leave(dataDir, null, 1)
  expect(versionOf(dataDir)).toBe('1')
  const primary = group(dataDir)
  await leave(dataDir, { number: 2, of: 2 }, 4)
  expect(versionOf(dataDir)).toBe('3')
  // The records of the one process need no more than before.
  expect(versionOf(folderOfWorker(dataDir, 1))).toBe('1')
  primary.close()
  found(dataDir, null)
  expect(versionOf(dataDir)).toBe('3')
  for (const number of [1, 2]) {
    const worker = new DataFolder(folderOfWorker(dataDir, number), ['critical'], logs)
    const spool = new SpoolFixture({ folder: worker.stream('critical').path })
    await spool.until(() => spool.inner.admission === 'open')
    await spool.until(() => {
      spool.inner.settleAll()
      return spool.producer.stats.spool!.bytes === 0
    })
    worker.close()
  }
  found(dataDir, null)
  expect(versionOf(dataDir)).toBe('2')
})

test('what is no folder of a worker is left alone', () => {
  const dataDir = temporaryFolder()
  for (const name of ['0', '01', 'x', 'lost+found']) {
    mkdirSync(join(dataDir, 'workers', name, 'spool', 'critical'), { recursive: true })
    writeFileSync(join(dataDir, 'workers', name, 'spool', 'critical', `${'0'.repeat(15)}.log`), 'mine')
  }
  group(dataDir)
  expect(foldersLeft(dataDir, null)).toEqual([])
})

test('a folder of a newer version is refused, and nothing in it is touched', () => {
  const dataDir = temporaryFolder()
  writeFileSync(join(dataDir, 'version'), 'chute data folder, format 4\n')
  expect(() => takeGroupFolder(dataDir, logs)).toThrow('was written by a newer version of Chute')
  expect(existsSync(join(dataDir, 'workers'))).toBe(false)
  expect(existsSync(join(dataDir, 'lock'))).toBe(false)
})

test.each([
  { worker: null, of: 'the one process of a gateway' },
  { worker: { number: 1, of: 2 }, of: 'a worker' },
])('records on disk are not left alone where no stream is durable any more: $of', async ({ worker }) => {
  const dataDir = temporaryFolder()
  if (worker !== null) group(dataDir)
  await leave(dataDir, worker, 3)
  const none = { names: [], haveHeaders: false }
  expect(() => new SpoolFolders({ dataDir, worker }, none, logs)).toThrow(
    'holds 3 accepted records that Kafka does not have yet, and there is no durable stream critical',
  )
  // The lock is free again.
  expect(found(dataDir, worker).own).toBe(3)
})

test('a process without a durable stream leaves the folder to the process that has it', async () => {
  const dataDir = temporaryFolder()
  await leave(dataDir, null, 3)
  const durable = take(dataDir, null)
  expect(
    () => new SpoolFolders({ dataDir, worker: null }, { names: [], haveHeaders: false }, logs),
  ).not.toThrow()
  durable.close()
})
