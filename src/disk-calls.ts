import { setTimeout as pause } from 'node:timers/promises'

/** Whether a call to a disk has not ended: then whatever waits for the disk may wait for ever. */
export function areDiskCallsUnderWay(): boolean {
  return process.getActiveResourcesInfo().some((name) => name.startsWith('FSReq'))
}

/**
 * Ends the process, and never returns. Node's own exit waits for its threads, and so for a call to a disk that hangs: where
 * such a call does not end in a moment, the process kills itself, with all that it had to say said before.
 */
export async function leave(exitCode: number): Promise<never> {
  const untilMs = performance.now() + lastCallsMs
  while (areDiskCallsUnderWay() && performance.now() < untilMs) await pause(10)
  if (areDiskCallsUnderWay()) process.kill(process.pid, 'SIGKILL')
  process.exit(exitCode)
}

const lastCallsMs = 300
