import { describe, expect, test } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { hashOfConfig, planReload } from '../../../src/config/reload.ts'
import { load, loadFile, problemsOf } from '../../support/config-fixture.ts'

const sha = (digit: string) => digit.repeat(64)

/** A configuration with these streams, in YAML flow maps, and keys. */
function config(streams: Record<string, string>, keys: Record<string, string> = {}): Config {
  const section = (name: string, map: Record<string, string>) =>
    `${name}:\n${Object.entries(map)
      .map(([key, value]) => `  ${key}: ${value}\n`)
      .join('')}`
  return loadFile(section('streams', streams) + (Object.keys(keys).length === 0 ? '' : section('keys', keys)))
}

const realtime = '{ delivery: at-most-once }'
const key = (digit: string) => `{ kind: secret, sha256: '${sha(digit)}', streams: ['*'] }`

test('a configuration that says the same changes nothing', () => {
  const current = config({ a: realtime }, { web: key('1') })
  const plan = planReload(current, config({ a: realtime }, { web: key('1') }))
  expect(plan).toEqual({ config: current, changes: [], needsRestart: [] })
})

test('keys and streams that are new, gone or other ones are named, and are in force', () => {
  const next = config(
    { a: '{ delivery: at-most-once, key: none }', c: realtime },
    { web: key('2'), new: key('3') },
  )
  const plan = planReload(config({ a: realtime, b: realtime }, { web: key('1'), old: key('4') }), next)
  expect(plan.changes).toEqual([
    'streams.a.key is another one',
    'streams.b is gone',
    'streams.c is new',
    'keys.web.sha256 is another one',
    'keys.old is gone',
    'keys.new is new',
  ])
  expect(plan.needsRestart).toEqual([])
  expect(plan.config).toEqual(next)
})

test('origins or limits of addresses that are all gone are refused', () => {
  const limited = load({ CORS_ORIGINS: 'https://a.example.com', RATE_LIMIT_MAX: '9' })
  expect(problemsOf(() => planReload(limited, load()))).toMatchObject([
    { path: 'CORS_ORIGINS_FILE' },
    { path: 'RATE_LIMIT_MAX_FILE' },
  ])
  const other = load({ CORS_ORIGINS: 'https://b.example.com', RATE_LIMIT_EVENTS: '9' })
  expect(planReload(limited, other).changes).toHaveLength(2)
  expect(planReload(load(), limited).changes).toHaveLength(2)
})

test('an emptied file of a level or a limit is as if it were not named, and an emptied file of origins is none', () => {
  const files = { LOG_LEVEL_FILE: 'l', RATE_LIMIT_MAX_FILE: 'm', CORS_ORIGINS_FILE: 'o' }
  const full = load(files, { l: 'debug', m: '9', o: 'https://a.example.com' })
  const emptied = load(files, { l: '\n', m: '', o: '' })
  expect([full.logLevel, emptied.logLevel]).toEqual(['debug', 'info'])
  expect(problemsOf(() => planReload(full, emptied))).toMatchObject([
    { path: 'CORS_ORIGINS_FILE' },
    { path: 'RATE_LIMIT_MAX_FILE' },
  ])
  expect(planReload(full, load(files, { l: '', m: '9', o: 'https://a.example.com' })).changes).toHaveLength(1)
})

test.each(['at-least-once', 'exactly-once'])(
  'another delivery is named as the one thing that needs a restart, and not what follows from it: %s',
  (delivery) => {
    const of = (stream: string) =>
      load(
        { CHUTE_CONFIG: 'chute.yaml', CHUTE_DATA_DIR: '/data' },
        { 'chute.yaml': `streams: { a: ${stream} }` },
      )
    for (const [one, other] of [
      [realtime, `{ delivery: ${delivery} }`],
      [`{ delivery: ${delivery} }`, realtime],
    ] as const)
      expect(planReload(of(one), of(other)).needsRestart).toEqual(['streams.a.delivery'])
  },
)

