import { describe, expect, test } from 'vitest'
import { producerShape, unlimitedMs } from '../../../src/config/producer-schema.ts'
import { compressionTraits, type ProducerConfig } from '../../../src/config/config.ts'
import { load, loadFile, loadStream, problemsOf } from '../../support/config-fixture.ts'

const realtime: ProducerConfig = {
  acks: 0,
  retries: 0,
  retryBackoffMs: 100,
  lingerMs: 5,
  batchSizeBytes: 32_768,
  bufferMemoryBytes: 67_108_864,
  maxBlockMs: 60_000,
  maxInFlight: 1_000,
  deliveryTimeoutMs: 120_000,
  requestTimeoutMs: 30_000,
  maxRequestSizeBytes: 1_048_576,
  compressionType: 'none',
  enableIdempotence: false,
  confirmIntervalMs: 20,
}

const critical: ProducerConfig = {
  ...realtime,
  acks: -1,
  retries: 2_147_483_647,
  maxInFlight: 1,
  deliveryTimeoutMs: unlimitedMs,
  enableIdempotence: true,
  confirmIntervalMs: null,
}

test('invalid events are written at least once with a small buffer, and with the limits and the codec of the stream', () => {
  const settings = '{ compression.type: gzip, max.request.size: 2000000, buffer.memory: 134217728, acks: 1 }'
  const stream = loadStream(`{ delivery: at-most-once, invalidTopic: bad, producer: ${settings} }`)
  const producer = {
    ...critical,
    retries: 2_147_483_647,
    compressionType: 'gzip',
    maxRequestSizeBytes: 2_000_000,
    bufferMemoryBytes: 8 << 20,
  }
  expect(stream.invalid).toEqual({ topic: 'bad', maxPerSecond: 100, producer })
})

describe('without a file', () => {
  test('both streams of the source document are in force', () => {
    expect(load().streams).toEqual([
      {
        name: 'metrics-realtime',
        topic: 'metrics-realtime',
        topics: null,
        delivery: 'at-most-once',
        preset: 'telemetry',
        schema: 'telemetry',
        timestampUnit: 'ms',
        key: 'source',
        keyMissing: 'accept',
        headers: {},
        onBufferFull: 'reject',
        beaconOnBufferFull: 'drop',
        connection: 'shared',
        audit: false,
        deadLetterTopic: null,
        invalid: null,
        producer: realtime,
        spool: null,
        dedupe: null,
        exactlyOnce: false,
      },
      {
        name: 'metrics-critical',
        topic: 'metrics-critical',
        topics: null,
        delivery: 'at-least-once',
        preset: 'critical',
        schema: 'telemetry',
        timestampUnit: 'ms',
        key: 'source',
        keyMissing: 'accept',
        headers: {},
        onBufferFull: 'reject',
        beaconOnBufferFull: 'drop',
        connection: 'shared',
        audit: false,
        deadLetterTopic: null,
        invalid: null,
        producer: critical,
        spool: null,
        dedupe: { windowMs: 600_000, maxEntries: 500_000 },
        exactlyOnce: false,
      },
    ])
  })
})

describe('presets', () => {
  test('telemetry is the default of at-most-once', () => {
    const stream = loadStream('{ delivery: at-most-once }')
    expect(stream.preset).toBe('telemetry')
    expect(stream.producer).toEqual(realtime)
  })

  test('device is telemetry that tells duplicates, also where streams of its delivery do not', () => {
    const stream = loadStream('{ delivery: at-most-once, preset: device }')
    expect(stream.producer).toEqual(realtime)
    expect(stream.dedupe).toEqual({ windowMs: 600_000, maxEntries: 500_000 })
    expect(loadStream('{ delivery: at-most-once, preset: device, dedupe: off }').dedupe).toBeNull()
  })

  test('reports is telemetry for the reports of browsers, which have no number and no key', () => {
    const stream = loadStream('{ delivery: at-most-once, preset: reports }')
    expect(stream).toMatchObject({ producer: realtime, schema: 'reports', key: 'none', dedupe: null })
    const own = loadStream('{ delivery: at-most-once, preset: reports, schema: any, key: /url }')
    expect(own).toMatchObject({ schema: 'any', key: '/url' })
    const problems = problemsOf(() =>
      loadStream('{ delivery: at-most-once, preset: reports, timestampUnit: s }'),
    )
    expect(problems.map(({ path }) => path)).toEqual(['streams.s.timestampUnit'])
  })

  test('logs has large lz4 batches, and requests that fit one', () => {
    expect(loadStream('{ delivery: at-most-once, preset: logs }').producer).toEqual({
      ...realtime,
      lingerMs: 100,
      batchSizeBytes: 1_048_576,
      compressionType: 'lz4',
      maxRequestSizeBytes: 1_048_576 + 1_024,
    })
  })

  test('critical is the default of at-least-once', () => {
    const stream = loadStream('{ delivery: at-least-once }')
    expect(stream.preset).toBe('critical')
    expect(stream.producer).toEqual(critical)
  })

  test('logs on an at-least-once stream keeps one batch a partition in flight', () => {
    const { producer } = loadStream(
      '{ delivery: at-least-once, preset: logs, producer: { acks: all, retries: 9 } }',
    )
    expect(producer).toMatchObject({ maxInFlight: 1, compressionType: 'lz4', enableIdempotence: true })
  })
})

