import { expect, test } from 'vitest'
import { warningsOfConfig, weaknessesOfDoor } from '../../../src/config/warnings.ts'
import { load } from '../../support/config-fixture.ts'

const keys = { CHUTE_CONFIG: 'chute.json' }
const files = (limits: object = {}) => ({
  'chute.json': JSON.stringify({
    streams: { web: { delivery: 'at-most-once' } },
    keys: { web: { kind: 'public', sha256: 'a'.repeat(64), streams: ['web'], ...limits } },
  }),
})

test('a window of a limit below a second is warned of, with the unit that is missing', () => {
  const limit = { limits: { requests: 1, window: '999ms' }, addressLimits: { events: 1, window: '1s' } }
  const config = load({ ...keys, RATE_LIMIT_MAX: '100', RATE_LIMIT_WINDOW: '60' }, files(limit))
  expect(warningsOfConfig(config)).toEqual([
    'RATE_LIMIT_WINDOW: the window is 60 ms. A number without a unit is in milliseconds: a minute is 60s',
    expect.stringMatching(/^keys\.web\.limits\.window: the window is 999 ms/),
  ])
  expect(warningsOfConfig(load({ RATE_LIMIT_MAX: '100', RATE_LIMIT_WINDOW: '1s' }))).toEqual([])
})

test('a door that strangers reach is told by what it lacks: TLS, limits, and a wall before ADMIN_PORT', () => {
  const of = (env: NodeJS.ProcessEnv) => {
    const config = load({ ...keys, ...env }, files())
    return weaknessesOfDoor(config.http).map(({ remedy }) => remedy.split(' ')[1])
  }
  expect(of({ HOST: '0.0.0.0', ADMIN_PORT: '9000' })).toEqual(['TLS_CERT_FILE', 'RATE_LIMIT_MAX,', 'a'])
  expect(of({ HOST: '0.0.0.0', RATE_LIMIT_EVENTS: '9' })).toEqual(['TLS_CERT_FILE'])
  expect(of({ HOST: '0.0.0.0', TRUST_PROXY: '1' })).toEqual([])
  expect(of({ ADMIN_PORT: '9000' })).toEqual([])
})
