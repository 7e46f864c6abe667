import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/config/load-config.ts'
import type { StreamConfig } from '../../../src/config/config.ts'
import { problemsOf } from '../../support/config-fixture.ts'

/** Loads a file with one stream, `s`, with a data folder unless `env` says otherwise. */
function load(stream: string, env: NodeJS.ProcessEnv = { CHUTE_DATA_DIR: '/var/lib/chute' }): StreamConfig {
  const whole = { KAFKA_BROKERS: 'kafka:9092', CHUTE_CONFIG: 'chute.yaml', ...env }
  const [loaded] = loadConfig(whole, () => `streams: { s: ${stream} }`).streams
  if (loaded === undefined) throw new Error('no stream was loaded')
  return loaded
}

const tenMinutes = { windowMs: 600_000, maxEntries: 500_000 }

describe('dedupe', () => {
  test('is on for at-least-once and off for at-most-once, unless it is set', () => {
    expect(load('{ delivery: at-least-once }', {}).dedupe).toEqual(tenMinutes)
    expect(load('{ delivery: at-least-once, dedupe: off }', {}).dedupe).toBeNull()
    expect(load('{ delivery: at-most-once }', {}).dedupe).toBeNull()
    expect(load('{ delivery: at-most-once, dedupe: on }', {}).dedupe).toEqual(tenMinutes)
  })

  test('has a window and a most', () => {
    const stream = load('{ delivery: at-least-once, dedupe.window.ms: 1000, dedupe.max.entries: 7 }')
    expect(stream.dedupe).toEqual({ windowMs: 1_000, maxEntries: 7 })
  })

  test('stays off by itself where several processes would not know of each other', () => {
    expect(load('{ delivery: at-least-once }', { WORKERS: '2' }).dedupe).toBeNull()
  })

  test('is on for several processes too where they share a store', () => {
    const env = { WORKERS: '2', CHUTE_DEDUPE_REDIS_URL: 'redis://redis' }
    expect(load('{ delivery: at-least-once }', env).dedupe).toEqual(tenMinutes)
    expect(load('{ delivery: at-most-once, dedupe: on }', env).dedupe).toEqual(tenMinutes)
  })

  test.each([
    'redis.example:6379',
    'http://redis.example',
    'redis://',
    'redis://u:hunter2@host:6379/zero',
    'redis://u:hunter2@host:6379?db=1',
    'redis://u:hunter2@host:99999',
  ])('%s is no URL of a Redis, and is not repeated', (url) => {
    const env = { CHUTE_DEDUPE_REDIS_URL: url }
    const problems = problemsOf(() => load('{ delivery: at-least-once }', env))
    expect(problems).toEqual([
      {
        path: 'CHUTE_DEDUPE_REDIS_URL',
        problem: 'is not the URL of a Redis',
        remedy: expect.stringContaining('rediss://') as string,
      },
    ])
  })

  test.each([
    [
      '{ delivery: at-most-once }',
      { CHUTE_DEDUPE_REDIS_URL: 'redis://redis' },
      'CHUTE_DEDUPE_REDIS_URL',
      /dedupe: on/,
    ],
    ['{ delivery: at-least-once, dedupe: on }', { WORKERS: '2' }, 'streams.s.dedupe', /WORKERS to 1/],
    ['{ delivery: at-most-once, preset: device }', { WORKERS: '2' }, 'streams.s.preset', /WORKERS to 1/],
    ['{ delivery: at-most-once, dedupe.window.ms: 5 }', {}, 'streams.s.dedupe.window.ms', /dedupe: on/],
    [
      '{ delivery: at-least-once, dedupe: off, dedupe.max.entries: 5 }',
      {},
      'streams.s.dedupe.max.entries',
      /dedupe: on/,
    ],
  ])('%s with %o is refused', (stream, env, path, remedy) => {
    expect(problemsOf(() => load(stream, env))).toEqual([
      expect.objectContaining({ path, remedy: expect.stringMatching(remedy) as string }),
    ])
  })
})

describe('exactly-once', () => {
  test('is at-least-once that is durable, idempotent and told from duplicates', () => {
    const stream = load('{ delivery: exactly-once }')
    expect(stream).toMatchObject({
      delivery: 'at-least-once',
      exactlyOnce: true,
      dedupe: tenMinutes,
      spool: { fsync: true },
      beaconOnBufferFull: 'reject',
      producer: { acks: -1, enableIdempotence: true, retries: 2_147_483_647 },
    })
  })

  test.each([
    ['{ delivery: exactly-once }', {}, 'streams.s.delivery', /CHUTE_DATA_DIR/],
    ['{ delivery: exactly-once, durable: off }', undefined, 'streams.s.durable', /Leave it out/],
    ['{ delivery: exactly-once, fsync: off }', undefined, 'streams.s.fsync', /Leave it out/],
    ['{ delivery: exactly-once, dedupe: off }', undefined, 'streams.s.dedupe', /Leave dedupe out/],
    [
      '{ delivery: exactly-once, onBufferFull: drop }',
      undefined,
      'streams.s.onBufferFull',
      /reject or block/,
    ],
    [
      '{ delivery: exactly-once, beaconOnBufferFull: drop }',
      undefined,
      'streams.s.beaconOnBufferFull',
      /reject/,
    ],
    [
      '{ delivery: exactly-once, producer: { enable.idempotence: false } }',
      undefined,
      'streams.s.producer',
      /Leave acks/,
    ],
    ['{ delivery: exactly-once, producer: { acks: 1 } }', undefined, 'streams.s.producer', /Leave acks/],
  ])('%s with %o is refused', (stream, env, path, remedy) => {
    expect(problemsOf(() => load(stream, env))).toEqual([
      expect.objectContaining({ path, remedy: expect.stringMatching(remedy) as string }),
    ])
  })

  test('shares no topic with a stream that promises less', () => {
    const streams = '{ delivery: exactly-once, topic: t }, u: { delivery: at-least-once, topic: t }'
    expect(problemsOf(() => load(streams))).toEqual([
      expect.objectContaining({
        path: 'streams.u.topic',
        problem: expect.stringContaining('exactly-once') as string,
      }),
    ])
  })
})
