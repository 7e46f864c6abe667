import type { z } from 'zod'
import { parseDurationMs } from './duration.ts'
import { brokerList, originList, redisUrl } from './network-settings.ts'
import type { FieldValues } from './read-fields.ts'
import { Refusal, oneOf, quote, setting, nonEmptyText, trueOrFalse, wholeNumber } from './setting.ts'

const port = (least: number) => wholeNumber(null, least, 65_535)

/** Every variable of the environment that Chute reads, with its default. docs/configuration.md says what each acts on. */
export const environmentShape = {
  HOST: nonEmptyText().default('127.0.0.1'),
  PORT: port(0).default(8080),
  ADMIN_PORT: port(0).nullable().default(null),
  CORS_ORIGINS: originList().default([]),
  RATE_LIMIT_MAX: wholeNumber(null, 1).nullable().default(null),
  RATE_LIMIT_WINDOW: duration().default(60_000),
  TRUST_PROXY: wholeNumber(null, 0, 32).default(0),
  MAX_BODY_BYTES: wholeNumber('bytes', 1).default(1_048_576),
  MAX_EVENT_BYTES: wholeNumber('bytes', 1).default(1_048_576),
  MAX_EVENTS_PER_REQUEST: wholeNumber(null, 1).default(10_000),
  MAX_DEPTH: wholeNumber(null, 1, 1_000).default(32),
  BODY_TIMEOUT_MS: wholeNumber('milliseconds', 1).default(10_000),
  BODY_TIMEOUT_MAX_MS: wholeNumber('milliseconds', 1).nullable().default(null),
  BODY_MIN_BYTES_PER_SECOND: wholeNumber('bytes', 0).default(50),

  KAFKA_BROKERS: brokerList(),
  KAFKA_CLIENT_ID: nonEmptyText().default('chute'),
  KAFKA_SSL: trueOrFalse().default(false),
  KAFKA_SSL_CA: pem().nullable().default(null),
  KAFKA_SSL_CERT: pem().nullable().default(null),
  KAFKA_SSL_KEY: pem().nullable().default(null),
  KAFKA_SSL_REJECT_UNAUTHORIZED: trueOrFalse().default(true),
  KAFKA_SSL_SERVERNAME: nonEmptyText().nullable().default(null),
  KAFKA_SASL_MECHANISM: oneOf(['plain', 'scram-sha-256', 'scram-sha-512']).nullable().default(null),
  KAFKA_SASL_USERNAME: nonEmptyText().nullable().default(null),
  KAFKA_SASL_PASSWORD: secret().nullable().default(null),
  KAFKA_CONNECTION_TIMEOUT_MS: wholeNumber('milliseconds', 1).default(3_000),
  KAFKA_METADATA_MAX_AGE_MS: wholeNumber('milliseconds', 1).default(5_000),
  KAFKA_CREATE_TOPICS: trueOrFalse().default(true),
  KAFKA_TOPIC_PARTITIONS: wholeNumber(null, 1).nullable().default(null),
  KAFKA_TOPIC_REPLICATION: wholeNumber(null, 1, 32_767).nullable().default(null),

  CHUTE_CONFIG: nonEmptyText().nullable().default(null),
  CHUTE_DATA_DIR: nonEmptyText().nullable().default(null),
  CHUTE_DATA_DIR_EPHEMERAL: trueOrFalse().default(false),
  CHUTE_DEDUPE_REDIS_URL: redisUrl().nullable().default(null),
  CHUTE_DEDUPE_REDIS_PREFIX: nonEmptyText().default('chute:'),
  CHUTE_DEDUPE_REDIS_LEASE_MS: wholeNumber('milliseconds', 1_000).default(30_000),
  CHUTE_DEDUPE_REDIS_TIMEOUT_MS: wholeNumber('milliseconds', 10).default(1_000),
  SHUTDOWN_TIMEOUT_MS: wholeNumber('milliseconds', 1).default(10_000),
  DRAIN_DELAY_MS: wholeNumber('milliseconds', 0).nullable().default(null),
  WORKERS: wholeNumber(null, 1, 256).default(1),
  LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
} satisfies z.ZodRawShape

/** What could be read of the environment. */
export type EnvironmentValues = FieldValues<typeof environmentShape>

/** The environment, wholly read. */
export type Environment = { [K in keyof typeof environmentShape]: z.output<(typeof environmentShape)[K]> }

/** Variables that may also come from the file that `NAME_FILE` names: secrets, as Docker and Kubernetes hand them out. */
export const fileVariables = [
  'KAFKA_SSL_CA',
  'KAFKA_SSL_CERT',
  'KAFKA_SSL_KEY',
  'KAFKA_SASL_USERNAME',
  'KAFKA_SASL_PASSWORD',
  'CHUTE_DEDUPE_REDIS_URL',
] as const

function duration() {
  return setting<number>((value) => {
    const durationMs = typeof value === 'string' ? parseDurationMs(value) : null
    if (durationMs !== null && durationMs >= 1) return durationMs
    return new Refusal(`is ${quote(value)}`, 'Give a duration: 60000 (milliseconds), 60s, 1m or 1h.')
  })
}

/** The text is never quoted: it may be a key. */
function pem() {
  return setting<string>((value) => {
    if (typeof value === 'string' && value.includes('-----BEGIN ')) return value
    return new Refusal(
      'is no PEM text',
      'Give the text itself, from -----BEGIN to the end, or name its file in the same variable with _FILE behind it.',
    )
  })
}

/** Taken as it is, blanks included, and never quoted. */
function secret() {
  return setting<string>((value) =>
    typeof value === 'string' ? value : new Refusal('is not a text', 'Give a text.'),
  )
}
