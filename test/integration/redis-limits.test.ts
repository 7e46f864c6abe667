import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { LimitCounts, type Charge, type Verdict } from '../../src/limits/limit-counts.ts'
import { RedisLimits } from '../../src/limits/redis-limits.ts'
import { limitOf } from '../support/edge.ts'
import { LogKeeper } from '../support/producer-fixture.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'

let redis: TestRedis

/** A window that no test sees the end of. */
const windowMs = 3_600_000

async function open(prefix: string): Promise<RedisLimits> {
  const limits = new RedisLimits({ url: redis.store.url, prefix }, new LogKeeper())
  onTestFinished(() => limits.close())
  limits.start()
  await expect.poll(() => limits.isUp, { timeout: 10_000 }).toBe(true)
  return limits
}

async function charged(limits: RedisLimits, charge: Charge): Promise<Verdict | null> {
  return await new Promise((resolve) => limits.charge(charge, resolve))
}

describe.skipIf(!hasRedis)('the Redis of the limits', () => {
  beforeAll(async () => {
    redis = await startRedis()
  })

  afterAll(async () => {
    await redis.kill()
  })

  test('counts as the memory of one process does', async () => {
    const ids = fc.subarray(['key:a', 'key:a@192.0.2.7', 'address:192.0.2.7'], { minLength: 1 })
    const cost = fc.record({ requests: fc.nat(1), events: fc.nat(7), bytes: fc.nat(50) })
    const limits = await open('parity:')
    let run = 0
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(ids, cost), { maxLength: 20 }), async (charges) => {
        run++
        const memory = new LimitCounts()
        for (const [subjects, each] of charges) {
          const limit = limitOf({ requests: 5, events: 15, bytes: 100, windowMs, burst: 2 })
          const charge = { subjects: subjects.map((id) => ({ id: `${run}:${id}`, limit })), cost: each }
          const expected = memory.count(charge, 0)
          const verdict = await charged(limits, charge)
          // It is null where this machine was too busy to answer in time.
          if (verdict === null) return
          expect(verdict.refusedBy).toBe(expected.refusedBy)
          for (const [nth, { requests, events, bytes }] of expected.usages.entries())
            expect(verdict.usages[nth]).toMatchObject({ requests, events, bytes })
        }
      }),
      { numRuns: 50 },
    )
  })

  test('a window ends by the clock of Redis, and gives back what it allows', async () => {
    const limits = await open('windows:')
    const limit = limitOf({ requests: 1, windowMs: 200 })
    const charge = { subjects: [{ id: 'a', limit }], cost: { requests: 1, events: 0, bytes: 0 } }
    expect((await charged(limits, charge))?.refusedBy).toBe(-1)
    expect((await charged(limits, charge))?.refusedBy).toBe(0)
    await expect.poll(async () => (await charged(limits, charge))?.refusedBy, { timeout: 5_000 }).toBe(-1)
  })

  test('a clock that goes back keeps nobody out for longer than a window', async () => {
    const limits = await open('back:')
    const limit = limitOf({ requests: 1, windowMs: 200 })
    const charge = { subjects: [{ id: 'a', limit }], cost: { requests: 1, events: 0, bytes: 0 } }
    expect((await charged(limits, charge))?.refusedBy).toBe(-1)
    // As if the window had begun an hour later.
    const [key] = /back:\S+/.exec(await redis.ask('KEYS back:*'))!
    await redis.ask(`HINCRBY ${key} start 3600000`)
    await redis.ask(`PERSIST ${key}`)
    await expect.poll(async () => (await charged(limits, charge))?.refusedBy, { timeout: 5_000 }).toBe(-1)
  })

  test('gateways that share it never take more than the limit together', async () => {
    const both = [await open('shared:'), await open('shared:')]
    const limit = limitOf({ requests: 100, windowMs })
    const charge = { subjects: [{ id: 'a', limit }], cost: { requests: 1, events: 0, bytes: 0 } }
    let taken = 0
    let unanswered = 0
    for (let nth = 0; nth < 60; nth++) {
      const verdicts = await Promise.all(
        Array.from({ length: 6 }, async (_, each) => await charged(both[each % 2]!, charge)),
      )
      taken += verdicts.filter((verdict) => verdict?.refusedBy === -1).length
      // This machine was too busy to hear the answer in time. Redis has counted it, or not.
      unanswered += verdicts.filter((verdict) => verdict === null).length
    }
    expect(taken).toBeLessThanOrEqual(100)
    expect(taken).toBeGreaterThanOrEqual(100 - unanswered)
  })

  test('a Redis that stops answering holds up nothing for longer than a moment, and then nothing at all', async () => {
    const limits = await open('stopped:')
    const limit = limitOf({ requests: 100, windowMs })
    const charge = { subjects: [{ id: 'a', limit }], cost: { requests: 1, events: 0, bytes: 0 } }
    redis.signal('SIGSTOP')
    onTestFinished(() => redis.signal('SIGCONT'))
    expect(await charged(limits, charge)).toBeNull()
    expect(limits.isUp).toBe(false)
    let isAnsweredAtOnce = false
    limits.charge(charge, (verdict) => (isAnsweredAtOnce = verdict === null))
    expect(isAnsweredAtOnce).toBe(true)
    redis.signal('SIGCONT')
    await expect.poll(() => limits.isUp, { timeout: 10_000 }).toBe(true)
    await expect.poll(async () => await charged(limits, charge), { timeout: 10_000 }).not.toBeNull()
    expect(limits.unanswered).toBeGreaterThanOrEqual(2)
  })
})
