/** Jobs that wait for a turn of the event loop, oldest first. */
const waiting: (() => void)[] = []

/**
 * Runs jobs one a turn of the event loop, in order: large bodies that become complete at once must not block it for as long
 * as all of them take. What else is ready (small requests, confirmations, timers) comes in between.
 */
export function oneATurn(job: () => void): void {
  waiting.push(job)
  if (waiting.length === 1) setImmediate(runNext)
}

function runNext(): void {
  const job = waiting[0]
  try {
    job?.()
  } finally {
    waiting.shift()
    if (waiting.length > 0) setImmediate(runNext)
  }
}
