import fs from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import type * as fileLocks from 'fs-native-extensions'
import type { Logger } from '../logger.ts'
import { realDisk } from './disk.ts'
import { findSegments, tellStray } from './find-segments.ts'
import { parseName, type Segment } from './segment.ts'
import { version as chuteVersion } from '../version.ts'

/** A data folder that the gateway cannot start with. The message says what is wrong, and what would be right. */
export class DataFolderError extends Error {
  override readonly name = 'DataFolderError'
  /** Another process has the folder of a worker. That process ends soon if its primary is gone. */
  readonly isWorkerInUse: boolean

  constructor(message: string, cause?: unknown, isWorkerInUse = false) {
    super(message, cause === undefined ? undefined : { cause })
    this.isWorkerInUse = isWorkerInUse
  }
}

/**
 * A data folder: `CHUTE_DATA_DIR`, or the folder of a worker in it (`worker-folders.ts`). One process at a time has it, by a lock of the kernel
 * that ends with the process. Its format has a version. Each durable stream has a folder of its own in it.
 */
export class DataFolder {
  readonly path: string
  readonly #logger: Logger
  readonly #lockFd: number
  readonly #streamFds = new Map<string, number>()

  /**
   * @param streams names of the durable streams.
   * @param options.hasHeaders records of these streams have headers of their own.
   * @param options.workersLeft the folder is `CHUTE_DATA_DIR`, and this says whether folders of workers in it hold something. Left out: it
   * is the folder of a worker.
   * @throws DataFolderError if the folder cannot be used, another process has it, or it holds records of other streams.
   */
  constructor(
    path: string,
    streams: readonly string[],
    logger: Logger,
    { hasHeaders = false, workersLeft }: { hasHeaders?: boolean; workersLeft?: boolean } = {},
  ) {
    this.path = path
    this.#logger = logger
    const content = hasHeaders ? formatVersion : formatWithoutHeaders
    try {
      // A folder of another version stays as it is.
      readVersion(path)
      makeFolder(join(path, 'spool'))
      this.#lockFd = takeLock(path, workersLeft === undefined ? 'worker' : 'gateway')
    } catch (error) {
      throw toDataFolderError(error, path)
    }
    try {
      if (workersLeft === undefined) checkVersion(path, streams, content)
      else keepGatewayVersion(path, streams, { content, hasWorkers: workersLeft })
      this.#refuseOrphans(streams)
    } catch (error) {
      fs.closeSync(this.#lockFd)
      throw toDataFolderError(error, path)
    }
  }

  /**
   * Opens the folder of a stream, and finds the log in it.
   * @throws DataFolderError
   */
  stream(name: string): StreamFolder {
    const path = join(this.path, 'spool', name)
    try {
      makeFolder(path)
      const fd = fs.openSync(path, 'r')
      this.#streamFds.set(name, fd)
      return { path, fd, segments: findSegments(path, name, this.#logger) }
    } catch (error) {
      throw toDataFolderError(error, path)
    }
  }

  /**
   * Looks for records that nobody would send: those of streams that were renamed or removed, or that are no longer durable.
   * @throws DataFolderError if there are any.
   */
  #refuseOrphans(streams: readonly string[]): void {
    for (const name of fs.readdirSync(join(this.path, 'spool'))) {
      if (streams.includes(name)) continue
      const path = join(this.path, 'spool', name)
      if (!holdsLog(path)) {
        tellStray(path, null, this.#logger)
        continue
      }
      const records = findSegments(path, name, this.#logger).reduce(
        (sum, { recordCount, doneCount }) => sum + recordCount - doneCount,
        0,
      )
      if (records === 0) continue
      throw new DataFolderError(
        `${path} holds ${records} accepted records that Kafka does not have yet, and there is no durable stream ${name}. ` +
          `Configure the stream until they are sent, or move that folder away.`,
      )
    }
  }

  /**
   * Records of a stream get headers of their own from now on, which older versions of Chute cannot read back.
   * @throws DataFolderError if the folder cannot say so.
   */
  keepHeaders(): void {
    try {
      checkVersion(this.path, [], formatVersion)
    } catch (error) {
      throw toDataFolderError(error, this.path)
    }
  }

  /** Closes the folder of a stream. Nothing of the stream may be under way there. */
  closeStream(name: string): void {
    const fd = this.#streamFds.get(name)
    if (fd !== undefined) fs.closeSync(fd)
    this.#streamFds.delete(name)
  }

  /** Lets another process have the folder. */
  close(): void {
    for (const name of this.#streamFds.keys()) this.closeStream(name)
    fs.closeSync(this.#lockFd)
  }
}

/** The folder of a stream's log. */
export interface StreamFolder {
  readonly path: string
  /** Open, to sync the names of new files. */
  readonly fd: number
  /** The segments that were found, oldest first. */
  readonly segments: Segment[]
}

/**
 * Makes a folder, and those above it, and syncs the names of all that were made. Without that, a power cut could take a synced file
 * together with the name of a folder above it. One by one, since `recursive` of Node tries without an end where a file system takes no folder, and
 * says ENOENT, as `/proc` does.
 */
export function makeFolder(path: string): void {
  const folder = resolve(path)
  if (isFolder(folder)) return
  const above = dirname(folder)
  makeFolder(above)
  try {
    fs.mkdirSync(folder, { mode: 0o700 })
  } catch (error) {
    // Another process may have made it meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !isFolder(folder)) throw error
  }
  try {
    syncFolder(above)
  } catch (error) {
    // A folder that this user may write to, and not read, cannot be synced. The kernel decides when the name is on disk.
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
  }
}

function isFolder(path: string): boolean {
  return fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}

/** Brings the names of a folder to the disk. */
export function syncFolder(path: string): void {
  const fd = fs.openSync(path, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** Whether a folder has a segment in it. A start leaves all other folders alone. */
function holdsLog(path: string): boolean {
  try {
    return realDisk.listNow(path).some(({ name }) => parseName(name)?.kind === 'log')
  } catch {
    // It is not a folder, or this user may not look into it. This user made all folders of the spool.
    return false
  }
}

/**
 * Loads the native part only when a data folder is opened: it is built for the usual platforms only, and a gateway without
 * durable streams does not need it.
 */
function loadLocks(): typeof fileLocks {
  try {
    return createRequire(import.meta.url)('fs-native-extensions') as typeof fileLocks
  } catch (error) {
    throw new DataFolderError(
      `CHUTE_DATA_DIR cannot be used: files cannot be locked on this platform (${process.platform} ${process.arch}). Leave it out.`,
      error,
    )
  }
}

/**
 * Takes the lock of a folder, for as long as the file that is returned is open.
 * @throws DataFolderError if another process has it.
 */
export function takeLock(folder: string, of: 'gateway' | 'worker'): number {
  const { tryLock } = loadLocks()
  const fd = fs.openSync(join(folder, 'lock'), 'a+', 0o600)
  if (tryLock(fd)) {
    try {
      fs.ftruncateSync(fd)
      fs.writeSync(fd, `${process.pid}\n`)
    } catch {
      // The number only tells people which process has the lock. So it does not matter if the disk is full.
    }
    return fd
  }
  const owner = fs.readFileSync(fd, 'utf8').trim()
  fs.closeSync(fd)
  const isOfWorker = of === 'worker'
  const remedy = isOfWorker
    ? 'If that is a worker whose primary is gone, it ends within SHUTDOWN_TIMEOUT_MS, or end it.'
    : 'Give each gateway a CHUTE_DATA_DIR of its own.'
  throw new DataFolderError(
    `${folder} is in use by another ${of}${owner === '' ? '' : ` (process ${owner})`}. ${remedy}`,
    undefined,
    isOfWorker,
  )
}

/**
 * Checks the version of the folder's format. In a new folder, the version is the first thing that is written.
 * @param needed the version of what is going to be written. An older folder gets this version.
 * @returns the version that it has now.
 */
export function checkVersion(folder: string, streams: readonly string[], needed: number): number {
  const version = readVersion(folder)
  if (version === null) {
    const spool = join(folder, 'spool')
    const names = fs.existsSync(spool) ? fs.readdirSync(spool) : []
    if (names.some((name) => streams.includes(name) || holdsLog(join(spool, name)))) {
      throw new DataFolderError(
        `${folder} holds a spool, but no file that says its version. Put the file back, or move the folder away.`,
      )
    }
  }
  if (version !== null && version >= needed) return version
  writeVersion(folder, needed)
  return needed
}

/**
 * As {@link checkVersion}, for `CHUTE_DATA_DIR` itself. While folders of workers in it hold something, it has the version
 * {@link formatOfWorkers}, so that no older version of Chute starts and leaves these folders alone. After that it goes back.
 */
function keepGatewayVersion(
  folder: string,
  streams: readonly string[],
  { content, hasWorkers }: { content: number; hasWorkers: boolean },
): void {
  const version = checkVersion(folder, streams, hasWorkers ? formatOfWorkers : content)
  // Nobody knows whether records with headers are in it.
  if (version === formatOfWorkers && !hasWorkers) writeVersion(folder, formatVersion)
}

/**
 * @returns null: the folder has no version, or is not there.
 * @throws DataFolderError if this version of Chute cannot read the folder. Then nothing in the folder may change.
 */
export function readVersion(folder: string): number | null {
  let text: string
  try {
    text = fs.readFileSync(join(folder, 'version'), 'utf8').trim()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw error
  }
  const format = text.startsWith(versionPrefix) ? Number(text.slice(versionPrefix.length)) : Number.NaN
  if (format >= formatWithoutHeaders && format <= formatOfWorkers) return format
  const isNewer = format > formatOfWorkers
  throw new DataFolderError(
    `${folder} was written by ${isNewer ? 'a newer' : 'another'} version of Chute: its file "version" says "${text}", and Chute ${chuteVersion} ` +
      `reads the formats ${formatWithoutHeaders} to ${formatOfWorkers}. Nothing in it was changed. Start the ${isNewer ? 'newer' : 'other'} version again, ` +
      `or have its "chute drain" send what the folder holds; or give another CHUTE_DATA_DIR.`,
  )
}

function writeVersion(folder: string, format: number): void {
  const path = join(folder, 'version')
  fs.writeFileSync(`${path}.new`, `${versionPrefix}${format}\n`, { mode: 0o600, flush: true })
  fs.renameSync(`${path}.new`, path)
  syncFolder(folder)
}

/** Says of a system call that failed why the folder cannot be used. */
export function toDataFolderError(error: unknown, path: string): DataFolderError {
  if (error instanceof DataFolderError) return error
  const { code, message } = error as NodeJS.ErrnoException
  const reason = reasonOfFolder(code)
  const said = reason === null ? message : `${reason.what}. ${reason.remedy}`
  return new DataFolderError(`CHUTE_DATA_DIR cannot be used: ${path}: ${said}`, error)
}

/** What is wrong with a data folder where a call has failed, and what would be right. null: the code alone does not say. */
export function reasonOfFolder(
  code: string | undefined,
): { readonly what: string; readonly remedy: string } | null {
  return reasons[code ?? ''] ?? null
}

const notPermitted = {
  what: 'this user may not write there',
  remedy: 'Give the folder to the user that the gateway runs as.',
}
const noFolder = { what: 'it is not a folder', remedy: 'Name a folder as CHUTE_DATA_DIR.' }

const reasons: Readonly<Record<string, { readonly what: string; readonly remedy: string }>> = {
  EACCES: notPermitted,
  EPERM: notPermitted,
  EROFS: { what: 'it is read-only', remedy: 'Mount it writable.' },
  ENOSPC: { what: 'the disk is full', remedy: 'Make room on it.' },
  ENOENT: { what: 'no folder can be made there', remedy: 'Name a folder on a disk as CHUTE_DATA_DIR.' },
  ENOTDIR: noFolder,
  EEXIST: noFolder,
}

const versionPrefix = 'chute data folder, format '
/** `CHUTE_DATA_DIR` has folders of workers. To be raised whenever an older version could not read what this version writes. */
export const formatOfWorkers = 3
/** Records can have headers of their own. */
export const formatVersion = 2
/** A folder stays at it as long as no durable stream has `headers`. */
const formatWithoutHeaders = 1
