import { readFileSync } from 'node:fs'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { runKeysCommand } from '../../../src/commands/keys-command.ts'
import { sha256OfKey } from '../../../src/config/config.ts'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { warningsOfKeys } from '../../../src/config/key-warnings.ts'
import { loadKeys } from '../../../src/config/load-config.ts'
import { makeAuthority } from '../../support/certificates.ts'
import { load, loadFile, problemsOf } from '../../support/config-fixture.ts'

const hash = 'a'.repeat(64)
const streams = 'streams: { web: { delivery: at-most-once }, web-clicks: { delivery: at-most-once } }'

const withKeys = (yaml: string) => loadFile(`${streams}\nkeys:\n  ${yaml}`)

test('a key has what the file says, and the rest is open to it', () => {
  const { keys } = withKeys(
    `page: { kind: public, sha256: [${hash}, ${'B'.repeat(64)}], streams: [web, "web-*"], origins: ["https://*.example.com"], sources: ["pump-*"], notAfter: 2027-01-31 }
  service: { kind: secret, sha256: ${'c'.repeat(64)}, streams: ["*"], limits: { requests: 1000, events: 50000, window: 10s, burst: 5 }, addressLimits: { bytes: 1048576 } }
  ops: { kind: admin, sha256: [${'d'.repeat(64)}] }`,
  ).http
  expect(keys).toEqual([
    {
      name: 'page',
      kind: 'public',
      sha256: [hash, 'b'.repeat(64)],
      streams: ['web', 'web-*'],
      origins: ['https://*.example.com'],
      sources: ['pump-*'],
      notAfterMs: Date.UTC(2027, 0, 31),
      limits: null,
      addressLimits: null,
    },
    {
      name: 'service',
      kind: 'secret',
      sha256: ['c'.repeat(64)],
      streams: ['*'],
      origins: [],
      sources: null,
      notAfterMs: null,
      limits: { requests: 1_000, events: 50_000, bytes: null, windowMs: 10_000, burst: 5 },
      addressLimits: { requests: null, events: null, bytes: 1_048_576, windowMs: 60_000, burst: 1 },
    },
    {
      name: 'ops',
      kind: 'admin',
      sha256: ['d'.repeat(64)],
      streams: [],
      origins: [],
      sources: null,
      notAfterMs: null,
      limits: null,
      addressLimits: null,
    },
  ])
})

test('keys can stand in a file of their own, beside the default streams', () => {
  const config = load(
    { CHUTE_KEYS_FILE: 'keys.yaml' },
    { 'keys.yaml': `keys: { web: { kind: secret, sha256: ${hash}, streams: [metrics-realtime] } }` },
  )
  expect(config.http.keys.map(({ name }) => name)).toEqual(['web'])
})

test('keys that stand at the top of their file are one problem', () => {
  const key = `{ kind: secret, sha256: ${hash}, streams: [metrics-realtime] }`
  const problems = problemsOf(() =>
    load({ CHUTE_KEYS_FILE: 'keys.yaml' }, { 'keys.yaml': `web: ${key}\napp: { kind: admin }` }),
  )
  expect(problems).toMatchObject([{ path: 'keys.yaml', problem: expect.stringContaining('under keys:') }])
})

