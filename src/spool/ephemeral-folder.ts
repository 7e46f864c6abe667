import fs from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Config } from '../config/config.ts'

/**
 * Says what a data folder is lost with, where it does not outlive its container or the machine's next start: a 202 that is
 * answered from there is not durable. Makes nothing: of a folder that is not there yet, the first folder above it that is
 * there is looked at.
 * @param typeOf the magic number of the file system that a path is on, as statfs(2) tells it. Throws where there is no such path.
 * @returns null for every other file system, and for a folder that cannot be looked at: whoever opens it says why.
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
  /** As mount(8) names it. */
  readonly fileSystem: string
  /** A noun: the folder goes with it. */
  readonly goesWith: string
}

/**
 * One sentence for an operator whose data folder does not last, with both ways out.
 * @returns null where the folder lasts, where no stream needs one, and where `CHUTE_DATA_DIR_EPHEMERAL` says that this is wanted.
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

/** From Linux' include/uapi/linux/magic.h. Other systems have other numbers, all of them small. */
const ephemeralKinds: ReadonlyMap<number, EphemeralFolder> = new Map([
  [0x794c7630, { fileSystem: 'overlayfs', goesWith: 'the container' }],
  [0x61756673, { fileSystem: 'aufs', goesWith: 'the container' }],
  [0x01021994, { fileSystem: 'tmpfs', goesWith: 'the memory that holds it' }],
  [0x858458f6, { fileSystem: 'ramfs', goesWith: 'the memory that holds it' }],
])
