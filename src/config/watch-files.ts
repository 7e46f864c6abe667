import { type BigIntStats, type FSWatcher, readlinkSync, statSync, watch } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** Files that are watched. */
export interface FileWatch {
  /** Watches no longer. */
  close(): void
}

/**
 * Calls `onChange` after one of the files has changed, was replaced, came or went. Changes within {@link settleMs} are told
 * together, since a certificate and its key are two files. Holds no process open.
 *
 * The folders are watched, and not the files: editors and cert-manager write a new file and rename it, and a Secret or
 * ConfigMap of Kubernetes is a link beside the file (`..data`) that is swapped. The folder above is watched too, so that a
 * folder that is made anew, or is itself a link that is swapped, is noticed. Where a file is a link, the folders of what the
 * link names are watched as well. A folder that cannot be watched (a limit of
 * inotify, or a file system that tells nothing) is looked at every {@link lookEveryMs}. Some file systems of networks tell
 * nothing and say no error, so SIGHUP has to read the files in any case.
 */
export function watchFiles(paths: readonly string[], onChange: () => void): FileWatch {
  const files = paths.map((path) => resolve(path))
  let folders = new Set<string>()
  const watchers = new Map<string, { watcher: FSWatcher; identity: string }>()
  let known = files.map(stampOf).join()
  let timer: NodeJS.Timeout | null = null
  let isClosed = false

  const look = (): void => {
    timer = null
    if (isClosed) return
    watchFolders()
    const now = files.map(stampOf).join()
    if (now === known) return
    known = now
    onChange()
  }
  const lookIn = (delayMs: number): void => {
    timer ??= setTimeout(look, delayMs).unref()
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
        const watcher = watch(folder, { persistent: false }, () => lookIn(settleMs))
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
    if (watchers.size < folders.size) lookIn(0)
  }, lookEveryMs).unref()

  return {
    close() {
      isClosed = true
      clearInterval(looking)
      if (timer !== null) clearTimeout(timer)
      for (const { watcher } of watchers.values()) watcher.close()
    },
  }
}

/** The folders in which a change of a file can be seen: its own, and those of each link on the way to it; and those above. */
function foldersOf(path: string): string[] {
  const folders: string[] = []
  let at = path
  for (let links = 0; links <= mostLinks; links++) {
    folders.push(dirname(at), dirname(dirname(at)))
    try {
      at = resolve(dirname(at), readlinkSync(at))
    } catch {
      // It is no link, or is not there.
      break
    }
  }
  return folders
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
/** From the first sign of a change until the files are looked at. */
const settleMs = 200
/** How often files are looked at whose folders cannot be watched. */
const lookEveryMs = 10_000
