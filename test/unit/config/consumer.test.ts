import { describe, expect, test } from 'vitest'
import { describeConsumer } from '../../../src/config/describe-config.ts'
import { loadConsumerConfig, type ConsumeArguments } from '../../../src/config/load-config.ts'
import { loadFile, problemsOf, type Files } from '../../support/config-fixture.ts'

const said: ConsumeArguments = { topic: 't', group: 'g', delivery: undefined, set: [] }

function loadConsumer(changes: Partial<ConsumeArguments> = {}, yaml?: string) {
  const files: Files = yaml === undefined ? {} : { 'chute.yaml': yaml }
  const env = { KAFKA_BROKERS: 'kafka:9092', ...(yaml !== undefined && { CHUTE_CONFIG: 'chute.yaml' }) }
  return loadConsumerConfig({ ...said, ...changes }, env, (path) => files[path] ?? '')
}

const problems = (changes: Partial<ConsumeArguments>, yaml?: string) =>
  problemsOf(() => loadConsumer(changes, yaml)).map(
    ({ path, problem, remedy }) => `${path} ${problem}: ${remedy}`,
  )

test("the defaults are the source document's, and Kafka's where it says nothing", () => {
  expect(loadConsumer().consumer).toEqual({
    topic: 't',
    groupId: 'g',
    delivery: 'at-most-once',
    autoOffsetReset: 'latest',
    maxPollRecords: 500,
    autoCommitIntervalMs: 100,
    maxPollIntervalMs: 300_000,
    sessionTimeoutMs: 45_000,
    heartbeatIntervalMs: 3_000,
    fetchMinBytes: 1,
    fetchMaxBytes: 52_428_800,
    fetchMaxWaitMs: 500,
    maxPartitionFetchBytes: 1_048_576,
    isolationLevel: 'read_uncommitted',
  })
})

test('Kafka is reached by the same variables as the gateway reaches it', () => {
  expect(loadConsumer().kafka).toMatchObject({ brokers: ['kafka:9092'], ssl: null })
  const paths = problemsOf(() => loadConsumerConfig(said, { KAFKA_SSL_CA: 'x' })).map(({ path }) => path)
  expect(paths).toEqual(['KAFKA_BROKERS', 'KAFKA_SSL_CA', 'KAFKA_SSL_CA'])
})

test('--set comes before consumer: of the file, which needs no streams', () => {
  const yaml = 'consumer: { max.poll.records: 10, fetch.min.bytes: 2 }'
  const { consumer } = loadConsumer(
    { set: ['max.poll.records=20', 'isolation.level = read_committed'] },
    yaml,
  )
  expect(consumer).toMatchObject({ maxPollRecords: 20, fetchMinBytes: 2, isolationLevel: 'read_committed' })
})

test('the effective settings can be given back as settings', () => {
  for (const delivery of ['at-most-once', 'auto-commit']) {
    const { consumer } = loadConsumer({ delivery, set: ['max.poll.records=7'] })
    const set = Object.entries(describeConsumer(consumer)).map(([key, value]) => `${key}=${value}`)
    expect(loadConsumer({ delivery, set }).consumer).toEqual(consumer)
  }
})

test('a gateway that reads the same file tells what is wrong in consumer:', () => {
  const streams = 'streams: { s: { delivery: at-most-once } }'
  expect(loadFile(`${streams}\nconsumer: { max.poll.records: 10 }`).streams).toHaveLength(1)
  const found = problemsOf(() => loadFile(`${streams}\nconsumer: { max.poll.record: 10 }`))
  expect(found).toMatchObject([
    { path: 'consumer.max.poll.record', remedy: expect.stringContaining('max.poll.records') },
  ])
})

describe('refused, with a path and a remedy:', () => {
  test.each([
    ['no topic', { topic: undefined }, /^--topic is missing/],
    ['a topic that Kafka does not take', { topic: 'a b' }, /^--topic is "a b"/],
    ['no group', { group: undefined }, /^--group is missing/],
    ['an unknown delivery', { delivery: 'exactly-once' }, /^--delivery is "exactly-once".*at-least-once/],
    ['an unknown setting', { set: ['max.polls=5'] }, /^--set max.polls is not a setting.*max.poll.records/],
    ['a setting without a value', { set: ['max.poll.records'] }, /^--set max.poll.records is not key=value/],
    [
      'a setting twice',
      { set: ['fetch.min.bytes=1', 'fetch.min.bytes=2'] },
      /^--set fetch.min.bytes is given twice/,
    ],
    ['a unit', { set: ['session.timeout.ms=10s'] }, /^--set session.timeout.ms is "10s".*write 10000/],
    ['a group in a setting', { set: ['group.id=g'] }, /^--set group.id is not set here: Give it as --group/],
    ['no reset', { set: ['auto.offset.reset=none'] }, /^--set auto.offset.reset is "none".*not offered/],
    [
      'at most once by the clock',
      { set: ['enable.auto.commit=true'] },
      /^--set enable.auto.commit is true with --delivery at-most-once/,
    ],
    [
      'at least once by the clock',
      { delivery: 'at-least-once', set: ['enable.auto.commit=true'] },
      /is true with --delivery at-least-once/,
    ],
    [
      'auto-commit without',
      { delivery: 'auto-commit', set: ['enable.auto.commit=false'] },
      /is false with --delivery auto-commit/,
    ],
    [
      'an interval that nobody keeps',
      { set: ['auto.commit.interval.ms=100'] },
      /^--set auto.commit.interval.ms is set with --delivery at-most-once/,
    ],
    [
      'heartbeats too slow',
      { set: ['session.timeout.ms=3000'] },
      /^--set session.timeout.ms makes heartbeat.interval.ms \(3000\) no shorter/,
    ],
  ])('%s', (_, changes, expected) => {
    expect(problems(changes)).toEqual([expect.stringMatching(expected)])
  })

  test('a setting of the file, under its path there', () => {
    expect(problems({}, 'consumer: { enable.auto.commit: true }')).toEqual([
      expect.stringMatching(/^consumer.enable.auto.commit is true/),
    ])
    expect(problems({}, 'consumer: 5')).toEqual([expect.stringMatching(/^consumer is 5/)])
  })
})

test('what agrees with the delivery may be said', () => {
  expect(loadConsumer({ set: ['enable.auto.commit=false'] }).consumer.delivery).toBe('at-most-once')
  const set = ['enable.auto.commit=true', 'auto.commit.interval.ms=250']
  expect(loadConsumer({ delivery: 'auto-commit', set }).consumer.autoCommitIntervalMs).toBe(250)
})
