import { describe, expect, test } from 'vitest'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { load, problemsOf } from '../../support/config-fixture.ts'

const withFolder = (stream: string, env: NodeJS.ProcessEnv = { CHUTE_DATA_DIR: '/data' }) =>
  load({ CHUTE_CONFIG: 'c.yaml', ...env }, { 'c.yaml': `streams: { s: ${stream} }` })

const spoolOf = (stream: string, env?: NodeJS.ProcessEnv) => withFolder(stream, env).streams[0]!.spool

test('a data folder makes at-least-once streams durable, and only those', () => {
  const { streams } = load({ CHUTE_DATA_DIR: '/data' })
  expect(streams.map(({ delivery, spool }) => [delivery, spool])).toEqual([
    ['at-most-once', null],
    ['at-least-once', { fsync: true, maxBytes: 4_294_967_296 }],
  ])
  expect(load().streams.map(({ spool }) => spool)).toEqual([null, null])
})

test('a stream can be exempted, and say how it is kept', () => {
  expect(spoolOf('{ delivery: at-least-once, durable: off }')).toBeNull()
  expect(spoolOf('{ delivery: at-least-once, durable: off }', {})).toBeNull()
  const settings = 'durable: on, fsync: off, spool.max.bytes: 100000000'
  expect(spoolOf(`{ delivery: at-least-once, ${settings} }`)).toEqual({ fsync: false, maxBytes: 100_000_000 })
})

test('chute check shows what is in force, and takes it back', () => {
  const shown = describeConfig(withFolder('{ delivery: at-least-once, fsync: off }'))
  expect(shown).toContain('durable: on')
  expect(shown).toContain('fsync: off')
  expect(shown).toContain('spool.max.bytes: 4294967296')
  const streams = shown.slice(shown.indexOf('streams:'))
  const again = load({ CHUTE_CONFIG: 'c.yaml', CHUTE_DATA_DIR: '/data' }, { 'c.yaml': streams })
  expect(again.streams[0]!.spool).toEqual({ fsync: false, maxBytes: 4_294_967_296 })
})

describe('is refused', () => {
  test.each([
    ['durable: on, delivery: at-most-once', {}, 'streams.s.durable', 'at-most-once stream'],
    ['durable: on, delivery: at-least-once', {}, 'streams.s.durable', 'no folder to keep events in'],
    ['fsync: on, delivery: at-least-once', {}, 'streams.s.fsync', 'no CHUTE_DATA_DIR'],
    ['fsync: off, delivery: at-most-once', { CHUTE_DATA_DIR: '/d' }, 'streams.s.fsync', '(at-most-once)'],
    [
      'spool.max.bytes: 100000000, durable: off, delivery: at-least-once',
      { CHUTE_DATA_DIR: '/d' },
      'streams.s.spool.max.bytes',
      '(durable: off)',
    ],
    [
      'spool.max.bytes: 1000, delivery: at-least-once',
      { CHUTE_DATA_DIR: '/d' },
      'streams.s.spool.max.bytes',
      'smaller than buffer.memory',
    ],
    [
      'producer: { buffer.memory: 5000000000 }, delivery: at-least-once',
      { CHUTE_DATA_DIR: '/d' },
      'streams.s.producer.buffer.memory',
      'smaller than buffer.memory',
    ],
    [
      'spool.max.bytes: 1GB, delivery: at-least-once',
      { CHUTE_DATA_DIR: '/d' },
      'streams.s.spool.max.bytes',
      'write 1073741824',
    ],
  ])('%s', (stream, env, path, text) => {
    const problems = problemsOf(() => withFolder(`{ ${stream} }`, env))
    expect(problems).toHaveLength(1)
    expect(problems[0]!.path).toBe(path)
    expect(`${problems[0]!.problem} ${problems[0]!.remedy}`).toContain(text)
  })
})
