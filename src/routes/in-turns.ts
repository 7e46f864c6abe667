/** Work on a body. Returns what is left to do, or nothing. */
export type Job = () => Job | undefined

/** Jobs that wait for a turn of the event loop, oldest first. */
const waiting: Job[] = []

/**
 * Runs jobs in order, in each turn of the event loop as many as begin within `budgetMs`: bodies that become complete at once
 * must not block it for as long as all of them take. What else is ready (small requests, confirmations, timers) comes in
 * between. What a job leaves to do comes before the next job.
 */
export function inTurns(job: Job): void {
  waiting.push(job)
  if (waiting.length === 1) setImmediate(runNext)
}

function runNext(): void {
  const untilMs = performance.now() + budgetMs
  try {
    do {
      // It stays in the queue while it runs, so that a job that asks for another does not start a second round.
      const left = waiting[0]!()
      if (left === undefined) waiting.shift()
      else waiting[0] = left
    } while (waiting.length > 0 && performance.now() < untilMs)
  } catch (error) {
    waiting.shift()
    throw error
  } finally {
    if (waiting.length > 0) setImmediate(runNext)
  }
}

/** A turn also reads what came in and collects garbage: together they are to stay well below 20 ms. */
const budgetMs = 3
