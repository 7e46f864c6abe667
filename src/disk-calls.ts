import { setTimeout as pause } from 'node:timers/promises'

/** Whether a call to a disk is under way. Such a call may never end. */
export function areDiskCallsUnderWay(): boolean {
  return process.getActiveResourcesInfo().some((name) => name.startsWith('FSReq'))
}

/**
 * Ends the process, and never returns. Node's own exit waits for its threads, and so for a call to a disk that hangs. If such a call
 * does not end within 300 ms, the process kills itself. `worker-group.ts` allows for this time. All logs must be written before.
 */
export async function leave(exitCode: number): Promise<never> {
  const untilMs = performance.now() + lastCallsMs
  while (areDiskCallsUnderWay() && performance.now() < untilMs) await pause(10)
  if (areDiskCallsUnderWay()) process.kill(process.pid, 'SIGKILL')
  process.exit(exitCode)
}

const lastCallsMs = 300