describe('each setting of producer', () => {
  const settings: readonly [
    key: keyof typeof producerShape,
    yaml: string,
    expected: Partial<ProducerConfig>,
  ][] = [
    ['acks', '1', { acks: 1, confirmIntervalMs: 20 }],
    ['acks', 'all', { acks: -1, confirmIntervalMs: null }],
    ['acks', '-1', { acks: -1 }],
    ['retries', '0', { retries: 0 }],
    ['retry.backoff.ms', '7', { retryBackoffMs: 7 }],
    ['linger.ms', '0', { lingerMs: 0 }],
    ['batch.size', '16384', { batchSizeBytes: 16_384 }],
    ['buffer.memory', '5000000000', { bufferMemoryBytes: 5_000_000_000 }],
    ['max.block.ms', '7', { maxBlockMs: 7 }],
    ['max.in.flight.requests.per.connection', '5', { maxInFlight: 5 }],
    ['delivery.timeout.ms', '7000', { deliveryTimeoutMs: 7_000 }],
    ['delivery.timeout.ms', 'unlimited', { deliveryTimeoutMs: unlimitedMs }],
    ['request.timeout.ms', '7', { requestTimeoutMs: 7 }],
    ['max.request.size', '40000', { maxRequestSizeBytes: 40_000 }],
    ['compression.type', 'gzip', { compressionType: 'gzip' }],
    ['compression.type', 'snappy', { compressionType: 'snappy' }],
    ['enable.idempotence', 'false', { enableIdempotence: false }],
    ['confirm.interval.ms', '100', { confirmIntervalMs: 100 }],
  ]

  test.each(settings)('%s: %s acts', (key, yaml, expected) => {
    expect(loadStream(`{ delivery: at-most-once, producer: { ${key}: ${yaml} } }`).producer).toMatchObject(
      expected,
    )
  })

  test('is in this table', () => {
    expect([...new Set(settings.map(([key]) => key))].toSorted()).toEqual(
      Object.keys(producerShape).toSorted(),
    )
  })

  test('enable.idempotence defaults to false where acks is not all', () => {
    expect(loadStream('{ delivery: at-least-once, producer: { acks: 1 } }').producer.enableIdempotence).toBe(
      false,
    )
  })

  test('zstd is taken where this Node has it, and refused where it does not', () => {
    const problems = problemsOf(() =>
      loadStream('{ delivery: at-most-once, producer: { compression.type: zstd } }'),
    )
    const refusal = {
      path: 'streams.s.producer.compression.type',
      problem: expect.stringContaining('zstd'),
      remedy: expect.stringContaining('22.15'),
    }
    expect(problems).toEqual(compressionTraits.zstd.isHere ? [] : [refusal])
  })
})

