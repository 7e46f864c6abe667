import fs from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../logger.ts'
import {
  checkVersion,
  DataFolderError,
  formatOfWorkers,
  formatVersion,
  makeFolder,
  readVersion,
  syncFolder,
  takeLock,
  toDataFolderError,
} from './data-folder.ts'
import { parseName } from './segment.ts'

/**
 * `CHUTE_DATA_DIR` of a gateway with several workers. Worker N has the data folder `workers/N` in it, with a lock and a version of its own. The
 * primary has the lock of `CHUTE_DATA_DIR` itself. So a gateway that is started again while workers of a killed primary still end waits for
 * the folder of each worker, and no two processes ever write to one folder.
 *
 * The number of workers can change from one start to the next. What a gateway of one process left in `CHUTE_DATA_DIR` is moved to the folder
 * of a worker. A folder whose worker is gone is taken over by a worker that there is ({@link foldersLeft}), or by the one process.
 *
 * Takes the lock of the primary, for as long as its process lives, or until `release`.
 * @throws DataFolderError if the folder cannot be used, or another gateway has it.
 */
export function takeGroupFolder(path: string, logger: Logger): { release(): void } {
  try {
    const before = readVersion(path)
    makeFolder(join(path, 'workers'))
    const lockFd = takeLock(path, 'gateway')
    try {
      checkVersion(path, [], formatOfWorkers)
      if (holdsRecords(path)) moveSpool(path, contentOf(before), logger)
    } catch (error) {
      fs.closeSync(lockFd)
      throw error
    }
    return { release: () => fs.closeSync(lockFd) }
  } catch (error) {
    throw toDataFolderError(error, path)
  }
}

/** The worker that a process is, and how many there are. */
export interface WorkerPlace {
  readonly number: number
  readonly of: number
}

/** The data folder of a worker. */
export function folderOfWorker(dataDir: string, worker: number): string {
  return join(dataDir, 'workers', String(worker))
}

/**
 * The folders that hold something and whose workers are gone, for the process that is to send what they hold. A worker that still runs can
 * put a record into a folder that is empty now.
 * @param worker null: the gateway has one process, and takes all of them over. Otherwise folder N belongs to a worker by N and `of`, so a worker
 * that is started again takes the same folders.
 * @throws DataFolderError if a worker has one of them (`isWorkerInUse`), or if one cannot be looked at.
 */
export function foldersLeft(dataDir: string, worker: WorkerPlace | null): string[] {
  return numbersIn(dataDir)
    .filter(
      (number) => worker === null || (number > worker.of && (number - 1) % worker.of === worker.number - 1),
    )
    .map((number) => folderOfWorker(dataDir, number))
    .filter((folder) => {
      refuseIfInUse(folder, 'worker')
      try {
        return holdsRecords(folder)
      } catch (error) {
        throw toDataFolderError(error, folder)
      }
    })
}

/** @throws DataFolderError if another process has the folder, or if one cannot tell. */
export function refuseIfInUse(folder: string, of: 'gateway' | 'worker'): void {
  try {
    fs.closeSync(takeLock(folder, of))
  } catch (error) {
    throw toDataFolderError(error, folder)
  }
}

/** Whether a gateway with workers ever had `CHUTE_DATA_DIR`. */
export function hasWorkerFolders(dataDir: string): boolean {
  return numbersIn(dataDir).length > 0
}

/** The numbers of workers that ever had a folder, in their order. */
function numbersIn(dataDir: string): number[] {
  let names: string[] = []
  try {
    names = fs.readdirSync(join(dataDir, 'workers'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw toDataFolderError(error, dataDir)
  }
  return names
    .filter((name) => /^[1-9]\d{0,8}$/.test(name))
    .map(Number)
    .toSorted((one, other) => one - other)
}

/** Whether the spool of a data folder holds records, or keys of `dedupe` that outlive their records. @param stream left out: of any stream. */
export function holdsRecords(folder: string, stream = ''): boolean {
  const spool = join(folder, 'spool', stream)
  if (!fs.existsSync(spool)) return false
  return fs.readdirSync(spool, { recursive: true, withFileTypes: true }).some((entry) => {
    const kind = entry.isFile() ? parseName(entry.name)?.kind : undefined
    if (kind === 'notes') return true
    // The newest segment can be without a record.
    return kind === 'log' && fs.statSync(join(entry.parentPath, entry.name)).size > 0
  })
}

/** A rename takes the whole spool or none of it, whenever the process is killed. */
function moveSpool(path: string, content: number, logger: Logger): void {
  for (let number = 1; ; number++) {
    const target = folderOfWorker(path, number)
    makeFolder(target)
    const lockFd = takeLockUnlessInUse(target)
    if (lockFd === null) continue
    try {
      if (holdsRecords(target) || !isSpoolGone(target)) continue
      checkVersion(target, [], content)
      fs.renameSync(join(path, 'spool'), join(target, 'spool'))
      syncFolder(target)
      syncFolder(path)
      logger.info({ from: join(path, 'spool'), to: join(target, 'spool') }, 'a worker takes the spool over')
      return
    } finally {
      fs.closeSync(lockFd)
    }
  }
}

/** Takes the lock of a folder. @returns null: another process has it. */
export function takeLockUnlessInUse(folder: string): number | null {
  try {
    return takeLock(folder, 'worker')
  } catch (error) {
    if (error instanceof DataFolderError && error.isWorkerInUse) return null
    throw error
  }
}

/** Removes the folders of a spool as far as they are empty. @returns whether nothing is left of it. */
function isSpoolGone(folder: string): boolean {
  const spool = join(folder, 'spool')
  if (!fs.existsSync(spool)) return true
  try {
    for (const name of fs.readdirSync(spool)) fs.rmdirSync(join(spool, name))
    fs.rmdirSync(spool)
    return true
  } catch {
    // Something else is in it, such as a damaged file that somebody is to look at.
    return false
  }
}

/** What the records in a folder need: a folder that had workers does not say whether its own records have headers. */
function contentOf(version: number | null): number {
  return version === null ? formatVersion : Math.min(version, formatVersion)
}
