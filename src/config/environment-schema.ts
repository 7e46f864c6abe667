import type { z } from 'zod'
import { logLevels, saslMechanisms } from './config.ts'
import type { FieldValues } from './read-fields.ts'
import {
  nonEmptyText,
  oneOf,
  parseDurationMs,
  quote,
  Refusal,
  setting,
  trueOrFalse,
  wholeNumber,
} from './setting.ts'

const portNumber = (least: number) => wholeNumber(null, least, 65_535)

/** Every variable of the environment that the gateway and the readers take, with its default. docs/configuration.md explains each. */
export const environmentShape = {
  HOST: nonEmptyText().default('127.0.0.1'),
  PORT: portNumber(0).default(8080),
  ADMIN_PORT: portNumber(0).nullable().default(null),
  TLS_CERT: pem().nullable().default(null),
  TLS_KEY: pem().nullable().default(null),
  TLS_CLIENT_CA: pem().nullable().default(null),
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
  KAFKA_SASL_MECHANISM: oneOf(saslMechanisms).nullable().default(null),
  KAFKA_SASL_USERNAME: nonEmptyText().nullable().default(null),
  KAFKA_SASL_PASSWORD: secret().nullable().default(null),
  KAFKA_CONNECTION_TIMEOUT_MS: wholeNumber('milliseconds', 1).default(3_000),
  KAFKA_METADATA_MAX_AGE_MS: wholeNumber('milliseconds', 1).default(5_000),
  KAFKA_CREATE_TOPICS: trueOrFalse().default(true),
  KAFKA_TOPIC_PARTITIONS: wholeNumber(null, 1).nullable().default(null),
  KAFKA_TOPIC_REPLICATION: wholeNumber(null, 1, 32_767).nullable().default(null),

  CHUTE_CONFIG: nonEmptyText().nullable().default(null),
  CHUTE_KEYS_FILE: nonEmptyText().nullable().default(null),
  CHUTE_OPEN: trueOrFalse().default(false),
  CHUTE_DATA_DIR: nonEmptyText().nullable().default(null),
  CHUTE_DATA_DIR_EPHEMERAL: trueOrFalse().default(false),
  CHUTE_DEDUPE_REDIS_URL: redisUrl().nullable().default(null),
  CHUTE_DEDUPE_REDIS_PREFIX: nonEmptyText().default('chute:'),
  CHUTE_DEDUPE_REDIS_LEASE_MS: wholeNumber('milliseconds', 1_000).default(30_000),
  CHUTE_DEDUPE_REDIS_TIMEOUT_MS: wholeNumber('milliseconds', 10).default(1_000),
  SHUTDOWN_TIMEOUT_MS: wholeNumber('milliseconds', 1).default(10_000),
  DRAIN_DELAY_MS: wholeNumber('milliseconds', 0).nullable().default(null),
  WORKERS: wholeNumber(null, 1, 256).default(1),
  LOG_LEVEL: oneOf(logLevels).default('info'),
} satisfies z.ZodRawShape

/** What could be read of the environment. */
export type EnvironmentValues = FieldValues<typeof environmentShape>

/** The environment, when every variable could be read. */
export type Environment = { [K in keyof typeof environmentShape]: z.output<(typeof environmentShape)[K]> }

/** Variables whose value may also stand in the file that `NAME_FILE` names. Docker and Kubernetes hand out secrets as files. */
export const fileVariables = [
  'TLS_CERT',
  'TLS_KEY',
  'TLS_CLIENT_CA',
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

/** A text in PEM form. A problem never quotes it, since it may be a private key. */
function pem() {
  return setting<string>((value) => {
    if (typeof value === 'string' && value.includes('-----BEGIN ')) return value
    return new Refusal(
      'is no PEM text',
      'Give the text itself, from -----BEGIN to the end, or name its file in the same variable with _FILE behind it.',
    )
  })
}

/** A text that is taken as it is, blanks included. A problem never quotes it. */
function secret() {
  return setting<string>((value) =>
    typeof value === 'string' ? value : new Refusal('is not a text', 'Give a text.'),
  )
}

/** `host:port,host:port`. An IPv6 address stands in brackets. */
export function brokerList() {
  return setting<readonly string[]>((value) => {
    if (value === undefined) return new Refusal('is not set', waysToABroker)
    const addresses = listOf(value)
    const wrong = addresses.filter((address) => !isHostAndPort(address))
    if (wrong.length === 0 && addresses.length > 0) return addresses
    const quoted = wrong.length === 0 ? quote(value) : wrong.map((address) => quote(address)).join(' and ')
    return new Refusal(
      `has ${quoted}, which ${wrong.length > 1 ? 'are' : 'is'} not host:port`,
      'Give host:port,host:port with ports from 1 to 65535 and nothing else, such as kafka-1:9092,kafka-2:9092.',
    )
  })
}

const waysToABroker = `Chute writes to Kafka and needs the address of a broker. Three ways to have one:
1. npm run kafka, in another terminal: a local Kafka (needs Java 17 and Maven); then KAFKA_BROKERS=127.0.0.1:9092
2. Docker: docker run --rm -p 9092:9092 apache/kafka; then KAFKA_BROKERS=127.0.0.1:9092
3. a cluster that you have: KAFKA_BROKERS=host:port,host:port`

function isHostAndPort(address: string): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9._-]*[a-z0-9_.])?):(\d{1,5})$/i.exec(address)
  const port = Number(match?.[3])
  return port >= 1 && port <= 65_535
}

/** A URL of `redis://` or `rediss://`. A problem never quotes it, since it may contain a password. */
export function redisUrl() {
  return setting<string>((value) => {
    if (typeof value === 'string' && isRedisUrl(value)) return value
    return new Refusal(
      'is not the URL of a Redis',
      'Give redis://host:6379 or rediss://user:password@host:6380/0 (TLS), with what a URL reserves in a password escaped (%40 for @), and nothing else.',
    )
  })
}

function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, pathname, search, hash } = new URL(text)
  if (!/^rediss?:$/.test(protocol) || hostname === '' || search !== '' || hash !== '') return false
  return /^(\/\d{0,5})?$/.test(pathname)
}

/**
 * Origins as a browser sends them (RFC 6454, section 7): scheme and host in lower case, no path and no default port.
 * `https://*.example.com` stands for all subdomains, and `*` alone for every origin.
 */
export function originList() {
  return setting<readonly string[]>((value) => {
    const origins = listOf(value)
    if (origins.length > 1 && origins.includes('*')) {
      return new Refusal(
        'has * beside other origins',
        'Give * alone for any origin, or the origins without it.',
      )
    }
    for (const origin of origins) {
      const right = origin === '*' ? origin : originOf(origin)
      if (right === origin) continue
      const remedy =
        right === null
          ? 'Give scheme://host or scheme://host:port, such as https://app.example.com, or https://*.example.com for all its subdomains.'
          : `Write ${right}.`
      return new Refusal(`has ${quote(origin)}, which is not an origin`, remedy)
    }
    return origins
  })
}

/** The origin of a text, in which `*` may stand at the front of the host for one or more labels. @returns null if it is no origin. */
function originOf(text: string): string | null {
  const host = text.replace('://*.', '://')
  if (host.includes('*') || !URL.canParse(host)) return null
  const { origin } = new URL(host)
  if (origin === 'null') return null
  return host === text ? origin : origin.replace('://', '://*.')
}

function listOf(value: unknown): string[] {
  return String(value)
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}