test.each([
  ['no kind', `a: { sha256: ${hash}, streams: [web] }`, /keys\.a\.kind is missing/],
  [
    'a kind that there is not',
    `a: { kind: pubic, sha256: ${hash}, streams: [web] }`,
    /Give one of: public, secret, admin/,
  ],
  ['no value', 'a: { kind: public, streams: [web] }', /keys\.a\.sha256 is missing/],
  ['no value of an admin key', 'a: { kind: admin }', /keys\.a\.sha256 is missing[^]*no admin key/],
  ['an empty list of values', 'a: { kind: public, sha256: [], streams: [web] }', /no value is valid/],
  [
    'the key itself',
    'a: { kind: public, sha256: [chk_pub_x], streams: [web] }',
    /number 1\) that is no SHA-256/,
  ],
  [
    'the hash of an empty text',
    `a: { kind: public, sha256: [${hash}, ${sha256OfKey('').toUpperCase()}], streams: [web] }`,
    /number 2\) that is the SHA-256 of an empty text[^]*chute keys new/,
  ],
  [
    'the hash of an empty line',
    `a: { kind: admin, sha256: ${sha256OfKey('\n')} }`,
    /the SHA-256 of an empty text/,
  ],
  [
    'an empty list of origins',
    `a: { kind: public, sha256: ${hash}, streams: [web], origins: [] }`,
    /keys\.a\.origins is empty[^]*CORS_ORIGINS/,
  ],
  ['no stream', `a: { kind: public, sha256: ${hash} }`, /keys\.a\.streams names no stream/],
  [
    'a stream that there is not',
    `a: { kind: public, sha256: ${hash}, streams: [wbe] }`,
    /has "wbe", and there is no such stream/,
  ],
  [
    'a star in the middle',
    `a: { kind: public, sha256: ${hash}, streams: ["w*b"] }`,
    /can only stand at the end/,
  ],
  [
    'no origin',
    `a: { kind: public, sha256: ${hash}, streams: [web], origins: ["app.example.com"] }`,
    /is not an origin/,
  ],
  [
    'no time',
    `a: { kind: public, sha256: ${hash}, streams: [web], notAfter: tomorrow }`,
    /Give a point in time/,
  ],
  [
    'a setting that there is not',
    `a: { kind: public, sha256: ${hash}, streams: [web], origin: x }`,
    /Did you mean origins\?/,
  ],
  [
    'a limit that limits nothing',
    `a: { kind: public, sha256: ${hash}, streams: [web], limits: { window: 1s } }`,
    /keys\.a\.limits limits nothing/,
  ],
  [
    'a limit that is no number',
    `a: { kind: public, sha256: ${hash}, streams: [web], addressLimits: { events: 100/s } }`,
    /keys\.a\.addressLimits\.events is "100\/s", not a plain number/,
  ],
  [
    'a limit that is no map',
    `a: { kind: public, sha256: ${hash}, streams: [web], limits: 100 }`,
    /Give a map: { requests: 1000/,
  ],
  ['limits of an admin key', `a: { kind: admin, sha256: ${hash}, limits: { requests: 1 } }`, /Leave it out/],
  ['streams of an admin key', `a: { kind: admin, sha256: ${hash}, streams: [web] }`, /writes no events/],
  [
    'a name that no metric can have',
    `"a b": { kind: public, sha256: ${hash}, streams: [web] }`,
    /is not the name of a key/,
  ],
  [
    'one value for two keys',
    `a: { kind: public, sha256: ${hash}, streams: [web] }\n  b: { kind: public, sha256: ${hash}, streams: [web] }`,
    /keys\.b\.sha256 has a value that a has too/,
  ],
  ['a list', '- a', /Give a map of keys/],
])('%s is refused', (_name, yaml, text) => {
  expect(() => withKeys(yaml)).toThrow(text)
})

test('an operator is warned of keys that ended, that end soon, and that everybody knows', () => {
  const sample = readFileSync('deploy/keys/keys.yaml', 'utf8')
  const ends = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString()
  const { http } = load(
    { CHUTE_KEYS_FILE: 'keys.yaml' },
    {
      'keys.yaml': `${sample}
  old: { kind: secret, sha256: ${'a1'.repeat(32)}, streams: ["*"], notAfter: ${ends(-1)} }
  soon: { kind: secret, sha256: ${'b2'.repeat(32)}, streams: ["*"], notAfter: ${ends(6)} }
  later: { kind: secret, sha256: ${'c3'.repeat(32)}, streams: ["*"], notAfter: ${ends(8)} }`,
    },
  )
  expect(warningsOfKeys(http)).toEqual([
    expect.stringMatching(/^the key web has a value .*everybody can read: chute keys new$/),
    expect.stringMatching(/^the key ops has a value .*everybody can read/),
    expect.stringMatching(/^the key old ended on .*: take it away, or move notAfter$/),
    expect.stringMatching(/^the key soon ends on .*or move notAfter$/),
  ])
})