describe('a stream', () => {
  test('has its name as its topic unless it names another', () => {
    expect(loadStream('{ delivery: at-most-once }').topic).toBe('s')
    expect(loadStream('{ delivery: at-most-once, topic: t }').topic).toBe('t')
  })

  test('says what a full buffer does to requests and to beacons', () => {
    const stream = loadStream('{ delivery: at-most-once, onBufferFull: block, beaconOnBufferFull: reject }')
    expect(stream).toMatchObject({ onBufferFull: 'block', beaconOnBufferFull: 'reject' })
    expect(loadStream('{ delivery: at-most-once, audit: true }').audit).toBe(true)
  })

  test.each(['off', 'false'])('with confirm: %s gives bare acks=0', (confirm) => {
    const { producer } = loadStream(`{ delivery: at-most-once, confirm: ${confirm} }`)
    expect(producer.confirmIntervalMs).toBeNull()
  })

  test('with at-most-once may have acks=all, the first step to a stronger delivery', () => {
    const { producer } = loadStream('{ delivery: at-most-once, producer: { acks: all } }')
    expect(producer).toMatchObject({ acks: -1, retries: 0, enableIdempotence: false })
  })

  test('shares its topic with another of the same delivery', () => {
    const config = loadFile(
      'streams: { a: { topic: t, delivery: at-most-once }, b: { topic: t, delivery: at-most-once } }',
    )
    expect(config.streams.map(({ topic }) => topic)).toEqual(['t', 't'])
  })

  test('reads its JSON Schema relative to the configuration file', () => {
    const { streams } = load(
      { CHUTE_CONFIG: 'etc/chute.yaml' },
      {
        'etc/chute.yaml': 'streams: { s: { delivery: at-most-once, schema: schemas/s.json } }',
        'etc/schemas/s.json': '{ "type": "object" }',
      },
    )
    expect(streams[0]?.schema).toEqual({ file: 'etc/schemas/s.json', jsonSchema: { type: 'object' } })
  })

  test('gives the records of schema: page the session as their key, unless the stream has a key of its own', () => {
    const page = loadStream('{ delivery: at-most-once, schema: page }')
    expect([page.schema, page.key]).toEqual(['page', '/session'])
    expect(loadStream('{ delivery: at-most-once, schema: page, key: source }').key).toBe('source')
    expect(loadStream('{ delivery: at-most-once }').key).toBe('source')
  })

  test('takes any event with schema: any', () => {
    expect(loadStream('{ delivery: at-most-once, schema: any }').schema).toBe('any')
  })
})

describe('the file', () => {
  test('is YAML or JSON, and keeps the order of its streams', () => {
    const streams = {
      b: { delivery: 'at-most-once', producer: { 'linger.ms': 7 } },
      a: { delivery: 'at-least-once' },
    }
    const fromJson = load({ CHUTE_CONFIG: 'c.json' }, { 'c.json': JSON.stringify({ streams }) })
    const fromYaml = loadFile(`streams:
  b:
    delivery: at-most-once
    producer:
      linger.ms: 7
  a: { delivery: at-least-once }
`)
    expect(fromJson).toEqual(fromYaml)
    expect(fromYaml.streams.map(({ name }) => name)).toEqual(['b', 'a'])
  })

  test.each([
    ['is missing', undefined, /there is no such file/],
    ['is not YAML', 'streams: [', /cannot be read/],
    ['holds no map', '- a', /holds no map/],
    ['is empty', '', /holds no map/],
    ['has a stream twice', 'streams:\n  a: {}\n  a: {}', /unique/],
  ])('that %s is told as CHUTE_CONFIG', (_, content, problem) => {
    const files = content === undefined ? {} : { 'c.yaml': content }
    const problems = problemsOf(() => load({ CHUTE_CONFIG: 'c.yaml' }, files))
    expect(problems).toEqual([
      { path: 'CHUTE_CONFIG', problem: expect.stringMatching(problem), remedy: expect.any(String) },
    ])
  })
})

describe('the key of records', () => {
  test.each([
    ['source', 'source'],
    ['none', 'none'],
    ['/user/id', '/user/id'],
    ['"/a~1b/~0/0"', '/a~1b/~0/0'],
    ['"header:X-Device"', 'header:x-device'],
  ])('can be %s', (written, key) => {
    expect(loadStream(`{ delivery: at-most-once, key: ${written}, schema: any }`)).toMatchObject({
      key,
      keyMissing: 'accept',
    })
  })

  test.each([
    ['id', /JSON pointer into the event such as \/user\/id/],
    ['"/a~2"', /RFC 6901/],
    [`"${'/a'.repeat(17)}"`, /16 steps/],
    ['"header:"', /name of a header/],
    ['"header:a b"', /name of a header/],
    ['"header:Authorization"', /another header/],
    ['"header:cookie"', /another header/],
    ['"header:proxy-authorization"', /another header/],
    ['"header:X-Chute-Key"', /another header/],
    ['7', /Give source/],
  ])('cannot be %s', (written, remedy) => {
    expect(problemsOf(() => loadStream(`{ delivery: at-most-once, key: ${written} }`))).toEqual([
      {
        path: 'streams.s.key',
        problem: expect.any(String) as string,
        remedy: expect.stringMatching(remedy) as string,
      },
    ])
  })
})

