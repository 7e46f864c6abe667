import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { dropReasonOf, outcomes, outcomeTraits } from '../../../../src/kafka/producer/outcome.ts'

test.each([
  [32, 'invalid_timestamp'],
  [87, 'invalid_record'],
  [2, 'corrupt_message'],
  [76, 'unsupported_compression_type'],
  [44, 'policy_violation'],
  [19, 'not_enough_replicas'],
  [6, 'not_leader_or_follower'],
  [10, 'message_too_large'],
  [18, 'message_too_large'],
  [3, 'unknown_topic'],
  [29, 'not_authorized'],
  [31, 'not_authorized'],
  [53, 'not_authorized'],
  [43, 'broker_rejected'],
  [1234, 'broker_rejected'],
])('error %i is the reason %s', (code, reason) => {
  expect(dropReasonOf(code)).toBe(reason)
})

test.each(outcomes)('the live page shows records that are %s', (outcome) => {
  const page = readFileSync(new URL('../../../../public/live.js', import.meta.url), 'utf8')
  expect(page).toContain(`.${outcomeTraits[outcome].field}`)
})