test.each([
  ['a file that is no YAML', 'streams: {', ['CHUTE_CONFIG']],
  ['a file without streams', 'consumer: {}', ['streams']],
  ['a stream that cannot be read', 'streams: { web: { topic: web } }', ['streams.web.delivery']],
])('%s is one problem, and none of the keys of its streams', (_what, yaml, paths) => {
  const keysFile = `keys: { a: { kind: secret, sha256: ${hash}, streams: [web] } }`
  const problems = problemsOf(() =>
    load(
      { CHUTE_CONFIG: 'chute.yaml', CHUTE_KEYS_FILE: 'keys.yaml' },
      { 'chute.yaml': yaml, 'keys.yaml': keysFile },
    ),
  )
  expect(problems.map(({ path }) => path)).toEqual(paths)
})

test.each([
  ['a kind that is cut', '{ kind: pub }', ['kind', 'sha256', 'streams']],
  ['a misspelt kind of a key that writes nothing', '{ kind: admn }', ['kind', 'sha256']],
  ['a kind that could be any', '{ kind: x }', ['kind']],
  ['a hash that is none', '{ kind: public, sha256: x }', ['sha256', 'streams']],
])('%s hides no other problem of the key', (_what, key, settings) => {
  const paths = problemsOf(() => withKeys(`a: ${key}`)).map(({ path }) => path)
  expect(paths).toEqual(settings.map((setting) => `keys.a.${setting}`))
})

test('chute keys new makes no key that ended before it begins', async () => {
  const stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  onTestFinished(() => stderr.mockRestore())
  const options = ['new', '--name', 'a', '--secret', '--stream', 'web', '--not-after', '2020-01-31']
  expect(await runKeysCommand(options, {})).toBe(2)
  expect(stderr.mock.calls.join('')).toMatch(/--not-after is over/)
})

test('a key that is a certificate alone needs no value where clients are asked for certificates', () => {
  const yaml = 'pump-7: { kind: public, streams: [web] }'
  expect(() => withKeys(yaml)).toThrow(/keys\.pump-7\.sha256 is missing[^]*TLS_CLIENT_CA/)
  const { cert, key } = makeAuthority().issue('gateway')
  const tls = { TLS_CERT: cert, TLS_KEY: key, TLS_CLIENT_CA: makeAuthority('Devices').ca }
  const config = load(
    { ...tls, CHUTE_CONFIG: 'chute.yaml', HOST: '0.0.0.0' },
    { 'chute.yaml': `${streams}\nkeys: { ${yaml} }` },
  )
  expect(config.http.keys).toMatchObject([{ name: 'pump-7', sha256: [] }])
  expect(() =>
    load(
      { ...tls, CHUTE_CONFIG: 'chute.yaml' },
      { 'chute.yaml': `${streams}\nkeys: { ops: { kind: admin } }` },
    ),
  ).toThrow(/keys\.ops\.sha256 is missing[^]*no admin key/)
})

test('a problem never quotes what could be a key', () => {
  expect(() => withKeys('a: { kind: public, sha256: [chk_pub_secret], streams: [web] }')).not.toThrow(
    /secret,/,
  )
  const problems = problemsOf(() => withKeys('a: { kind: public, sha256: [chk_pub_hidden], streams: [web] }'))
  expect(JSON.stringify(problems)).not.toContain('hidden')
})

describe('without keys', () => {
  test.each(['127.0.0.1', '127.1.2.3', '::1', 'localhost'])(
    '%s is open: programs of this machine may write',
    (HOST) => {
      expect(load({ HOST }).http.keys).toEqual([])
    },
  )

  test.each(['0.0.0.0', '::', '10.0.0.7', 'gateway.example.com', '127.example.com'])(
    '%s is refused, with the two ways out',
    (HOST) => {
      const [problem] = problemsOf(() => load({ HOST }))
      expect(problem).toMatchObject({ path: 'HOST' })
      expect(problem?.remedy).toMatch(/chute keys new[^]*CHUTE_OPEN=true/)
      expect(load({ HOST, CHUTE_OPEN: 'true' }).http.open).toBe(true)
    },
  )
})

