import { describe, expect, test } from 'vitest'
import { ConfigError } from '../../../src/config/config.ts'
import { load, loadFile, loadStream, problemsOf } from '../../support/config-fixture.ts'

const inProducer = (delivery: string, producer: string) =>
  `{ delivery: ${delivery}, producer: { ${producer} } }`

/** One stream, `s`, that contradicts itself once: the path told, below `streams.s`, and what the remedy says. */
const contradictions: readonly [what: string, stream: string, path: string, remedy: RegExp][] = [
  [
    'no key, and events without one refused',
    '{ delivery: at-most-once, key: none, keyMissing: reject }',
    'keyMissing',
    /another key/,
  ],
  [
    'a unit of timestamps that no rule looks at',
    '{ delivery: at-most-once, schema: any, timestampUnit: us }',
    'timestampUnit',
    /Leave it out/,
  ],
  ['at-most-once with retries', inProducer('at-most-once', 'retries: 3'), 'producer.retries', /retries: 0/],
  [
    'at-most-once with the preset critical',
    '{ delivery: at-most-once, preset: critical }',
    'preset',
    /retries: 0/,
  ],
  [
    'at-most-once with idempotence',
    inProducer('at-most-once', 'acks: all, enable.idempotence: true'),
    'producer.enable.idempotence',
    /Leave it out/,
  ],
  ['at-least-once with acks=0', inProducer('at-least-once', 'acks: 0'), 'producer.acks', /acks: all/],
  [
    'at-least-once without retries',
    inProducer('at-least-once', 'retries: 0'),
    'producer.retries',
    /2147483647/,
  ],
  [
    'idempotence with acks=1',
    inProducer('at-least-once', 'acks: 1, enable.idempotence: true'),
    'producer.enable.idempotence',
    /acks: all/,
  ],
  [
    'at-least-once with many in flight',
    inProducer('at-least-once', 'max.in.flight.requests.per.connection: 5'),
    'producer.max.in.flight.requests.per.connection',
    /Leave it out/,
  ],
  [
    'buffer.memory below batch.size',
    inProducer('at-most-once', 'buffer.memory: 1000'),
    'producer.buffer.memory',
    /32768 at least/,
  ],
  [
    'batch.size above buffer.memory',
    inProducer('at-most-once', 'batch.size: 100000000, max.request.size: 100001024'),
    'producer.batch.size',
    /lower batch\.size/,
  ],
  [
    'max.request.size below batch.size',
    inProducer('at-most-once', 'max.request.size: 1000'),
    'producer.max.request.size',
    /32768 at least/,
  ],
  [
    'delivery.timeout.ms below linger.ms',
    inProducer('at-most-once', 'linger.ms: 50, delivery.timeout.ms: 50'),
    'producer.delivery.timeout.ms',
    /lower linger\.ms/,
  ],
  [
    'dead letters of an at-most-once stream',
    '{ delivery: at-most-once, deadLetterTopic: letters }',
    'deadLetterTopic',
    /at-least-once/,
  ],
  [
    'dead letters among the events of the stream',
    '{ delivery: at-least-once, topic: events, deadLetterTopic: events }',
    'deadLetterTopic',
    /topic of their own/,
  ],
  [
    'invalid events among the events of the stream',
    '{ delivery: at-most-once, topic: events, invalidTopic: events }',
    'invalidTopic',
    /topic of their own/,
  ],
  [
    'invalid events among dead letters',
    '{ delivery: at-least-once, deadLetterTopic: letters, invalidTopic: letters }',
    'invalidTopic',
    /topic of their own/,
  ],
  [
    'a rate of invalid events that go nowhere',
    '{ delivery: at-most-once, invalidTopicMaxPerSecond: 5 }',
    'invalidTopicMaxPerSecond',
    /Set invalidTopic/,
  ],
  [
    'a topic beside topics',
    '{ delivery: at-most-once, topic: events, topics: { by: /type, map: { a: as }, else: others } }',
    'topic',
    /Leave it out/,
  ],
  [
    'dead letters among topics',
    '{ delivery: at-least-once, topics: { by: /type, map: { a: as }, else: others }, deadLetterTopic: as }',
    'deadLetterTopic',
    /topic of their own/,
  ],
  [
    'invalid events among topics',
    '{ delivery: at-most-once, topics: { by: /type, map: { a: as }, else: others }, invalidTopic: others }',
    'invalidTopic',
    /topic of their own/,
  ],
  [
    'connection: shared with acks=all',
    '{ delivery: at-most-once, connection: shared, producer: { acks: all } }',
    'connection',
    /Leave it out/,
  ],
  [
    'connection: shared on an at-least-once stream that a repetition would store twice',
    '{ delivery: at-least-once, connection: shared, producer: { enable.idempotence: false } }',
    'connection',
    /enable.idempotence: true/,
  ],
  [
    'confirm with acks=all',
    '{ delivery: at-most-once, confirm: on, producer: { acks: all } }',
    'confirm',
    /Leave it out/,
  ],
  [
    'confirm on an at-least-once stream',
    '{ delivery: at-least-once, confirm: on }',
    'confirm',
    /Leave it out/,
  ],
  [
    'confirm.interval.ms with acks=all',
    inProducer('at-least-once', 'confirm.interval.ms: 50'),
    'producer.confirm.interval.ms',
    /Leave it out/,
  ],
  [
    'confirm.interval.ms with confirm: off',
    '{ delivery: at-most-once, confirm: off, producer: { confirm.interval.ms: 50 } }',
    'producer.confirm.interval.ms',
    /confirm: on/,
  ],
  ['a unit', inProducer('at-most-once', 'linger.ms: 5ms'), 'producer.linger.ms', /milliseconds.*write 5\./],
  ['seconds', inProducer('at-most-once', 'max.block.ms: 2s'), 'producer.max.block.ms', /write 2000\./],
  [
    'a size with a unit',
    inProducer('at-most-once', 'batch.size: 64KB'),
    'producer.batch.size',
    /write 65536\./,
  ],
  ['a fraction', inProducer('at-most-once', 'linger.ms: 0.5'), 'producer.linger.ms', /whole number/],
  ['a negative wait', inProducer('at-most-once', 'linger.ms: -1'), 'producer.linger.ms', /0 to 2147483647/],
  ['an unknown acks', inProducer('at-most-once', 'acks: 2'), 'producer.acks', /0, 1 or all/],
  [
    'an unknown codec',
    inProducer('at-most-once', 'compression.type: rar'),
    'producer.compression.type',
    /lz4/,
  ],
  [
    'an unknown delivery timeout',
    inProducer('at-most-once', 'delivery.timeout.ms: never'),
    'producer.delivery.timeout.ms',
    /unlimited/,
  ],
  ['lingerMs', inProducer('at-most-once', 'lingerMs: 5'), 'producer.lingerMs', /Did you mean linger\.ms\?/],
  [
    'batch_size',
    inProducer('at-most-once', 'batch_size: 5'),
    'producer.batch_size',
    /Did you mean batch\.size\?/,
  ],
  [
    'max.in.flight',
    inProducer('at-most-once', 'max.in.flight: 5'),
    'producer.max.in.flight',
    /Did you mean max\.in\.flight\.requests\.per\.connection\?/,
  ],
  [
    'a key of nobody',
    inProducer('at-most-once', 'client.rack: a'),
    'producer.client.rack',
    /^Known here: acks/,
  ],
  [
    'a producer key beside producer',
    '{ delivery: at-most-once, linger.ms: 5 }',
    'linger.ms',
    /under producer:/,
  ],
  ['a misspelt key of a stream', '{ delivery: at-most-once, topik: t }', 'topik', /Did you mean topic\?/],
  ['no delivery', '{ topic: t }', 'delivery', /at-most-once .* at-least-once/],
  ['an unknown delivery', '{ delivery: exactly-once }', 'delivery', /at-least-once/],
  [
    'an unknown preset',
    '{ delivery: at-most-once, preset: fast }',
    'preset',
    /telemetry, device, reports, logs, critical/,
  ],
  [
    'an unknown onBufferFull',
    '{ delivery: at-most-once, onBufferFull: wait }',
    'onBufferFull',
    /reject, drop, block/,
  ],
  ['an unknown confirm', '{ delivery: at-most-once, confirm: maybe }', 'confirm', /on or off/],
  ['a topic with a blank', '{ delivery: at-most-once, topic: a b }', 'topic', /1 to 249/],
  ['the topic ..', '{ delivery: at-most-once, topic: .. }', 'topic', /not only/],
  ['a topic of 250 letters', `{ delivery: at-most-once, topic: ${'t'.repeat(250)} }`, 'topic', /1 to 249/],
  ['a topic that is a number', '{ delivery: at-most-once, topic: 7 }', 'topic', /in quotes/],
  ['producer as a list', '{ delivery: at-most-once, producer: [1] }', 'producer', /map/],
  ['a schema that is missing', '{ delivery: at-most-once, schema: s.json }', 'schema', /relative to/],
  ['a misspelt schema', '{ delivery: at-most-once, schema: telemtry }', 'schema', /Did you mean telemetry\?/],
]

