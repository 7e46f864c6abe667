import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createClient } from '@redis/client'
import { redisScripts } from '../../src/dedupe/redis-scripts.ts'
import { ModelRedis } from '../support/model-redis.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'

const mark = fc.constantFrom('c:one:1:', 'c:one:2:', 'c:other:1:', '')
const value = fc.constantFrom('k:one:1:x', 'k:one:2:x', 'k:other:1:y', 'c:one:1:x', 'c:other:1:x')
const fingerprint = fc.constantFrom('x', 'y', '')
const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 })
const write = fc.oneof(
  fc.tuple(fc.constantFrom('keep', 'learn', 'renew'), value, fc.constant('60000')),
  fc.tuple(fc.constant('release'), fc.constantFrom(':one:1:', ':one:2:', ':other:1:'), fc.constant('')),
)

/** A script, and its keys and arguments. */
const call = fc.oneof(
  fc
    .tuple(names, mark, fc.array(fingerprint, { minLength: 3, maxLength: 3 }), fc.integer({ min: 0, max: 3 }))
    .map(([keys, begin, prints, count]) => ({
      script: redisScripts.claim,
      keys,
      args: [begin, '60000', String(Math.min(count, keys.length)), ...prints.slice(0, keys.length)],
    })),
  fc.tuple(names, fc.array(write, { minLength: 3, maxLength: 3 })).map(([keys, writes]) => ({
    script: redisScripts.write,
    keys,
    args: writes.slice(0, keys.length).flat(),
  })),
)

describe.skipIf(!hasRedis)('the model of Redis (needs redis-server)', () => {
  let redis: TestRedis
  beforeAll(async () => void (redis = await startRedis()))
  afterAll(async () => await redis.kill())

  test('answers any scripts as a real one does, those that come too late too', async () => {
    const client = createClient({ url: redis.store.url })
    await client.connect()
    const isLate = fc.integer({ min: 0, max: 9 }).map((dice) => dice === 0)
    const property = fc.asyncProperty(
      fc.array(fc.tuple(call, isLate), { minLength: 5, maxLength: 30 }),
      async (calls) => {
        const model = new ModelRedis()
        await client.sendCommand(['FLUSHALL'])
        for (const [{ script, keys, args }, late] of calls) {
          const load = ['SCRIPT', 'LOAD', script]
          const sha: unknown = await client.sendCommand(load)
          expect(model.execute(load)).toBe(sha)
          const deadline = late ? '1' : '9000000000000'
          const command = ['EVALSHA', sha as string, String(keys.length), ...keys, deadline, ...args]
          expect(model.execute(command)).toEqual(await client.sendCommand(command))
        }
      },
    )
    try {
      await fc.assert(property, { numRuns: 100 })
    } finally {
      client.destroy()
    }
  })
})
