import { expect, it } from 'vitest'
import type { RateLimit } from '../../../../src/config/limits.ts'
import type { Usage } from '../../../../src/limits/limit-counts.ts'
import { RateLimitFields } from '../../../../src/routes/policy/rate-limit-fields.ts'

const minute: RateLimit = { requests: null, events: null, bytes: null, windowMs: 60_000, burst: 1 }
const used = (usage: Partial<Usage>): Usage => ({ requests: 0, events: 0, bytes: 0, openMs: 0, ...usage })

it('names each policy, and what is left of it', () => {
  const fields = new RateLimitFields([
    { owner: 'key', limit: { ...minute, requests: 5, events: 70, bytes: 1_000, burst: 2 } },
    { owner: 'address', limit: { ...minute, requests: 20_000, windowMs: 500 } },
  ])
  const usages = [used({ requests: 1, events: 2, bytes: 300 }), used({ requests: 1, openMs: 499 })]
  expect(fields.lines(usages)).toBe(
    'ratelimit-policy: "key-requests";q=5;w=60, "key-events";q=70;qu="events";w=60, "key-bytes";q=1000;qu="content-bytes";w=60, "default";q=20000;w=1\r\n' +
      'ratelimit: "key-requests";r=9;t=60, "key-events";r=138;t=60, "key-bytes";r=1700;t=60, "default";r=19999;t=1\r\n',
  )
})

it('has right numbers in each reply, whatever they were in the one before', () => {
  const lefts = [12, 10, 9, 0, 5, 1_000, 999, 10_001, 10_000, 9_999, 123_456_789, 123_456_788, 123_446_788, 7]
  const seconds = [3_600, 3_599, 100, 99, 10, 9, 1, 86_400, 10_000, 9_999]
  const quota = 2_000_000_000
  const fields = new RateLimitFields([
    { owner: 'key', limit: { ...minute, events: quota, windowMs: 100_000_000 } },
    { owner: 'key_address', limit: { ...minute, bytes: quota } },
  ])
  for (let nth = 0; nth < lefts.length * seconds.length; nth++) {
    const [left, t] = [lefts[nth % lefts.length]!, seconds[nth % seconds.length]!]
    const key = used({ events: quota - left, openMs: 100_000_000 - t * 1000 })
    const address = used({ bytes: quota - left * 2, openMs: nth })
    const [, ratelimit] = fields.lines([key, address]).split('\r\n')
    expect(ratelimit).toBe(`ratelimit: "key-events";r=${left};t=${t}, "key-address-bytes";r=${left * 2};t=60`)
  }
})

it('tells what is left of a quota above the largest safe integer', () => {
  const quota = Number.MAX_SAFE_INTEGER
  const fields = new RateLimitFields([{ owner: 'key', limit: { ...minute, bytes: quota, burst: 1_000 } }])
  for (const bytes of [0, 10_000, 20_000])
    expect(fields.lines([used({ bytes })])).toContain(`"key-bytes";r=${quota * 1_000 - bytes};t=60\r\n`)
})

it('says that nothing is left of what was overdrawn', () => {
  const fields = new RateLimitFields([{ owner: 'address', limit: { ...minute, requests: 3 } }])
  for (const requests of [1, 3, 5])
    expect(fields.lines([used({ requests })])).toContain(
      `ratelimit: "default";r=${Math.max(0, 3 - requests)};t=60`,
    )
})

it('has right numbers where a reply takes much of the limit', () => {
  const quota = 987_654_321
  const fields = new RateLimitFields([{ owner: 'key', limit: { ...minute, bytes: quota } }])
  for (let bytes = 0; bytes < quota; bytes += 12_345_678)
    expect(fields.lines([used({ bytes })])).toContain(`"key-bytes";r=${quota - bytes};t=60\r\n`)
})

it('says that a window has ended which a reload made shorter', () => {
  const fields = new RateLimitFields([{ owner: 'key', limit: { ...minute, requests: 9, windowMs: 1_000 } }])
  for (const openMs of [0, 999, 20_000, 21_000])
    expect(fields.lines([used({ requests: 1, openMs })])).toContain(`r=8;t=${openMs < 1_000 ? 1 : 0}\r\n`)
})
