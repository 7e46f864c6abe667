import { unlessLate } from '../redis-link.ts'

/**
 * Scripts that Redis runs as one step. The value of a key is `c:owner:claim:fingerprint` while the key is claimed, and
 * `k:owner:claim:fingerprint` once it is kept. Both expire by themselves. The number of the claim is empty if a gateway learned
 * the key from its data folder, or if an older version kept it.
 * The first argument is the time at which the caller gives up: {@link unlessLate}.
 */
export const redisScripts = {
  /**
   * Finds out what each key is, and claims the new ones, by the rule of `mayClaim` in `dedupe-store.ts`. Arguments: the beginning
   * of a claimed value, or nothing, to claim no key; the lease in milliseconds; how many keys are to be claimed (those behind them
   * are only asked for); the fingerprint of each key.
   */
  claim: `${unlessLate}
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
   * Writes keys. Three arguments a key:
   * - `keep`, the value, its time in milliseconds.
   * - `learn`, the value, its time. Does nothing if the key was kept meanwhile.
   * - `renew`, the value of a claim, its time. Does nothing if the key has another value.
   * - `release`, the part of the value behind the state, nothing. Does nothing if the key is of another claim.
   */
  write: `${unlessLate}
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