describe('refused at start', () => {
  test.each(contradictions)('%s', (_, stream, path, remedy) => {
    expect(problemsOf(() => loadStream(stream))).toEqual([
      { path: `streams.s.${path}`, problem: expect.any(String), remedy: expect.stringMatching(remedy) },
    ])
  })

  test.each([
    [
      'two deliveries on one topic',
      'streams: { a: { delivery: at-most-once }, b: { topic: a, delivery: at-least-once } }',
      'streams.b.topic',
      /a topic of its own/,
    ],
    [
      'two deliveries on one topic by content',
      'streams: { a: { delivery: at-least-once }, b: { topics: { by: /t, map: { x: a }, else: c }, delivery: at-most-once } }',
      'streams.b.topics',
      /a topic of its own/,
    ],
    [
      'two deliveries on the topic of all other events',
      'streams: { b: { topics: { by: /t, map: { x: d }, else: c }, delivery: at-most-once }, c: { delivery: at-least-once } }',
      'streams.c.topic',
      /a topic of its own/,
    ],
    [
      'invalid events among the events of another stream',
      'streams: { a: { delivery: at-most-once, invalidTopic: b }, b: { delivery: at-least-once } }',
      'streams.a.invalidTopic',
      /a topic of their own/,
    ],
    [
      'a name that needs escaping in a URL',
      'streams: { a/b: { topic: t, delivery: at-most-once } }',
      'streams.a/b',
      /URL|tildes/,
    ],
    [
      'a name that is no topic, without a topic',
      'streams: { a~b: { delivery: at-most-once } }',
      'streams.a~b.topic',
      /1 to 249/,
    ],
    ['a stream that is a text', 'streams: { a: at-most-once }', 'streams.a', /map/],
    ['no stream', 'streams: {}', 'streams', /map of streams/],
    ['no map of streams', 'streams: [a]', 'streams', /map of streams/],
  ])('%s', (_, yaml, path, remedy) => {
    expect(problemsOf(() => loadFile(yaml))).toEqual([
      { path, problem: expect.any(String), remedy: expect.stringMatching(remedy) },
    ])
  })

  test('an unknown key beside streams, with what was meant', () => {
    const problems = problemsOf(() => loadFile('{ stream: {}, streams: { a: { delivery: at-most-once } } }'))
    expect(problems).toEqual([
      {
        path: 'stream',
        problem: 'is not a setting',
        remedy: expect.stringContaining('Did you mean streams?'),
      },
    ])
  })

  test.each([
    ['no JSON', '{', /not JSON/],
    ['no schema', '7', /no JSON Schema/],
  ])('a schema file that holds %s', (_, content, problem) => {
    const stream = '{ delivery: at-most-once, schema: s.json }'
    expect(problemsOf(() => loadStream(stream, { 's.json': content }))).toMatchObject([
      { path: 'streams.s.schema', problem: expect.stringMatching(problem) },
    ])
  })
})

