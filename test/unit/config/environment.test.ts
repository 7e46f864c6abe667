import { describe, expect, test } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import type { PasswordConfig } from '../../../src/config/kafka-login.ts'
import { environmentShape } from '../../../src/config/environment-schema.ts'
import { operations } from '../../../dev/openapi-operations.ts'
import { makeAuthority } from '../../support/certificates.ts'
import { load, problemsOf } from '../../support/config-fixture.ts'

const issued = makeAuthority().issue('chute')
const [pem, pemKey] = [issued.cert.trimEnd(), issued.key.trimEnd()]
const tls = { KAFKA_SSL: 'true' }
const client = { ...tls, KAFKA_SSL_CERT: pem, KAFKA_SSL_KEY: pemKey }
const sasl = { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p' }
const redis = { CHUTE_DEDUPE_REDIS_URL: 'redis://redis' }

/** Of a login with a name and a password. */
function passwordOf({ kafka: { sasl: login } }: Config): PasswordConfig | null {
  return login === null || 'token' in login ? null : login
}

interface Case {
  readonly name: keyof typeof environmentShape
  readonly value: string
  readonly read: (config: Config) => unknown
  readonly expected: unknown
  /** Without the variable, but with `others`. */
  readonly byDefault: unknown
  readonly others?: NodeJS.ProcessEnv
}

const cases: readonly Case[] = [
  { name: 'HOST', value: '::1', read: (c) => c.http.host, expected: '::1', byDefault: '127.0.0.1' },
  { name: 'CHUTE_OPEN', value: 'true', read: (c) => c.http.open, expected: true, byDefault: false },
  { name: 'PORT', value: '9000', read: (c) => c.http.port, expected: 9000, byDefault: 8080 },
  { name: 'ADMIN_PORT', value: '9001', read: (c) => c.http.adminPort, expected: 9001, byDefault: null },
  {
    name: 'LIVE_EVENTS',
    value: 'false',
    read: (c) => c.http.liveEvents,
    expected: false,
    byDefault: true,
  },
  {
    name: 'CORS_ORIGINS',
    value: 'https://a.example, http://b.example:8000',
    read: (c) => c.http.corsOrigins,
    expected: ['https://a.example', 'http://b.example:8000'],
    byDefault: [],
  },
  {
    name: 'BEACON_PATH',
    value: '/in/web',
    read: (c) => c.http.beaconPath,
    expected: '/in/web',
    byDefault: null,
  },
  {
    name: 'RATE_LIMIT_MAX',
    value: '100',
    read: (c) => c.http.rateLimit,
    expected: { requests: 100, events: null, bytes: null, windowMs: 60_000, burst: 1 },
    byDefault: null,
  },
  {
    name: 'RATE_LIMIT_EVENTS',
    value: '5000',
    read: (c) => c.http.rateLimit,
    expected: { requests: null, events: 5_000, bytes: null, windowMs: 60_000, burst: 1 },
    byDefault: null,
  },
  {
    name: 'RATE_LIMIT_BYTES',
    value: '1048576',
    read: (c) => c.http.rateLimit,
    expected: { requests: null, events: null, bytes: 1_048_576, windowMs: 60_000, burst: 1 },
    byDefault: null,
  },
  {
    name: 'RATE_LIMIT_BURST',
    value: '5',
    read: (c) => c.http.rateLimit?.burst,
    expected: 5,
    byDefault: 1,
    others: { RATE_LIMIT_MAX: '1' },
  },
  {
    name: 'RATE_LIMIT_ALLOW',
    value: '10.0.0.0/8, 192.0.2.7,2001:db8::/32',
    read: (c) => c.http.rateLimitAllow,
    expected: ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32'],
    byDefault: [],
  },
  {
    name: 'RATE_LIMIT_REDIS_URL',
    value: 'redis://limits:6379',
    read: (c) => c.http.rateLimitStore,
    expected: { url: 'redis://limits:6379', prefix: 'chute:limit:' },
    byDefault: null,
  },
  {
    name: 'RATE_LIMIT_REDIS_PREFIX',
    value: 'a:',
    read: (c) => c.http.rateLimitStore?.prefix,
    expected: 'a:',
    byDefault: 'chute:limit:',
    others: { RATE_LIMIT_REDIS_URL: 'redis://limits' },
  },
  {
    name: 'MAX_CONNECTIONS',
    value: '100',
    read: (c) => c.http.bounds.connections,
    expected: 100,
    byDefault: 20_000,
  },
  {
    name: 'MAX_CONNECTIONS_PER_ADDRESS',
    value: '10',
    read: (c) => c.http.bounds.connectionsPerAddress,
    expected: 10,
    byDefault: null,
  },
  { name: 'MAX_BODIES', value: '50', read: (c) => c.http.bounds.bodies, expected: 50, byDefault: 2_000 },
  {
    name: 'MAX_BODIES_PER_ADDRESS',
    value: '5',
    read: (c) => c.http.bounds.bodiesPerAddress,
    expected: 5,
    byDefault: null,
  },
  {
    name: 'RATE_LIMIT_WINDOW',
    value: '30s',
    read: (c) => c.http.rateLimit?.windowMs,
    expected: 30_000,
    byDefault: 60_000,
    others: { RATE_LIMIT_MAX: '1' },
  },
  { name: 'TRUST_PROXY', value: '2', read: (c) => c.http.trustProxyHops, expected: 2, byDefault: 0 },
  {
    name: 'MAX_BODY_BYTES',
    value: '2048',
    read: (c) => c.http.limits.bodyBytes,
    expected: 2048,
    byDefault: 1_048_576,
  },
  {
    name: 'MAX_EVENT_BYTES',
    value: '99',
    read: (c) => c.http.limits.eventBytes,
    expected: 99,
    byDefault: 1_048_576,
  },
  {
    name: 'MAX_EVENTS_PER_REQUEST',
    value: '5',
    read: (c) => c.http.limits.eventsPerRequest,
    expected: 5,
    byDefault: 10_000,
  },
  { name: 'MAX_DEPTH', value: '4', read: (c) => c.http.limits.depth, expected: 4, byDefault: 32 },
  {
    name: 'BODY_TIMEOUT_MS',
    value: '50',
    read: (c) => c.http.limits.bodyTimeoutMs,
    expected: 50,
    byDefault: 10_000,
  },
  {
    name: 'BODY_TIMEOUT_MAX_MS',
    value: '20000',
    read: (c) => c.http.limits.bodyTimeoutMaxMs,
    expected: 20_000,
    byDefault: 300_000,
  },
  {
    name: 'BODY_MIN_BYTES_PER_SECOND',
    value: '0',
    read: (c) => c.http.limits.bodyMinBytesPerSecond,
    expected: 0,
    byDefault: 50,
  },
  {
    name: 'KEEP_ALIVE_TIMEOUT_MS',
    value: '620000',
    read: (c) => c.http.limits.keepAliveTimeoutMs,
    expected: 620_000,
    byDefault: 72_000,
  },
  {
    name: 'KAFKA_BROKERS',
    value: 'a.example:9092, [::1]:19092',
    read: (c) => c.kafka.brokers,
    expected: ['a.example:9092', '[::1]:19092'],
    byDefault: ['kafka:9092'],
  },
  {
    name: 'KAFKA_CLIENT_ID',
    value: 'edge-1',
    read: (c) => c.kafka.clientId,
    expected: 'edge-1',
    byDefault: 'chute',
  },
  { name: 'KAFKA_SSL', value: 'TRUE', read: (c) => c.kafka.ssl !== null, expected: true, byDefault: false },
  {
    name: 'KAFKA_SSL_CA',
    value: pem,
    read: (c) => c.kafka.ssl?.ca,
    expected: pem,
    byDefault: null,
    others: tls,
  },
  {
    name: 'KAFKA_SSL_CERT',
    value: `${pem}\nsecond`,
    read: (c) => c.kafka.ssl?.cert,
    expected: `${pem}\nsecond`,
    byDefault: pem,
    others: client,
  },
  {
    name: 'KAFKA_SSL_KEY',
    value: `first\n${pemKey}`,
    read: (c) => c.kafka.ssl?.key,
    expected: `first\n${pemKey}`,
    byDefault: pemKey,
    others: client,
  },
  {
    name: 'KAFKA_SSL_REJECT_UNAUTHORIZED',
    value: 'false',
    read: (c) => c.kafka.ssl?.rejectUnauthorized,
    expected: false,
    byDefault: true,
    others: tls,
  },
  {
    name: 'KAFKA_SSL_SERVERNAME',
    value: 'kafka.example',
    read: (c) => c.kafka.ssl?.servername,
    expected: 'kafka.example',
    byDefault: null,
    others: tls,
  },
  {
    name: 'KAFKA_SASL_MECHANISM',
    value: 'SCRAM-SHA-512',
    read: (c) => c.kafka.sasl?.mechanism,
    expected: 'scram-sha-512',
    byDefault: 'plain',
    others: sasl,
  },
  {
    name: 'KAFKA_SASL_USERNAME',
    value: 'alice',
    read: (c) => passwordOf(c)?.username,
    expected: 'alice',
    byDefault: 'u',
    others: sasl,
  },
  {
    name: 'KAFKA_SASL_PASSWORD',
    value: ' with blanks ',
    read: (c) => passwordOf(c)?.password,
    expected: ' with blanks ',
    byDefault: 'p',
    others: sasl,
  },
  {
    name: 'KAFKA_CONNECTION_TIMEOUT_MS',
    value: '100',
    read: (c) => c.kafka.connectionTimeoutMs,
    expected: 100,
    byDefault: 3_000,
  },
  {
    name: 'KAFKA_METADATA_MAX_AGE_MS',
    value: '100',
    read: (c) => c.kafka.metadataMaxAgeMs,
    expected: 100,
    byDefault: 5_000,
  },
  {
    name: 'CHUTE_DATA_DIR',
    value: '/data',
    read: (c) => c.dataDir,
    expected: '/data',
    byDefault: null,
  },
  {
    name: 'CHUTE_DATA_DIR_EPHEMERAL',
    value: 'true',
    others: { CHUTE_DATA_DIR: '/data' },
    read: (c) => c.dataDirEphemeral,
    expected: true,
    byDefault: false,
  },
  {
    name: 'KAFKA_CREATE_TOPICS',
    value: 'false',
    read: (c) => c.kafka.topics.create,
    expected: false,
    byDefault: true,
  },
  {
    name: 'KAFKA_TOPIC_PARTITIONS',
    value: '12',
    read: (c) => c.kafka.topics.partitions,
    expected: 12,
    byDefault: null,
  },
  {
    name: 'KAFKA_TOPIC_REPLICATION',
    value: '3',
    read: (c) => c.kafka.topics.replicationFactor,
    expected: 3,
    byDefault: null,
  },
  {
    name: 'CHUTE_DEDUPE_REDIS_URL',
    value: 'rediss://user:p%40ss@redis.example:6380/2',
    read: (c) => c.dedupeStore?.url,
    expected: 'rediss://user:p%40ss@redis.example:6380/2',
    byDefault: undefined,
  },
  {
    name: 'CHUTE_DEDUPE_REDIS_PREFIX',
    value: 'team-a:',
    read: (c) => c.dedupeStore?.prefix,
    expected: 'team-a:',
    byDefault: 'chute:',
    others: redis,
  },
  {
    name: 'CHUTE_DEDUPE_REDIS_LEASE_MS',
    value: '5000',
    read: (c) => c.dedupeStore?.leaseMs,
    expected: 5_000,
    byDefault: 30_000,
    others: redis,
  },
  {
    name: 'CHUTE_DEDUPE_REDIS_TIMEOUT_MS',
    value: '250',
    read: (c) => c.dedupeStore?.timeoutMs,
    expected: 250,
    byDefault: 1_000,
    others: redis,
  },
  {
    name: 'SHUTDOWN_TIMEOUT_MS',
    value: '1',
    read: (c) => c.shutdownTimeoutMs,
    expected: 1,
    byDefault: 10_000,
  },
  {
    name: 'DRAIN_DELAY_MS',
    value: '0',
    read: (c) => c.drainDelayMs,
    expected: 0,
    byDefault: null,
  },
  {
    name: 'SPOOL_DRAIN_TIMEOUT_MS',
    value: '30000',
    read: (c) => c.spoolDrainTimeoutMs,
    expected: 30_000,
    byDefault: 0,
  },
  { name: 'WORKERS', value: '4', read: (c) => c.workers, expected: 4, byDefault: 1 },
  { name: 'LOG_LEVEL', value: 'Debug', read: (c) => c.logLevel, expected: 'debug', byDefault: 'info' },
  { name: 'LOG_FORMAT', value: 'ECS', read: (c) => c.logFormat, expected: 'ecs', byDefault: 'pino' },
]

describe('each variable of the environment', () => {
  test.each(cases)('$name sets its value', ({ name, value, read, expected, others }) => {
    expect(read(load({ ...others, [name]: value }))).toEqual(expected)
  })

  test.each(cases)(
    '$name has its default when it is not set, or empty',
    ({ name, read, byDefault, others }) => {
      expect(read(load({ ...others }))).toEqual(byDefault)
      if (others?.[name] === undefined && name !== 'KAFKA_BROKERS') {
        expect(read(load({ ...others, [name]: '' }))).toEqual(byDefault)
      }
    },
  )

  test('is in this table, but for those with tests of their own', () => {
    const files = ['CHUTE_CONFIG', 'CHUTE_KEYS_FILE', 'TLS_CERT', 'TLS_KEY', 'TLS_CLIENT_CA']
    const ofTokens = Object.keys(environmentShape).filter((name) => /_OAUTHBEARER_|_SASL_AWS_/.test(name))
    const elsewhere = [...files, ...ofTokens]
    const tested = [...cases.map(({ name }) => name), ...elsewhere]
    expect(tested.toSorted()).toEqual(Object.keys(environmentShape).toSorted())
  })
})

describe('a wrong value', () => {
  const wrong: readonly [name: string, value: string, remedy: RegExp, others?: NodeJS.ProcessEnv][] = [
    ['PORT', '80a', /whole number, 0 to 65535/],
    ['PORT', '65536', /0 to 65535/],
    ['ADMIN_PORT', '-1', /0 to 65535/],
    ['BODY_TIMEOUT_MS', '10s', /milliseconds as a plain whole number, .*: write 10000\./],
    ['MAX_BODY_BYTES', '1MiB', /bytes as a plain whole number, .*: write 1048576\./],
    ['MAX_BODY_BYTES', '1.5', /plain whole number/],
    ['RATE_LIMIT_WINDOW', 'a minute', /60000 \(milliseconds\), 60s, 1m/, { RATE_LIMIT_MAX: '1' }],
    ['RATE_LIMIT_WINDOW', '0s', /duration/, { RATE_LIMIT_MAX: '1' }],
    ['RATE_LIMIT_ALLOW', '10.0.0.0/33', /addresses and networks by comma/],
    ['RATE_LIMIT_ALLOW', '10.1', /addresses and networks by comma/],
    ['RATE_LIMIT_REDIS_URL', 'http://redis', /redis:\/\/host:6379/],
    ['MAX_CONNECTIONS', '0', /1 to /],
    ['TRUST_PROXY', 'true', /whole number/],
    ['KAFKA_SSL', 'yes', /true or false/],
    ['KAFKA_SSL_CA', '/etc/ca.pem', /_FILE/, tls],
    ['KAFKA_SASL_MECHANISM', 'gssapi', /plain, scram-sha-256, scram-sha-512, oauthbearer/, sasl],
    ['KAFKA_BROKERS', 'kafka', /host:port/],
    ['KAFKA_BROKERS', 'kafka:9092,kafka:0', /host:port/],
    ['KAFKA_BROKERS', 'kafka:99999', /65535/],
    ['KAFKA_BROKERS', 'http://kafka:9092', /host:port/],
    ['KAFKA_BROKERS', ',', /host:port/],
    ['CORS_ORIGINS', 'https://a.example/app', /Write https:\/\/a\.example\./],
    ['CORS_ORIGINS', 'https://a.example/', /Write https:\/\/a\.example\./],
    ['CORS_ORIGINS', 'https://a.example:443', /Write https:\/\/a\.example\./],
    ['CORS_ORIGINS', 'a.example', /scheme:\/\/host/],
    ['CORS_ORIGINS', 'https://*', /\*\.example\.com/],
    ['CORS_ORIGINS', 'https://a*.example.com', /\*\.example\.com/],
    ['CORS_ORIGINS', 'https://*.Example.com:443/', /Write https:\/\/\*\.example\.com\./],
    ['CORS_ORIGINS', '*,https://a.example', /\* alone/],
    ['LOG_LEVEL', 'verbose', /trace/],
    ['LOG_FORMAT', 'json', /ecs/],
    ['CHUTE_DEDUPE_REDIS_LEASE_MS', '999', /1000 to/, redis],
    ['CHUTE_DEDUPE_REDIS_TIMEOUT_MS', '5', /10 to/, redis],
    ['WORKERS', '0', /1 to 256/],
    ['WORKERS', 'all', /whole number/],
  ]

  test.each(wrong)('%s=%s is refused and says what would be right', (name, value, remedy, others) => {
    const problems = problemsOf(() => load({ ...others, [name]: value }))
    expect(problems).toEqual([
      { path: name, problem: expect.any(String), remedy: expect.stringMatching(remedy) },
    ])
  })

  test('that may be a key is not quoted', () => {
    const problems = problemsOf(() => load({ ...client, KAFKA_SSL_KEY: 'hunter2' }))
    expect(problems).toHaveLength(1)
    expect(JSON.stringify(problems)).not.toContain('hunter2')
  })
})

describe('BEACON_PATH', () => {
  test.each(['in', '/in/', '/', '/a b', '/a//b', '/a/../b', '/.well-known', '/in?x', '/in/:stream', '/*'])(
    'is not %s, which is no path',
    (value) => {
      const [problem] = problemsOf(() => load({ BEACON_PATH: value }))
      expect(problem).toMatchObject({ path: 'BEACON_PATH', problem: expect.stringContaining('not a path') })
    },
  )

  /** What stands in openapi.yaml, but for the page at `/`. */
  const documented = operations.map(({ path }) => path.replace(/\{.*/, 'x')).filter((path) => path !== '/')

  test.each([
    ...documented,
    '/v1',
    '/v1/in',
    '/metrics',
    '/docs/in',
    '/chute.js',
    '/openapi.json/x',
    '/live.json',
  ])('is not %s, which the gateway has itself', (value) => {
    const [problem] = problemsOf(() => load({ BEACON_PATH: value }))
    expect(problem).toMatchObject({ path: 'BEACON_PATH', problem: expect.stringContaining('has itself') })
  })
})

describe('KAFKA_BROKERS', () => {
  test('names the three ways to a broker when it is not set', () => {
    const [problem] = problemsOf(() => load({ KAFKA_BROKERS: undefined }))
    expect(problem?.path).toBe('KAFKA_BROKERS')
    expect(problem?.remedy).toMatch(/npm run kafka[^]*[Dd]ocker[^]*cluster/)
  })
})

describe('variables that belong together', () => {
  const contradictions: readonly [what: string, env: NodeJS.ProcessEnv, path: string, remedy: RegExp][] = [
    ['ADMIN_PORT = PORT', { ADMIN_PORT: '8080' }, 'ADMIN_PORT', /another port/],
    ['SASL without a password', { ...sasl, KAFKA_SASL_PASSWORD: '' }, 'KAFKA_SASL_PASSWORD', /all three/],
    ['SASL without a mechanism', { ...sasl, KAFKA_SASL_MECHANISM: '' }, 'KAFKA_SASL_MECHANISM', /all three/],
    ['a certificate without its key', { ...tls, KAFKA_SSL_CERT: pem }, 'KAFKA_SSL_KEY', /both/],
    [
      'a certificate with the key of another one',
      { ...client, KAFKA_SSL_KEY: makeAuthority().issue('other').key },
      'KAFKA_SSL_KEY',
      /made together/,
    ],
    [
      'authorities that cannot be read',
      { ...tls, KAFKA_SSL_CA: `-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----` },
      'KAFKA_SSL_CA',
      /PEM form/,
    ],
    ['a CA without TLS', { KAFKA_SSL_CA: pem }, 'KAFKA_SSL_CA', /KAFKA_SSL=true/],
    [
      'an end of bodies before their grace is over',
      { BODY_TIMEOUT_MS: '1000', BODY_TIMEOUT_MAX_MS: '999' },
      'BODY_TIMEOUT_MAX_MS',
      /1000 or more/,
    ],
    ['a window without a limit', { RATE_LIMIT_WINDOW: '1m' }, 'RATE_LIMIT_WINDOW', /RATE_LIMIT_MAX/],
    [
      'leave to lose a folder that is not there',
      { CHUTE_DATA_DIR_EPHEMERAL: 'true' },
      'CHUTE_DATA_DIR_EPHEMERAL',
      /Set CHUTE_DATA_DIR/,
    ],
    ['a burst of nothing', { RATE_LIMIT_BURST: '2' }, 'RATE_LIMIT_BURST', /Set RATE_LIMIT_MAX/],
    [
      'a prefix without a Redis',
      { RATE_LIMIT_REDIS_PREFIX: 'a:' },
      'RATE_LIMIT_REDIS_PREFIX',
      /Set RATE_LIMIT_REDIS_URL/,
    ],
    [
      'a lease without a Redis',
      { CHUTE_DEDUPE_REDIS_LEASE_MS: '5000' },
      'CHUTE_DEDUPE_REDIS_LEASE_MS',
      /Set CHUTE_DEDUPE_REDIS_URL/,
    ],
    ['a misspelt KAFKA_ name', { KAFKA_BROKER: 'a:1' }, 'KAFKA_BROKER', /Did you mean KAFKA_BROKERS\?/],
    ['a misspelt CHUTE_ name', { CHUTE_CONFIGS: 'x' }, 'CHUTE_CONFIGS', /Did you mean CHUTE_CONFIG\?/],
    [
      'a security protocol',
      { KAFKA_SECURITY_PROTOCOL: 'SASL_SSL' },
      'KAFKA_SECURITY_PROTOCOL',
      /KAFKA_SSL=true/,
    ],
    [
      'brokers by Java’s name',
      { KAFKA_BOOTSTRAP_SERVERS: 'a:1' },
      'KAFKA_BOOTSTRAP_SERVERS',
      /KAFKA_BROKERS/,
    ],
    ['brokers by librdkafka’s name', { BOOTSTRAP_SERVERS: 'a:1' }, 'BOOTSTRAP_SERVERS', /KAFKA_BROKERS/],
    ['TLS by another name', { KAFKA_SSL_ENABLED: 'true' }, 'KAFKA_SSL_ENABLED', /KAFKA_SSL=true/],
    [
      'an authority by another name',
      { KAFKA_SSL_CA_LOCATION: '/a' },
      'KAFKA_SSL_CA_LOCATION',
      /KAFKA_SSL_CA_FILE/,
    ],
    [
      'a trust store',
      { KAFKA_SSL_TRUSTSTORE_LOCATION: '/a' },
      'KAFKA_SSL_TRUSTSTORE_LOCATION',
      /KAFKA_SSL_CA_FILE/,
    ],
    ['a user by another name', { KAFKA_SASL_USER: 'a' }, 'KAFKA_SASL_USER', /KAFKA_SASL_USERNAME/],
    ['an API key', { KAFKA_API_KEY: 'a' }, 'KAFKA_API_KEY', /KAFKA_SASL_USERNAME/],
    ['JAAS', { KAFKA_SASL_JAAS_CONFIG: 'a' }, 'KAFKA_SASL_JAAS_CONFIG', /KAFKA_SASL_PASSWORD/],
    ['Spring', { SPRING_KAFKA_BOOTSTRAP_SERVERS: 'a' }, 'SPRING_KAFKA_BOOTSTRAP_SERVERS', /KAFKA_BROKERS/],
    ['a setting of the producer', { KAFKA_LINGER_MS: '5' }, 'KAFKA_LINGER_MS', /linger\.ms/],
    ['one origin', { CORS_ORIGIN: 'https://a.example' }, 'CORS_ORIGIN', /CORS_ORIGINS/],
    ['origins by another name', { CORS_ALLOWED_ORIGINS: '*' }, 'CORS_ALLOWED_ORIGINS', /CORS_ORIGINS/],
    ['a limit by another name', { RATE_LIMIT_REQUESTS: '1' }, 'RATE_LIMIT_REQUESTS', /RATE_LIMIT_MAX/],
    ['an unknown TLS_ name', { TLS_VERSION: '1' }, 'TLS_VERSION', /docs\/configuration\.md/],
    [
      'an unknown KAFKA_ name',
      { KAFKA_WHATEVER_ELSE: '1' },
      'KAFKA_WHATEVER_ELSE',
      /docs\/configuration\.md/,
    ],
    [
      'an unknown CHUTE_ name',
      { CHUTE_WHATEVER_ELSE: '1' },
      'CHUTE_WHATEVER_ELSE',
      /docs\/configuration\.md/,
    ],
    ['a port by another name', { CHUTE_PORT: '9000' }, 'CHUTE_PORT', /^Set PORT\.$/],
    ['an admin port by another name', { CHUTE_ADMIN_PORT: '9100' }, 'CHUTE_ADMIN_PORT', /^Set ADMIN_PORT\.$/],
    ['a misspelt _FILE', { KAFKA_SSL_CAFILE: 'x' }, 'KAFKA_SSL_CAFILE', /Did you mean KAFKA_SSL_CA_FILE\?/],
  ]

  test.each(contradictions)('%s is refused', (_, env, path, remedy) => {
    const problems = problemsOf(() => load(env))
    expect(problems).toEqual([{ path, problem: expect.any(String), remedy: expect.stringMatching(remedy) }])
  })

  test('each broker that is wrong is named', () => {
    const problems = problemsOf(() => load({ KAFKA_BROKERS: 'a,b:1,c:x,d:70000' }))
    expect(problems).toMatchObject([{ problem: 'has "a" and "c:x" and "d:70000", which are not host:port' }])
  })

  test('a grace of bodies that is longer than their default end moves that end', () => {
    const { limits } = load({ BODY_TIMEOUT_MS: '600000' }).http
    expect(limits).toMatchObject({ bodyTimeoutMs: 600_000, bodyTimeoutMaxMs: 600_000 })
  })

  test('two random ports are no contradiction', () => {
    expect(load({ PORT: '0', ADMIN_PORT: '0' }).http).toMatchObject({ port: 0, adminPort: 0 })
  })

  test.each([
    'KAFKA_HOME',
    'KAFKA_PORT',
    'KAFKA_HEAP_OPTS',
    'KAFKA_PORT_9092_TCP',
    'CHUTE_CACHE_DIR',
    'CHUTE_PORT',
    'CHUTE_SERVICE_HOST',
    'CHUTE_REDIS_SERVICE_PORT_HTTP',
    'KAFKA_PORT_9092_TCP_ADDR',
    'KAFKA_JVM_PERFORMANCE_OPTS',
    'BOOTSTRAP_DIR',
  ])('%s belongs to others and is left alone', (name) => {
    expect(problemsOf(() => load({ [name]: 'x' }))).toEqual([])
  })

  test('what Kubernetes and Docker set for a service called chute is left alone', () => {
    const env = {
      CHUTE_PORT: 'tcp://10.0.0.1:80',
      CHUTE_ADMIN_PORT: 'tcp://10.0.0.2:9100',
      CHUTE_SERVICE_PORT: '80',
      CHUTE_ADMIN_SERVICE_PORT_ADMIN: '9100',
      CHUTE_PORT_80_TCP_PORT: '80',
    }
    expect(problemsOf(() => load(env))).toEqual([])
  })
})

describe('NAME_FILE', () => {
  test.each([
    ['KAFKA_SSL_CA', pem, (c: Config) => c.kafka.ssl?.ca],
    ['KAFKA_SSL_CERT', pem, (c: Config) => c.kafka.ssl?.cert],
    ['KAFKA_SSL_KEY', pemKey, (c: Config) => c.kafka.ssl?.key],
    ['KAFKA_SASL_USERNAME', 'u', (c: Config) => passwordOf(c)?.username],
    ['KAFKA_SASL_PASSWORD', 'p', (c: Config) => passwordOf(c)?.password],
  ] as const)('gives %s, without the newline that ends the file', (name, text, read) => {
    const env = { ...client, ...sasl, [name]: undefined, [`${name}_FILE`]: '/run/secrets/it' }
    expect(read(load(env, { '/run/secrets/it': `${text}\n` }))).toBe(text)
  })

  test('that cannot be read is the only problem told', () => {
    const env = { ...sasl, KAFKA_SASL_PASSWORD: undefined, KAFKA_SASL_PASSWORD_FILE: '/missing' }
    expect(problemsOf(() => load(env))).toEqual([
      {
        path: 'KAFKA_SASL_PASSWORD_FILE',
        problem: 'names /missing: there is no such file',
        remedy: expect.stringContaining('KAFKA_SASL_PASSWORD'),
      },
    ])
  })

  test('beside NAME is refused', () => {
    const problems = problemsOf(() => load({ ...sasl, KAFKA_SASL_PASSWORD_FILE: '/f' }, { '/f': 'x' }))
    expect(problems.map(({ path }) => path)).toEqual(['KAFKA_SASL_PASSWORD_FILE'])
  })
})
