/**
 * What Redis runs as one step. A key's value is `c:owner:claim:fingerprint` while it is claimed and
 * `k:owner:claim:fingerprint` once it is kept; both run out by themselves. Where a gateway learned a key from its data
 * folder, and where an older version kept it, there is no number of the claim.
 *
 * The first argument is always the moment, in milliseconds of Redis's own clock, at which whoever asked gives up: what
 * Redis comes to later (it was stopped, or the network held the command back) has no effect, and answers nil.
 */
export const redisScripts = {
  /**
   * Says of each key what it is, and claims those that are new as `claim` of a store does (`dedupe-store.ts`). Arguments: what a claim's
   * value begins with, empty to claim nothing; the lease in milliseconds; how many keys are to be claimed, of which the
   * others are asked for; each key's fingerprint.
   */
  claim: `${unlessLate()}
local found, free, count = {}, ARGV[2] ~= '', tonumber(ARGV[4])
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if not value then
    found[i] = 'new'
  else
    local state, fingerprint = string.match(value, '^(.):[^:]*:[^:]*:(.*)$')
    local same = fingerprint == ARGV[i + 4]
    if state == 'k' then found[i] = same and 'seen' or 'reused'
    else found[i] = same and 'busy' or 'contested' end
    free = free and (found[i] == 'seen' or (found[i] == 'reused' and i > count))
  end
end
for i, key in ipairs(KEYS) do
  if free and i <= count and found[i] == 'new' then
    redis.call('SET', key, ARGV[2] .. ARGV[i + 4], 'PX', ARGV[3])
  end
end
return found`,
  /**
   * Three arguments a key. `keep`, the value, its time in milliseconds. `learn`, the same, unless another kept it since. `renew`, the same of a claim: nobody else's is
   * touched. `release`, what stands behind the state in the values of one claim, and nothing.
   */
  write: `${unlessLate()}
for i, key in ipairs(KEYS) do
  local what, one, other = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if what == 'keep' then
    redis.call('SET', key, one, 'PX', other)
  else
    local value = redis.call('GET', key)
    if what == 'learn' then
      if not value or string.sub(value, 1, 2) == 'c:' then redis.call('SET', key, one, 'PX', other) end
    elseif what == 'renew' then
      if not value or value == one then redis.call('SET', key, one, 'PX', other) end
    elseif value and string.sub(value, 2, #one + 1) == one then
      redis.call('DEL', key)
    end
  end
end
return 1`,
} as const

/** See {@link redisScripts}. */
export type RedisScript = keyof typeof redisScripts

function unlessLate(): string {
  return `local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then return false end`
}
