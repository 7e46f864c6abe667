import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { pass, settlePromises, useVirtualClock } from '../../../support/virtual-clock.ts'

beforeEach(() => useVirtualClock())
afterEach(() => vi.useRealTimers())

test('reserve takes all of it or none of it', () => {
  const memory = new BufferMemory(100)
  expect(memory.reserve(60)).toBe(true)
  expect(memory.reserve(41)).toBe(false)
  expect(memory.availableBytes).toBe(40)
  expect(memory.reserve(40)).toBe(true)
  expect(memory.availableBytes).toBe(0)
})

describe('reserveOrWait', () => {
  test('serves those who wait in their order, and lets nobody pass them', async () => {
    const memory = new BufferMemory(100)
    memory.reserve(100)
    const order: string[] = []
    void memory.reserveOrWait(80, 1_000).then((granted) => order.push(`large ${granted}`))
    void memory.reserveOrWait(10, 1_000).then((granted) => order.push(`small ${granted}`))
    memory.release(50)
    await settlePromises()
    expect(order).toEqual([])
    expect(memory.reserve(10)).toBe(false)
    memory.release(50)
    await settlePromises()
    expect(order).toEqual(['large true', 'small true'])
    expect(memory.availableBytes).toBe(10)
  })

  test('gives up after max.block.ms, and the next one gets its turn', async () => {
    const memory = new BufferMemory(100)
    memory.reserve(90)
    const outcomes: string[] = []
    void memory.reserveOrWait(50, 100).then((granted) => outcomes.push(`first ${granted}`))
    void memory.reserveOrWait(10, 1_000).then((granted) => outcomes.push(`second ${granted}`))
    await pass(99)
    expect(outcomes).toEqual([])
    await pass(1)
    expect(outcomes).toEqual(['first false', 'second true'])
    expect(memory.availableBytes).toBe(0)
  })

  test('refuses at once what will never fit, and holds up nobody with it', async () => {
    const memory = new BufferMemory(100)
    expect(await memory.reserveOrWait(101, 60_000)).toBe(false)
    expect(memory.reserve(100)).toBe(true)
  })

  test('those who wait hold no more than the buffer does', async () => {
    const memory = new BufferMemory(100)
    memory.reserve(100)
    const first = memory.reserveOrWait(70, 1_000)
    expect(await memory.reserveOrWait(31, 1_000)).toBe(false)
    const second = memory.reserveOrWait(30, 1_000)
    memory.release(100)
    expect(await Promise.all([first, second])).toEqual([true, true])
    const third = memory.reserveOrWait(100, 10)
    await pass(10)
    expect(await third).toBe(false)
    const fourth = memory.reserveOrWait(100, 1_000)
    memory.release(100)
    expect(await fourth).toBe(true)
  })

  test('close sends everybody away', async () => {
    const memory = new BufferMemory(10)
    memory.reserve(10)
    const waiting = [memory.reserveOrWait(1, 60_000), memory.reserveOrWait(1, 60_000)]
    memory.close()
    expect(await Promise.all(waiting)).toEqual([false, false])
    expect(vi.getTimerCount()).toBe(0)
  })
})

test('the drain rate is that of the last five seconds', async () => {
  const memory = new BufferMemory(10_000)
  memory.reserve(10_000)
  memory.release(5_000)
  expect(memory.drainBytesPerSecond).toBe(1_000)
  await pass(4_000)
  expect(memory.drainBytesPerSecond).toBe(1_000)
  await pass(1_500)
  expect(memory.drainBytesPerSecond).toBe(0)
})

/** What {@link BufferMemory} has to do, without a thought for speed. */
class Model {
  used = 0
  waiters: { id: number; size: number; untilMs: number }[] = []
  readonly outcomes = new Map<number, boolean>()
  readonly total: number

  constructor(total: number) {
    this.total = total
  }

  reserve(size: number): boolean {
    if (this.waiters.length > 0 || this.used + size > this.total) return false
    this.used += size
    return true
  }

  serve(): void {
    for (let first = this.waiters[0]; first !== undefined; first = this.waiters[0]) {
      if (this.used + first.size > this.total) return
      this.used += first.size
      this.outcomes.set(first.id, true)
      this.waiters.shift()
    }
  }

  pass(nowMs: number): void {
    const due = this.waiters
      .filter(({ untilMs }) => untilMs <= nowMs)
      .toSorted((a, b) => a.untilMs - b.untilMs)
    for (const waiter of due) {
      if (!this.waiters.includes(waiter)) continue
      this.waiters = this.waiters.filter((other) => other !== waiter)
      this.outcomes.set(waiter.id, false)
      this.serve()
    }
  }
}

test('any order of reserving, waiting and releasing agrees with the model', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('reserve' as const), size: fc.integer({ min: 1, max: 60 }) }),
    fc.record({ kind: fc.constant('wait' as const), size: fc.integer({ min: 1, max: 60 }) }),
    fc.record({ kind: fc.constant('release' as const), size: fc.integer({ min: 1, max: 60 }) }),
    fc.record({ kind: fc.constant('pass' as const), size: fc.integer({ min: 1, max: 60 }) }),
  )
  const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
    const memory = new BufferMemory(100)
    const model = new Model(100)
    const outcomes = new Map<number, boolean>()
    for (const [id, { kind, size }] of steps.entries()) {
      if (kind === 'reserve') {
        expect(memory.reserve(size)).toBe(model.reserve(size))
      } else if (kind === 'wait') {
        void memory.reserveOrWait(size, 50).then((granted) => outcomes.set(id, granted))
        const waiting = model.waiters.reduce((sum, waiter) => sum + waiter.size, 0)
        if (model.reserve(size)) model.outcomes.set(id, true)
        else if (waiting + size > 100) model.outcomes.set(id, false)
        else model.waiters.push({ id, size, untilMs: performance.now() + 50 })
      } else if (kind === 'release') {
        const released = Math.min(size, model.used)
        memory.release(released)
        model.used -= released
        model.serve()
      } else {
        await pass(size)
        model.pass(performance.now())
      }
      await settlePromises()
      expect(memory.availableBytes).toBe(100 - model.used)
      expect([...outcomes].toSorted(([a], [b]) => a - b)).toEqual(
        [...model.outcomes].toSorted(([a], [b]) => a - b),
      )
    }
    memory.close()
  })
  await fc.assert(property, { numRuns: 200 })
})

test('room that was not needed has not drained', () => {
  const memory = new BufferMemory(1_000)
  memory.reserve(500)
  memory.unreserve(400)
  expect(memory).toMatchObject({ availableBytes: 900, drainBytesPerSecond: 0 })
  memory.release(100)
  expect(memory).toMatchObject({ availableBytes: 1_000, drainBytesPerSecond: 20 })
})

test('room that is taken beyond the limit leaves none, and no less than none', () => {
  const memory = new BufferMemory(100)
  memory.take(121)
  expect(memory.availableBytes).toBe(0)
  expect(memory.reserve(1)).toBe(false)
  memory.unreserve(31)
  expect(memory.availableBytes).toBe(10)
})