describe('events on the live page', () => {
  const open = { HOST: '0.0.0.0', CHUTE_OPEN: 'true' }
  const files = { 'keys.yaml': `keys: { web: { kind: secret, sha256: ${hash}, streams: ["*"] } }` }

  test.each([
    ['a loopback address', {}],
    ['a port of its own', { ...open, ADMIN_PORT: '9000' }],
    ['keys', { HOST: '0.0.0.0', CHUTE_KEYS_FILE: 'keys.yaml' }],
  ])('are shown where %s guards the page, unless the setting says otherwise', (_, env) => {
    expect(load(env, files).http.liveEvents).toBe(true)
    expect(load({ ...env, LIVE_EVENTS: 'false' }, files).http.liveEvents).toBe(false)
  })

  test.each([
    ['everyone reaches the port', open],
    ['a proxy in front passes strangers on', { TRUST_PROXY: '1' }],
  ])('are not shown where %s, and the setting cannot change that', (_, env) => {
    expect(load(env).http.liveEvents).toBe(false)
    const [problem] = problemsOf(() => load({ ...env, LIVE_EVENTS: 'true' }))
    expect(problem).toMatchObject({ path: 'LIVE_EVENTS' })
    expect(problem?.remedy).toMatch(/ADMIN_PORT[^]*chute keys new --admin/)
  })
})

test('CHUTE_OPEN beside keys is a contradiction', () => {
  const files = { 'keys.yaml': `keys: { web: { kind: secret, sha256: ${hash}, streams: ["*"] } }` }
  const env = { HOST: '0.0.0.0', CHUTE_KEYS_FILE: 'keys.yaml' }
  expect(load(env, files).http.keys).toHaveLength(1)
  expect(() => load({ ...env, CHUTE_OPEN: 'true' }, files)).toThrow(/CHUTE_OPEN is true while there are keys/)
})

test.each([
  ['is not there', {}, /CHUTE_KEYS_FILE names keys\.yaml: /],
  ['names no key', { 'keys.yaml': 'keys: {}' }, /keys names no key/],
  ['has the streams too', { 'keys.yaml': 'streams: {}\nkeys: {}' }, /keys\.yaml: streams is not a setting/],
])('a file of keys that %s is refused, and nothing is said about the door', (_name, files, text) => {
  const problems = problemsOf(() => load({ HOST: '0.0.0.0', CHUTE_KEYS_FILE: 'keys.yaml' }, files))
  expect(problems.map(({ path, problem }) => `${path} ${problem}`).join('\n')).toMatch(text)
  expect(problems.map(({ path }) => path)).not.toContain('HOST')
})

test('keys in two places are refused', () => {
  const files = {
    'c.yaml': `${streams}\nkeys: { a: { kind: secret, sha256: ${hash}, streams: [web] } }`,
    'keys.yaml': `keys: { b: { kind: secret, sha256: ${'b'.repeat(64)}, streams: [web] } }`,
  }
  expect(() => load({ CHUTE_CONFIG: 'c.yaml', CHUTE_KEYS_FILE: 'keys.yaml' }, files)).toThrow(
    /Keep all keys in one of the two files/,
  )
})

test('keys are printed as they can be given back', () => {
  const config = withKeys(
    `page: { kind: public, sha256: [${hash}], streams: [web], notAfter: "2027-01-31T12:00:00Z" }`,
  )
  expect(loadFile(describeConfig(config).replace(/^environment:\n(  .*\n)*/, '')).http.keys).toEqual(
    config.http.keys,
  )
})

test('chute keys reads the keys alone, whatever else is wrong', () => {
  const file = `streams: { web: { delivery: never } }\nkeys: { a: { kind: secret, sha256: ${hash}, streams: [gone] } }`
  expect(loadKeys({ CHUTE_CONFIG: 'c.yaml', PORT: 'x' }, () => file).map(({ name }) => name)).toEqual(['a'])
})
