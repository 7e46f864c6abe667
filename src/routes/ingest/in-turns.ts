import { sendReplies } from '../http/raw-reply.ts'

/** Work on a body. Returns the work that is left, or nothing. */
export type Job = () => Job | undefined

/** Jobs that wait for a turn of the event loop, oldest first. */
const waiting: Job[] = []
/** Calls that are made when fewer jobs wait, oldest first. */
const heldBack: (() => void)[] = []
/** How many of these calls were made in this turn. */
let begun = 0
let isTurnSet = false

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
 * Calls `begin` as soon as few jobs wait, which is usually at once. A few calls are made in each turn. Until then a large body stays with the kernel
 * and its client, and takes no memory here. Only jobs count, so a body that comes slowly does not hold back other bodies for longer than a turn.
 */
export function whenFewWait(begin: () => void): void {
  heldBack.push(begin)
  beginSome()
}

/** Begins some of what is held back: a few in each turn, less those that wait as jobs. */
function beginSome(): void {
  while (heldBack.length > 0 && waiting.length + begun < fewJobs) {
    begun++
    heldBack.shift()!()
  }
  if (isTurnSet || (begun === 0 && heldBack.length === 0)) return
  isTurnSet = true
  setImmediate(beginTurn)
}

function beginTurn(): void {
  isTurnSet = false
  begun = 0
  beginSome()
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

/** A turn of the event loop also reads sockets and collects garbage. All of it together stays well below 20 ms. */
const budgetMs = 2
/** Enough jobs to keep the loop busy while the next body is read. */
const fewJobs = 4
