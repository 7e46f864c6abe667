import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { consumerShape } from '../../../src/config/consumer-settings.ts'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { environmentShape } from '../../../src/config/environment-schema.ts'
import { producerShape } from '../../../src/config/producer-schema.ts'
import { streamShape } from '../../../src/config/stream-schema.ts'
import { makeAuthority } from '../../support/certificates.ts'
import { load, loadFile, problemsOf } from '../../support/config-fixture.ts'

const { cert, key } = makeAuthority().issue('chute')
const withSecrets = {
  KAFKA_SSL: 'true',
  KAFKA_SSL_CERT: cert,
  KAFKA_SSL_KEY: key,
  KAFKA_SASL_MECHANISM: 'plain',
  KAFKA_SASL_USERNAME: 'alice',
  KAFKA_SASL_PASSWORD: 'hunter2',
  CHUTE_DEDUPE_REDIS_URL: 'redis://bob:hunter2@redis.example:6379/1',
  RATE_LIMIT_REDIS_URL: 'redis://bob:hunter2@limits.example',
}

test('no secret is printed, and every variable but CHUTE_CONFIG is', () => {
  const text = describeConfig(load(withSecrets))
  expect(text).not.toContain('hunter2')
  expect(text).not.toContain(key.split('\n')[1])
  const { environment } = parse(text) as { environment: Record<string, unknown> }
  expect(environment).toMatchObject({
    KAFKA_SASL_PASSWORD: '********',
    KAFKA_SSL_KEY: '********',
    CHUTE_DEDUPE_REDIS_URL: 'redis://bob:********@redis.example:6379/1',
    RATE_LIMIT_REDIS_URL: 'redis://bob:********@limits.example',
  })
  const expected = Object.keys(environmentShape).filter(
    // Those of tokens are printed with their mechanism only (tokens.test.ts).
    (name) => name !== 'CHUTE_CONFIG' && name !== 'CHUTE_KEYS_FILE' && !/_OAUTHBEARER_|_SASL_AWS_/.test(name),
  )
  expect(Object.keys(environment).toSorted()).toEqual(expected.toSorted())
})

test('a setting that was not given is null', () => {
  const { environment } = parse(describeConfig(load())) as { environment: Record<string, unknown> }
  expect(environment).toMatchObject({ ADMIN_PORT: null, CORS_ORIGINS: null, RATE_LIMIT_MAX: null })
})

test('each setting of streams, their producers and the consumer is printed where it is in force', () => {
  const file = `
streams:
  a: { delivery: at-most-once, headers: { received: time }, invalidTopic: bad }
  b: { delivery: at-least-once, deadLetterTopic: dead }
  c: { delivery: at-most-once, topics: { by: /type, map: { a: as }, else: others } }
consumer: { enable.auto.commit: true, auto.commit.interval.ms: 250 }
`
  const config = load({ CHUTE_CONFIG: 'chute.yaml', CHUTE_DATA_DIR: '/data' }, { 'chute.yaml': file })
  const { streams, consumer } = parse(describeConfig(config)) as {
    streams: Record<'a' | 'b' | 'c', Record<string, unknown> & { producer: object }>
    consumer: object
  }
  const { producer, ...stream } = { ...streams.a, ...streams.b, ...streams.c }
  expect(Object.keys(stream).toSorted()).toEqual(Object.keys(streamShape).toSorted())
  const producers = { ...streams.a.producer, ...streams.b.producer, ...producer }
  expect(Object.keys(producers).toSorted()).toEqual(Object.keys(producerShape).toSorted())
  expect(Object.keys(consumer).toSorted()).toEqual(Object.keys(consumerShape).toSorted())
})

test('its streams are a configuration file that says the same', () => {
  const config = loadFile(`
streams:
  a: { delivery: at-most-once, preset: logs, onBufferFull: drop, producer: { confirm.interval.ms: 50 } }
  b: { delivery: at-most-once, confirm: off }
  c: { delivery: at-most-once, producer: { acks: 1 } }
  d: { delivery: at-least-once, producer: { delivery.timeout.ms: 90000 } }
  e: { delivery: at-least-once, schema: any }
  h: { delivery: at-most-once, connection: own }
  i: { delivery: at-least-once, connection: own }
  j: { delivery: at-least-once, producer: { enable.idempotence: false } }
  g: { delivery: at-most-once, topics: { by: /type, map: { a: as, 1: ones }, else: others } }
  f: { delivery: at-most-once, invalidTopic: bad, producer: { compression.type: gzip, max.request.size: 2000000 } }
`)
  const { streams } = parse(describeConfig(config)) as { streams: object }
  expect(loadFile(JSON.stringify({ streams })).streams).toEqual(config.streams)
})

test('consumer: is printed where the file has it, with what it leaves to the defaults, and can be given back', () => {
  const streams = 'streams: { s: { delivery: at-most-once } }'
  const without = parse(describeConfig(loadFile(streams))) as object
  expect(without).not.toHaveProperty('consumer')

  const config = loadFile(`${streams}\nconsumer: { max.poll.records: 7 }`)
  const { consumer } = parse(describeConfig(config)) as { consumer: Record<string, unknown> }
  expect(consumer).toMatchObject({ 'max.poll.records': 7, 'session.timeout.ms': 45_000 })
  // They follow from --delivery, which the file does not know.
  expect(consumer).not.toHaveProperty(['enable.auto.commit'])
  expect(consumer).not.toHaveProperty(['auto.commit.interval.ms'])
  expect(loadFile(`${streams}\nconsumer: ${JSON.stringify(consumer)}`).consumer).toEqual(config.consumer)

  const byTheClock = loadFile(
    `${streams}\nconsumer: { enable.auto.commit: true, auto.commit.interval.ms: 250 }`,
  )
  expect(parse(describeConfig(byTheClock))).toMatchObject({
    consumer: { 'enable.auto.commit': true, 'auto.commit.interval.ms': 250 },
  })
})

test('what consumer: contradicts by itself is told before anybody consumes', () => {
  const yaml = 'streams: { s: { delivery: at-most-once } }\nconsumer: { session.timeout.ms: 3000 }'
  expect(problemsOf(() => loadFile(yaml))).toMatchObject([{ path: 'consumer.session.timeout.ms' }])
})
