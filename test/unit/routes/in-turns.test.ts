import { afterEach, expect, test, vi } from 'vitest'
import { inTurns } from '../../../src/routes/in-turns.ts'

let nowMs = 0

function jobOf(ms: number, run: () => void): () => void {
  return () => {
    nowMs += ms
    run()
  }
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

afterEach(() => {
  vi.restoreAllMocks()
})

test('jobs run in order, in each turn of the event loop as many as begin within 3 ms', async () => {
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs)
  const log: number[] = []
  for (const [nth, ms] of [2, 2, 5, 1, 1, 1, 1].entries()) inTurns(jobOf(ms, () => log.push(nth)))
  const perTurn: number[][] = []
  expect(log).toEqual([])
  while (perTurn.flat().length < 7) {
    await turn()
    perTurn.push(log.splice(0))
  }
  expect(perTurn.filter((ran) => ran.length > 0)).toEqual([[0, 1], [2], [3, 4, 5], [6]])
})

test('a job may ask for another one', async () => {
  const log: string[] = []
  await new Promise<void>((resolve) => {
    inTurns(() => {
      inTurns(() => {
        log.push('second')
        resolve()
      })
      log.push('first')
    })
  })
  expect(log).toEqual(['first', 'second'])
})
