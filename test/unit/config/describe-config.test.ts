import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { environmentShape } from '../../../src/config/environment-schema.ts'
import { load, loadFile } from '../../support/config-fixture.ts'

const pem = '-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----'
const withSecrets = {
  KAFKA_SSL: 'true',
  KAFKA_SSL_CERT: pem,
  KAFKA_SSL_KEY: pem,
  KAFKA_SASL_MECHANISM: 'plain',
  KAFKA_SASL_USERNAME: 'alice',
  KAFKA_SASL_PASSWORD: 'hunter2',
}

test('no secret is printed, and every variable but CHUTE_CONFIG is', () => {
  const text = describeConfig(load(withSecrets))
  expect(text).not.toContain('hunter2')
  expect(text).not.toContain('MIIB')
  const { environment } = parse(text) as { environment: Record<string, unknown> }
  expect(environment).toMatchObject({ KAFKA_SASL_PASSWORD: '********', KAFKA_SSL_KEY: '********' })
  const expected = Object.keys(environmentShape).filter((name) => name !== 'CHUTE_CONFIG')
  expect(Object.keys(environment).toSorted()).toEqual(expected.toSorted())
})

test('a setting that was not given is null', () => {
  const { environment } = parse(describeConfig(load())) as { environment: Record<string, unknown> }
  expect(environment).toMatchObject({ ADMIN_PORT: null, CORS_ORIGINS: null, RATE_LIMIT_MAX: null })
})

test('its streams are a configuration file that says the same', () => {
  const config = loadFile(`
streams:
  a: { delivery: at-most-once, preset: logs, onBufferFull: drop, producer: { confirm.interval.ms: 50 } }
  b: { delivery: at-most-once, confirm: off }
  c: { delivery: at-most-once, producer: { acks: 1 } }
  d: { delivery: at-least-once, producer: { delivery.timeout.ms: 90000 } }
  e: { delivery: at-least-once, schema: any }
`)
  const { streams } = parse(describeConfig(config)) as { streams: object }
  expect(loadFile(JSON.stringify({ streams })).streams).toEqual(config.streams)
})
