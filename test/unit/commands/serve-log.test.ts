import { expect, test } from 'vitest'
import { logStart } from '../../../src/commands/serve-log.ts'
import { load } from '../../support/config-fixture.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'

/** The warnings about duplicates that a start ends with. */
function warningsOf(env: NodeJS.ProcessEnv): { streams: unknown; message: string }[] {
  const logs = new LogKeeper()
  logStart(load(env), { url: 'http://127.0.0.1:8080', adminUrl: null }, logs)
  return logs.lines
    .filter(({ level, message }) => level === 'warn' && message.includes('duplicates'))
    .map(({ fields, message }) => ({ streams: (fields as { streams?: unknown }).streams, message }))
}

const critical = { streams: ['metrics-critical'] }

test('a start without a shared store warns that duplicates are told by this gateway alone', () => {
  expect(warningsOf({})).toEqual([
    {
      ...critical,
      message: expect.stringMatching(/by this gateway alone.*CHUTE_DEDUPE_REDIS_URL/) as string,
    },
  ])
})

test('a start with several workers and no shared store warns that duplicates are not told', () => {
  expect(warningsOf({ WORKERS: '2' })).toEqual([
    { ...critical, message: expect.stringMatching(/not told.*CHUTE_DEDUPE_REDIS_URL/) as string },
  ])
})

test.each([{}, { WORKERS: '2' }])('a start with a shared store warns of nothing: %o', (env) => {
  expect(warningsOf({ ...env, CHUTE_DEDUPE_REDIS_URL: 'redis://redis' })).toEqual([])
})
