import fs from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import type * as fileLocks from 'fs-native-extensions'
import type { Logger } from '../logger.ts'
import { realDisk } from './disk.ts'
import { findSegments, tellStray } from './find-segments.ts'
import { parseName, type Segment } from './segment.ts'

/** A data folder that the gateway cannot start with. The message says what is wrong, and what would be right. */
export class DataFolderError extends Error {
  override readonly name = 'DataFolderError'

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
  }
}

/**
 * `CHUTE_DATA_DIR`. One process at a time has it, by a lock of the kernel that ends with the process. Its format has a version.
 * Each durable stream has a folder of its own in it.
 */
export class DataFolder {
  readonly #path: string
  readonly #logger: Logger
  readonly #lockFd: number
  readonly #streamFds = new Map<string, number>()

  /**
   * @param streams names of the durable streams.
   * @param hasHeaders records of these streams have headers of their own.
   * @throws DataFolderError if the folder cannot be used, another process has it, or it holds records of other streams.
   */
  constructor(path: string, streams: readonly string[], logger: Logger, hasHeaders = false) {
    this.#path = path
    this.#logger = logger
    try {
      makeFolder(join(path, 'spool'))
      this.#lockFd = takeLock(path)
    } catch (error) {
      throw toDataFolderError(error, path)
    }
    try {
      checkVersion(path, streams, hasHeaders ? formatVersion : formatWithoutHeaders)
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
    const path = join(this.#path, 'spool', name)
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
    for (const name of fs.readdirSync(join(this.#path, 'spool'))) {
      if (streams.includes(name)) continue
      const path = join(this.#path, 'spool', name)
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
      checkVersion(this.#path, [], formatVersion)
    } catch (error) {
      throw toDataFolderError(error, this.#path)
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
 * Makes a folder, and syncs the names of all folders that were made. Without that, a power cut could take a synced file
 * together with the name of a folder above it.
 */
function makeFolder(path: string): void {
  const first = fs.mkdirSync(path, { recursive: true, mode: 0o700 })
  if (first === undefined) return
  const highest = dirname(resolve(first))
  for (let above = dirname(resolve(path)); above.startsWith(highest); above = dirname(above)) {
    try {
      syncFolder(above)
    } catch (error) {
      // A folder that this user may write to, and not read, cannot be synced. The kernel decides when the name is on disk.
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    }
    if (above === highest) return
  }
}

function syncFolder(path: string): void {
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

function takeLock(folder: string): number {
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
  throw new DataFolderError(
    `${folder} is in use by another gateway${owner === '' ? '' : ` (process ${owner})`}. ` +
      `Give each gateway a CHUTE_DATA_DIR of its own.`,
  )
}

/**
 * Checks the version of the folder's format. In a new folder, the version is the first thing that is written.
 * @param needed the version of what is going to be written. An older folder gets this version.
 */
function checkVersion(folder: string, streams: readonly string[], needed: number): void {
  const path = join(folder, 'version')
  if (!fs.existsSync(path)) {
    const spool = join(folder, 'spool')
    if (fs.readdirSync(spool).some((name) => streams.includes(name) || holdsLog(join(spool, name)))) {
      throw new DataFolderError(
        `${folder} holds a spool, but no file that says its version. Put the file back, or move the folder away.`,
      )
    }
    writeVersion(folder, needed)
    return
  }
  const text = fs.readFileSync(path, 'utf8').trim()
  const version = text.startsWith(versionPrefix) ? Number(text.slice(versionPrefix.length)) : Number.NaN
  if (version >= formatWithoutHeaders && version <= formatVersion) {
    if (version < needed) writeVersion(folder, needed)
    return
  }
  const age = version > formatVersion ? 'a newer' : 'another'
  throw new DataFolderError(
    `${folder} was written by ${age} version of Chute (its format is "${text}", and this version reads ` +
      `"${versionPrefix}${formatWithoutHeaders}" and "${versionPrefix}${formatVersion}"). Let that version send what is in it, or give another CHUTE_DATA_DIR.`,
  )
}

function writeVersion(folder: string, version: number): void {
  const path = join(folder, 'version')
  fs.writeFileSync(`${path}.new`, `${versionPrefix}${version}\n`, { mode: 0o600, flush: true })
  fs.renameSync(`${path}.new`, path)
  syncFolder(folder)
}

function toDataFolderError(error: unknown, path: string): DataFolderError {
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
  ENOTDIR: noFolder,
  EEXIST: noFolder,
}

const versionPrefix = 'chute data folder, format '
/** To be raised whenever an older version could not read what this version writes. */
const formatVersion = 2
/** What older versions can read: a folder stays at it as long as no durable stream has `headers`. */
const formatWithoutHeaders = 1
