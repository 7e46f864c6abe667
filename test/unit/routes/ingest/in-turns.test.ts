import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { inTurns, whenFewWait, type Job } from '../../../../src/routes/ingest/in-turns.ts'

let nowMs = 0

const log: number[] = []

/** Takes `ms`, notes its number and leaves the rest to do, if there is any. */
function jobOf(ms: number, nth: number, left?: Job): Job {
  return () => {
    nowMs += ms
    log.push(nth)
    return left
  }
}

/** What ran in each turn of the event loop in which anything did. */
async function turnsOf(jobs: number): Promise<number[][]> {
  const perTurn: number[][] = []
  expect(log).toEqual([])
  while (perTurn.flat().length < jobs) {
    await turn()
    if (log.length > 0) perTurn.push(log.splice(0))
  }
  return perTurn
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

beforeEach(() => {
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs)
})
afterEach(() => {
  vi.restoreAllMocks()
})

test('jobs run in order, in each turn of the event loop as many as begin within 2 ms', async () => {
  for (const [nth, ms] of [2, 2, 5, 1, 1, 1, 1].entries()) inTurns(jobOf(ms, nth))
  expect(await turnsOf(7)).toEqual([[0], [1], [2], [3, 4], [5, 6]])
})

test('what a job leaves to do comes before the next job, and in another turn when this one is over', async () => {
  inTurns(jobOf(4, 1, jobOf(1, 2, jobOf(1, 3))))
  inTurns(jobOf(1, 4))
  inTurns(jobOf(1, 5))
  expect(await turnsOf(5)).toEqual([[1], [2, 3], [4, 5]])
})

test('a job may ask for another one', async () => {
  await new Promise<void>((resolve) => {
    inTurns(() => {
      inTurns(() => {
        log.push(2)
        resolve()
        return undefined
      })
      log.push(1)
      return undefined
    })
  })
  expect(log.splice(0)).toEqual([1, 2])
})

test('what is held back begins as soon as fewer than four jobs wait, oldest first', async () => {
  const begun: string[] = []
  whenFewWait(() => begun.push('nothing waits'))
  for (let nth = 0; nth < 5; nth++) inTurns(jobOf(4, nth))
  for (const name of ['a', 'b', 'c']) whenFewWait(() => begun.push(name))
  expect(begun).toEqual(['nothing waits'])
  const begunInTurn: string[][] = []
  for (let nth = 0; nth < 3; nth++) {
    expect(await turnsOf(1)).toEqual([[nth]])
    begunInTurn.push(begun.splice(0))
  }
  expect(begunInTurn).toEqual([['nothing waits'], ['a'], ['b', 'c']])
  await turnsOf(2)
})

test('what is held back does not wait for what began before it and has not come', async () => {
  const begun: number[] = []
  for (let nth = 0; nth < 4; nth++) inTurns(jobOf(1, nth))
  for (let nth = 0; nth < 20; nth++) whenFewWait(() => begun.push(nth))
  await turnsOf(4)
  // Four more in each turn.
  for (let nth = 0; nth < 4; nth++) await turn()
  expect(begun).toEqual(Array.from({ length: 20 }, (_, nth) => nth))
})

test('a few of those that come at once begin in each turn, though no job waits', async () => {
  const begun: number[] = []
  for (let nth = 0; nth < 10; nth++) whenFewWait(() => begun.push(nth))
  const begunInTurn = [begun.splice(0).length]
  for (let nth = 0; nth < 2; nth++) {
    await turn()
    begunInTurn.push(begun.splice(0).length)
  }
  expect(begunInTurn).toEqual([4, 4, 2])
  await turn()
})