describe('topics by content', () => {
  test('are read, and else is the topic of what is in no other', () => {
    const written = '{ by: /type, map: { click: web-clicks, 7: web-sevens }, else: web-other }'
    expect(loadStream(`{ delivery: at-most-once, topics: ${written} }`)).toMatchObject({
      topic: 'web-other',
      topics: { by: '/type', map: { click: 'web-clicks', '7': 'web-sevens' }, else: 'web-other' },
    })
    // The name of the stream need not be that of a topic.
    expect(
      problemsOf(() => loadFile(`streams: { a~b: { delivery: at-most-once, topics: ${written} } }`)),
    ).toEqual([])
  })

  test.each([
    ['web-clicks', /Give a map/],
    ['{ map: { a: b }, else: c }', /JSON pointer/],
    ['{ by: type, map: { a: b }, else: c }', /JSON pointer/],
    ['{ by: "/a~2", map: { a: b }, else: c }', /RFC 6901/],
    ['{ by: /type, else: c }', /topic of each value/],
    ['{ by: /type, map: {}, else: c }', /topic of each value/],
    ['{ by: /type, map: { a: b } }', /name of a topic/],
    ['{ by: /type, map: { a: 7 }, else: c }', /in quotes/],
    ['{ by: /type, map: { a: "b c" }, else: c }', /1 to 249/],
    ['{ by: /type, map: { a: b }, else: c, or: d }', /by: \/type/],
    [
      `{ by: /type, map: { ${Array.from({ length: 16 }, (_, n) => `v${n}: t${n}`).join(', ')} }, else: c }`,
      /16 topics/,
    ],
    [
      `{ by: /type, map: { ${Array.from({ length: 257 }, (_, n) => `v${n}: t`).join(', ')} }, else: c }`,
      /256 values/,
    ],
  ])('cannot be %s', (written, remedy) => {
    expect(problemsOf(() => loadStream(`{ delivery: at-most-once, topics: ${written} }`))).toEqual([
      {
        path: 'streams.s.topics',
        problem: expect.any(String) as string,
        remedy: expect.stringMatching(remedy) as string,
      },
    ])
  })

  test.each(['at-least-once', 'exactly-once'])(
    'are refused for an %s stream on disk: a request must be there as a whole',
    (delivery) => {
      const stream = `{ delivery: ${delivery}, topics: { by: /type, map: { a: as }, else: others } }`
      const files = { 'chute.yaml': `streams: { s: ${stream} }` }
      const env = { CHUTE_CONFIG: 'chute.yaml', CHUTE_DATA_DIR: '/data' }
      expect(problemsOf(() => load(env, files))).toMatchObject([
        { path: 'streams.s.topics', remedy: expect.stringContaining('durable: off') as string },
      ])
    },
  )
})

describe('the headers of records', () => {
  test('are read, with the names of request headers in lower case', () => {
    const written =
      '{ traceparent: header:traceparent, tenant: key:name, ip: client:address/24, whole: client:address, ua: header:User-Agent, received: time }'
    expect(loadStream(`{ delivery: at-most-once, headers: ${written} }`).headers).toEqual({
      traceparent: 'header:traceparent',
      tenant: 'key:name',
      ip: 'client:address/24',
      whole: 'client:address',
      ua: 'header:user-agent',
      received: 'time',
    })
    expect(loadStream('{ delivery: at-most-once }').headers).toEqual({})
  })

  test.each([
    ['[a]', /Give a map/],
    ['{ a: header:authorization }', /another header/],
    ['{ a: header:cookie }', /another header/],
    ['{ a: header:x-chute-key }', /another header/],
    ['{ a: header:Proxy-Authorization }', /another header/],
    ['{ a: key:value }', /key:name/],
    ['{ a: client:address/16 }', /client:address\/24/],
    ['{ a: "Wed" }', /time/],
    ['{ chute-audit: time }', /names of Chute/],
    ['{ __chute.errors.topic: time }', /names of Chute/],
    ['{ "": time }', /visible ASCII/],
    ['{ "a b": time }', /visible ASCII/],
    [`{ ${Array.from({ length: 17 }, (_, n) => `h${n}: time`).join(', ')} }`, /16 at most/],
  ])('cannot be %s', (written, remedy) => {
    expect(problemsOf(() => loadStream(`{ delivery: at-most-once, headers: ${written} }`))).toEqual([
      {
        path: 'streams.s.headers',
        problem: expect.any(String) as string,
        remedy: expect.stringMatching(remedy) as string,
      },
    ])
  })
})