test('all problems are told at once, also those that only show when others are set right', () => {
  const attempt = () =>
    load(
      {
        CHUTE_CONFIG: 'c.yaml',
        KAFKA_BROKERS: 'kafka',
        ADMIN_PORT: '8080',
        LOG_LEVEL: 'loud',
        KAFKA_SSL_KEY: 'x',
      },
      {
        'c.yaml': `
streams:
  a: { delivery: at-most-once, producer: { retries: 3, linger.ms: 5ms, lingerMs: 5 } }
  b: { topic: a, delivery: at-least-once, producer: { acks: 0 } }
  c: { delivery: sometimes, preset: fast, producer: { batch.size: 1MB } }
`,
      },
    )
  expect(problemsOf(attempt).map(({ path }) => path)).toEqual([
    'KAFKA_BROKERS',
    'KAFKA_SSL_KEY',
    'LOG_LEVEL',
    'ADMIN_PORT',
    'KAFKA_SSL_KEY',
    'KAFKA_SSL_CERT',
    'streams.a.producer.linger.ms',
    'streams.a.producer.lingerMs',
    'streams.a.producer.retries',
    'streams.b.producer.acks',
    'streams.c.delivery',
    'streams.c.preset',
    'streams.c.producer.batch.size',
    'streams.b.topic',
  ])
})

