import fs from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Config } from '../config/config.ts'

/**
 * Finds out whether a data folder goes with its container or with the machine's next start. A 202 from such a folder is not
 * durable. Makes no folder: if the folder is not there yet, the nearest folder above it is looked at.
 * @param typeOf gives the magic number of the file system that a path is on, as statfs(2) does. Throws if there is no such path.
 * @returns null if the folder is on any other file system, or cannot be looked at. Whoever opens the folder tells the error.
 */
export function ephemeralFolder(
  path: string,
  typeOf: (path: string) => number = readType,
): EphemeralFolder | null {
  const type = typeOfNearest(resolve(path), typeOf)
  return type === null ? null : (ephemeralKinds.get(type) ?? null)
}

/** See {@link ephemeralFolder}. */
export interface EphemeralFolder {
  /** Its name in mount(8). */
  readonly fileSystem: string
  /** What the folder goes with: a noun. */
  readonly goesWith: string
}

/**
 * Warns an operator whose data folder does not last, and names both ways out.
 * @returns null if the folder lasts, if no stream needs a folder, or if `CHUTE_DATA_DIR_EPHEMERAL` says that this is wanted.
 */
export function warningOfFolder(
  { dataDir, dataDirEphemeral, streams }: Pick<Config, 'dataDir' | 'dataDirEphemeral' | 'streams'>,
  typeOf?: (path: string) => number,
): string | null {
  if (dataDir === null || dataDirEphemeral || streams.every(({ spool }) => spool === null)) return null
  const found = ephemeralFolder(dataDir, typeOf)
  if (found === null) return null
  return (
    `CHUTE_DATA_DIR: ${dataDir} is on ${found.fileSystem} and goes with ${found.goesWith}, so no 202 says durable. ` +
    'Mount a volume there, or set CHUTE_DATA_DIR_EPHEMERAL=true to have it called durable all the same.'
  )
}

function typeOfNearest(path: string, typeOf: (path: string) => number): number | null {
  for (let at = path; ; at = dirname(at)) {
    try {
      return typeOf(at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === dirname(at)) return null
    }
  }
}

function readType(path: string): number {
  return fs.statfsSync(path).type
}

/** Numbers of Linux (include/uapi/linux/magic.h). Other systems have other numbers, and all of those are small. */
const ephemeralKinds: ReadonlyMap<number, EphemeralFolder> = new Map([
  [0x794c7630, { fileSystem: 'overlayfs', goesWith: 'the container' }],
  [0x61756673, { fileSystem: 'aufs', goesWith: 'the container' }],
  [0x01021994, { fileSystem: 'tmpfs', goesWith: 'the memory that holds it' }],
  [0x858458f6, { fileSystem: 'ramfs', goesWith: 'the memory that holds it' }],
])
