import { sendReplies } from '../http/raw-reply.ts'

/** Work on a body. Returns what is left to do, or nothing. */
export type Job = () => Job | undefined

/** Jobs that wait for a turn of the event loop, oldest first. */
const waiting: Job[] = []
/** What is to begin when fewer jobs wait, oldest first. */
const heldBack: (() => void)[] = []

/**
 * Runs jobs in order, in each turn of the event loop as many as begin within `budgetMs`: bodies that become complete at once
 * must not block it for as long as all of them take. What else is ready (small requests, confirmations, timers) comes in
 * between. What a job leaves to do comes before the next job.
 */
export function inTurns(job: Job): void {
  waiting.push(job)
  if (waiting.length === 1) setImmediate(runNext)
}

/**
 * Calls `begin` as soon as few jobs wait, which is usually at once: large bodies are better left with the kernel, which
 * makes their clients wait, than read into memory where they would do nothing but wait. One that is slow to come holds
 * nobody back: only jobs count.
 */
export function whenFewWait(begin: () => void): void {
  if (waiting.length < fewJobs) begin()
  else heldBack.push(begin)
}

function runNext(): void {
  const untilMs = performance.now() + budgetMs
  try {
    do {
      // It stays in the queue while it runs, so that a job that asks for another does not start a second round.
      const left = waiting[0]!()
      if (left === undefined) waiting.shift()
      else waiting[0] = left
      // Its client can send its next body while the next job runs.
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

/** As many as may wait, and all where nothing does: those that were begun before may be slow to come. */
function beginSome(): void {
  const count = waiting.length === 0 ? heldBack.length : Math.max(0, fewJobs - waiting.length)
  for (const begin of heldBack.splice(0, count)) begin()
}

/** A turn also reads what came in and collects garbage: together they are to stay well below 20 ms. */
const budgetMs = 3
/** Enough to keep busy: the next body is read while these are worked on. */
const fewJobs = 4
