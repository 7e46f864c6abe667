import { expect, test } from 'vitest'
import { oneATurn } from '../../../src/routes/one-a-turn.ts'

test('jobs run in order, one in each turn of the event loop', async () => {
  const log: string[] = []
  for (const job of ['a', 'b', 'c']) oneATurn(() => log.push(job))
  expect(log).toEqual([])
  for (let turn = 1; log.length < 3; turn++) {
    await new Promise((resolve) => setImmediate(resolve))
    expect(log.length).toBeLessThanOrEqual(turn)
  }
  expect(log).toEqual(['a', 'b', 'c'])
})

test('a job may ask for another one, which gets a turn of its own', async () => {
  const log: string[] = []
  await new Promise<void>((resolve) => {
    oneATurn(() => {
      log.push('first')
      oneATurn(() => {
        log.push('second')
        resolve()
      })
      setImmediate(() => log.push('in between'))
    })
  })
  expect(log[0]).toBe('first')
  expect(log).toContain('second')
})