test.each([
  ['a file that is not YAML', 'streams: { a: { acks: 7 }', ['CHUTE_CONFIG', 'ADMIN_PORT']],
  [
    'a stream without a delivery',
    'streams: { a: { producer: { retries: 3, acks: 0 } } }',
    ['ADMIN_PORT', 'streams.a.delivery'],
  ],
])('%s hides what is wrong in it, and nothing else', (_, yaml, paths) => {
  const attempt = () => load({ CHUTE_CONFIG: 'c.yaml', ADMIN_PORT: '8080' }, { 'c.yaml': yaml })
  expect(
    problemsOf(attempt)
      .map(({ path }) => path)
      .toSorted(),
  ).toEqual(paths.toSorted())
})

test('the message has a path, a problem and a remedy for each', () => {
  const error = new ConfigError([
    { path: 'PORT', problem: 'is "x"', remedy: 'Give a number.' },
    { path: 'HOST', problem: 'is ""', remedy: 'Give a text.\nOr none.' },
  ])
  expect(error.message).toBe(`The configuration has 2 problems.

  PORT is "x"
    Give a number.

  HOST is ""
    Give a text.
    Or none.`)
})

describe('workers', () => {
  const file = (producer: string) => `streams: { s: { delivery: at-most-once, producer: { ${producer} } } }`
  const loadWith = (workers: number, producer: string) => () =>
    load({ CHUTE_CONFIG: 'c.yaml', WORKERS: String(workers) }, { 'c.yaml': file(producer) })

  test('whose part of buffer.memory no batch could fill in are refused', () => {
    expect(problemsOf(loadWith(4, 'buffer.memory: 131071'))).toEqual([
      {
        path: 'streams.s.producer.buffer.memory',
        problem: expect.stringContaining('32767 for each of 4 workers'),
        remedy: expect.stringContaining('131072'),
      },
    ])
    expect(problemsOf(loadWith(4, 'buffer.memory: 131072'))).toEqual([])
  })

  test('add nothing to a buffer that would be too small for one process', () => {
    expect(problemsOf(loadWith(4, 'buffer.memory: 1000'))).toHaveLength(1)
  })
})
