import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import type { Socket } from 'node:net'

/**
 * Starts a process whose owner alone decides when it ends: Ctrl-C in a terminal does not reach it. It never outlives its
 * owner, not even one that is killed: then a shell, whose input ends with the owner, kills it.
 */
export function spawnWatched(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, { ...options, detached: true })
  if (child.pid === undefined) return child
  const script = 'read -r _; kill -KILL "$1"'
  const watcher = spawn('sh', ['-c', script, 'sh', String(child.pid)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watcher.on('error', () => {}) // there is no sh: the process is not watched
  watcher.unref()
  const input = watcher.stdin as Socket | null
  input?.unref()
  child.once('exit', () => {
    watcher.kill('SIGKILL')
    input?.destroy()
  })
  return child
}