describe('what a stream was made with needs a restart', () => {
  test.each([
    ['topic', '{ delivery: at-most-once, topic: other }', ['topic']],
    ['delivery', '{ delivery: at-least-once }', ['delivery']],
    ['a setting of the producer', '{ delivery: at-most-once, producer: { linger.ms: 7 } }', ['producer']],
    ['connection', '{ delivery: at-most-once, connection: own }', ['connection']],
    ['audit', '{ delivery: at-most-once, audit: true }', ['audit']],
    ['dedupe', '{ delivery: at-most-once, dedupe: on }', ['dedupe']],
    ['confirm', '{ delivery: at-most-once, confirm: off }', ['producer']],
  ])('%s', (_what, stream, settings) => {
    const current = config({ a: realtime })
    const plan = planReload(current, config({ a: stream }))
    expect(plan.needsRestart).toEqual(
      expect.arrayContaining(settings.map((setting) => `streams.a.${setting}`)),
    )
    expect(plan.changes).toEqual([])
    expect(plan.config).toEqual(current)
  })

  test('the stream keeps its other settings too, and all else changes', () => {
    const current = config({ a: realtime }, { web: key('1') })
    const next = config(
      { a: '{ delivery: at-most-once, topic: t, key: none }', b: realtime },
      { web: key('2') },
    )
    const plan = planReload(current, next)
    expect(plan.needsRestart).toEqual(['streams.a.topic'])
    expect(plan.changes).toEqual(['streams.b is new', 'keys.web.sha256 is another one'])
    expect(plan.config.streams).toEqual([current.streams[0], next.streams[1]])
    expect(plan.config.http.keys).toEqual(next.http.keys)
  })

  test('what stays and what is new must go together, or nothing changes', () => {
    const current = config({ a: '{ delivery: at-most-once, topic: t }' })
    // Each file is right by itself. Until a restart, two deliveries would share the topic.
    const next = config({
      a: '{ delivery: at-most-once, topic: t2 }',
      b: '{ delivery: at-least-once, topic: t }',
    })
    const [problem, ...others] = problemsOf(() => planReload(current, next))
    expect(others).toEqual([])
    expect(problem).toMatchObject({ path: 'streams.b.topic' })
    expect(problem?.remedy).toContain('streams.a.topic')
  })
})

test('a gateway with keys is not opened by a reload, and one without gets keys', () => {
  const [open, shut] = [config({ a: realtime }), config({ a: realtime }, { web: key('1') })]
  expect(problemsOf(() => planReload(shut, open))).toMatchObject([{ path: 'keys' }])
  expect(planReload(open, shut).config).toEqual(shut)
})

test('origins and the level of the log come from files that can change', () => {
  const read = (origins: string, level: string): Config =>
    load({ CORS_ORIGINS_FILE: 'o', LOG_LEVEL_FILE: 'l' }, { o: origins, l: level })
  const current = read('https://a.example', 'info\n')
  const next = read('https://a.example\nhttps://b.example\n', 'debug\n')
  expect(next.http.corsOrigins).toEqual(['https://a.example', 'https://b.example'])
  const plan = planReload(current, next)
  expect(plan.changes).toEqual(['CORS_ORIGINS is another one', 'LOG_LEVEL is another one'])
  expect(plan.config).toEqual(next)
})

test('a password of a file that has changed is taken', () => {
  const read = (password: string): Config =>
    load(
      { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD_FILE: 'p' },
      { p: password },
    )
  const current = read('one')
  const next = read('two')
  expect(planReload(current, next)).toEqual({
    config: next,
    changes: ['The login at Kafka (KAFKA_SASL_) is another one'],
    needsRestart: [],
  })
})

describe('the hash', () => {
  const hash = (...args: Parameters<typeof config>) => hashOfConfig(config(...args))

  test('is the same for the same meaning, in whatever order it was written', () => {
    const [a, b] = [realtime, '{ delivery: at-least-once }']
    expect(hash({ a, b }, { web: key('1'), app: key('2') })).toBe(
      hash({ b, a }, { app: key('2'), web: key('1') }),
    )
    const headed = (headers: string) => hash({ a: `{ delivery: at-most-once, headers: ${headers} }` })
    expect(headed('{ one: time, two: key:name }')).toBe(headed('{ two: key:name, one: time }'))
    expect(headed('{ one: time, two: key:name }')).not.toBe(headed('{ one: key:name, two: time }'))
  })

  test('is another one for each thing that a reload can change', () => {
    const hashes = [
      hash({ a: realtime }),
      hash({ a: realtime }, { web: key('1') }),
      hash({ a: realtime }, { web: key('2') }),
      hash({ a: realtime, b: realtime }),
      hash({ a: '{ delivery: at-most-once, key: none }' }),
      hashOfConfig({ ...config({ a: realtime }), logLevel: 'debug' }),
    ]
    expect(new Set(hashes).size).toBe(hashes.length)
    for (const each of hashes) expect(Number.isSafeInteger(each)).toBe(true)
  })
})
