import { type BigIntStats, type FSWatcher, lstatSync, readlinkSync, statSync, watch } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** Files that are watched. */
export interface FileWatch {
  /** Watches other files from now on. A file that was not watched before counts as changed. */
  follow(paths: readonly string[]): void
  /** Watches no longer. */
  close(): void
}

/**
 * Calls `onChange` after one of the files has changed, was replaced, came or went. Holds no process open. A change is told when nothing
 * has moved for {@link settleMs}, or {@link longestWaitMs} after its first sign: a certificate and its key are two files, and a file can
 * be written in several steps.
 *
 * The folders are watched, and not the files: editors and cert-manager write a new file and rename it, and a Secret or
 * ConfigMap of Kubernetes is a link beside the file (`..data`) that is swapped. The folder above is watched too, so that a
 * folder that is made anew, or is itself a link that is swapped, is noticed. Where a file is a link, the folders of what the
 * link names are watched as well. A folder that cannot be watched (a limit of
 * inotify, or a file system that tells nothing) is looked at every {@link lookEveryMs}. Some file systems of networks tell
 * nothing and say no error, so SIGHUP has to read the files in any case.
 */
export function watchFiles(paths: readonly string[], onChange: () => void): FileWatch {
  let files = paths.map((path) => resolve(path))
  let folders = new Set<string>()
  const watchers = new Map<string, { watcher: FSWatcher; identity: string }>()
  let known = new Map(files.map((file) => [file, stampOf(file)]))
  let timer: NodeJS.Timeout | null = null
  let waitsSinceMs: number | null = null
  let isClosed = false

  const look = (): void => {
    timer = null
    waitsSinceMs = null
    if (isClosed) return
    watchFolders()
    const now = new Map(files.map((file) => [file, stampOf(file)]))
    const isSame = files.every((file) => now.get(file) === known.get(file))
    known = now
    if (!isSame) onChange()
  }
  const lookSoon = (): void => {
    const nowMs = performance.now()
    waitsSinceMs ??= nowMs
    if (timer !== null) clearTimeout(timer)
    const leftMs = waitsSinceMs + longestWaitMs - nowMs
    timer = setTimeout(look, Math.max(0, Math.min(settleMs, leftMs))).unref()
  }
  /** Watches each folder that is there now. A watcher stays with the folder that it was made for, whatever takes its name. */
  const watchFolders = (): void => {
    folders = new Set(files.flatMap(foldersOf))
    for (const [folder, { watcher }] of watchers) {
      if (folders.has(folder)) continue
      watcher.close()
      watchers.delete(folder)
    }
    for (const folder of folders) {
      const identity = identityOf(folder)
      const old = watchers.get(folder)
      if (old !== undefined && old.identity === identity) continue
      old?.watcher.close()
      watchers.delete(folder)
      if (identity === '') continue
      try {
        const watcher = watch(folder, { persistent: false }, lookSoon)
        watcher.on('error', () => {
          watchers.delete(folder)
          watcher.close()
        })
        watchers.set(folder, { watcher, identity })
      } catch {
        // Looked at by the clock, below.
      }
    }
  }
  watchFolders()
  const looking = setInterval(() => {
    if (watchers.size < folders.size && timer === null) look()
  }, lookEveryMs).unref()

  return {
    follow(others) {
      files = others.map((path) => resolve(path))
      watchFolders()
      // What is not known yet may have changed since it was read.
      if (files.some((file) => !known.has(file))) lookSoon()
    },
    close() {
      isClosed = true
      clearInterval(looking)
      if (timer !== null) clearTimeout(timer)
      for (const { watcher } of watchers.values()) watcher.close()
    },
  }
}

/** The folders in which a change of a file can be seen: its own, and those of each link on the way to it; and those above. A folder on the way may be a link. */
function foldersOf(path: string): string[] {
  const folders: string[] = []
  let at = path
  for (let links = 0; links <= mostLinks; links++) {
    folders.push(dirname(at), dirname(dirname(at)))
    for (let above = dirname(at); above !== dirname(above); above = dirname(above))
      if (isLink(above)) folders.push(dirname(above))
    try {
      at = resolve(dirname(at), readlinkSync(at))
    } catch {
      // It is no link, or is not there.
      break
    }
  }
  return folders
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink()
  } catch {
    return false
  }
}

/** Tells one version of a file from the next; links are followed. */
function stampOf(path: string): string {
  const stat = statOf(path)
  return stat === null ? '' : [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(':')
}

function identityOf(folder: string): string {
  const stat = statOf(folder)
  return stat?.isDirectory() === true ? `${stat.dev}:${stat.ino}` : ''
}

function statOf(path: string): BigIntStats | null {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return null
  }
}

/** As many links in a row as Linux follows. */
const mostLinks = 40
/** From the last sign of a change until the files are looked at. */
const settleMs = 200
/** The same from the first sign, where signs do not end: a log in the same folder, or a large file that is being written. */
const longestWaitMs = 600
/** How often files are looked at whose folders cannot be watched. */
const lookEveryMs = 10_000
