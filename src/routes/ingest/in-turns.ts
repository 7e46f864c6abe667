import { sendReplies } from '../http/raw-reply.ts'

/** Work on a body. Returns the work that is left, or nothing. */
export type Job = () => Job | undefined

/** Jobs that wait for a turn of the event loop, oldest first. */
const waiting: Job[] = []
/** Calls that are made when fewer jobs wait, oldest first. */
const heldBack: (() => void)[] = []

/**
 * Runs jobs in order. A turn of the event loop begins jobs for `budgetMs`, and the next turn goes on. So many bodies that are complete at the
 * same time do not block the loop: small requests, confirmations and timers get their turn in between. A job that has work left goes on before
 * the next job begins.
 */
export function inTurns(job: Job): void {
  waiting.push(job)
  if (waiting.length === 1) setImmediate(runNext)
}

/**
 * Calls `begin` as soon as few jobs wait, which is usually at once. Until then a large body stays with the kernel and its client, and takes no
 * memory here. Only jobs count, so a body that comes slowly does not hold back other bodies.
 */
export function whenFewWait(begin: () => void): void {
  if (waiting.length < fewJobs) begin()
  else heldBack.push(begin)
}

function runNext(): void {
  const untilMs = performance.now() + budgetMs
  try {
    do {
      // The job stays in the queue while it runs. A job that adds another job then starts no second round.
      const left = waiting[0]!()
      if (left === undefined) waiting.shift()
      else waiting[0] = left
      // The client of this job can send its next body while the next job runs.
      sendReplies()
    } while (waiting.length > 0 && performance.now() < untilMs)
  } catch (error) {
    waiting.shift()
    throw error
  } finally {
    if (waiting.length > 0) setImmediate(runNext)
    if (heldBack.length > 0) beginSome()
  }
}

/** Begins some of the bodies that are held back: all of them if no job waits, since bodies that were begun before may come slowly. */
function beginSome(): void {
  const count = waiting.length === 0 ? heldBack.length : Math.max(0, fewJobs - waiting.length)
  for (const begin of heldBack.splice(0, count)) begin()
}

/** A turn of the event loop also reads sockets and collects garbage. All of it together stays well below 20 ms. */
const budgetMs = 3
/** Enough jobs to keep the loop busy while the next body is read. */
const fewJobs = 4
