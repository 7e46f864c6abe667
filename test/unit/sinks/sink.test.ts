import { describe, expect, test } from 'vitest'
import { Breakable } from '../../../src/sinks/sink.ts'

const never = new AbortController().signal

describe('a piece of work', () => {
  test('ends when it says so', async () => {
    const breakable = new Breakable()
    await breakable.do((done) => setImmediate(done), never)
    await expect(breakable.do((_, fail) => fail(new Error('no')), never)).rejects.toThrow('no')
    await breakable.do((done) => done(), never)
  })

  test('ends when the whole breaks, and so does every later one, for the first reason', async () => {
    const breakable = new Breakable()
    const piece = breakable.do(() => {}, never)
    breakable.breakOff(new Error('it is gone'))
    breakable.breakOff(new Error('again'))
    await expect(piece).rejects.toThrow('it is gone')
    await expect(breakable.do((done) => done(), never)).rejects.toThrow('it is gone')
  })

  test('ends at the signal, and does not begin after it', async () => {
    const breakable = new Breakable()
    const stop = new AbortController()
    const piece = breakable.do(() => {}, stop.signal)
    stop.abort()
    await expect(piece).rejects.toThrow('the time to stop is up')
    const begun: string[] = []
    await expect(breakable.do(() => void begun.push('begun'), stop.signal)).rejects.toThrow()
    expect(begun).toEqual([])
  })
})
