import type { z } from 'zod'
import { logFormats, logLevels } from './config.ts'
import {
  beaconPath,
  brokerList,
  httpUrl,
  originList,
  pem,
  portNumber,
  redisUrl,
  saslExtensions,
  secret,
} from './environment-values.ts'
import { saslMechanisms } from './kafka-login.ts'
import { burst, duration, networkList } from './limit-schema.ts'
import type { FieldValues } from './read-fields.ts'
import { metaOf, nonEmptyText, oneOf, reference, trueOrFalse, wholeNumber } from './setting.ts'

/** Variables of the HTTP side. */
export const httpShape = {
  HOST: nonEmptyText
    .default('127.0.0.1')
    .register(reference, { what: 'the address to listen on', byDefault: '{} (the image: `0.0.0.0`)' }),
  PORT: portNumber(0)
    .default(8080)
    .register(reference, { what: 'the port of the event routes; 0: any free one' }),
  ADMIN_PORT: portNumber(0).nullable().default(null).register(reference, {
    what: 'where `/metrics`, health, docs and the live page are; not set: on `PORT`. Never the same as `PORT`',
  }),
  LIVE_EVENTS: trueOrFalse.nullable().default(null).register(reference, {
    what: 'whether the live page and `chute tail` show the last events, with the first 200 bytes of each, [security.md](security.md#events-on-the-live-page)',
    byDefault:
      '`true` where keys, `ADMIN_PORT` or a loopback `HOST` without `TRUST_PROXY` guard the live page; else `false`',
  }),
  TLS_CERT: pem().nullable().default(null).register(reference, {
    what: 'the certificate of `PORT`, and behind it those of its issuers: `PORT` speaks HTTPS, [tls.md](tls.md). `ADMIN_PORT` never does',
    byDefault: 'not set: plain HTTP',
  }),
  TLS_KEY: pem()
    .nullable()
    .default(null)
    .register(reference, { what: 'the key of that certificate, without a password' }),
  TLS_CLIENT_CA: pem().nullable().default(null).register(reference, {
    what: "the authorities of the clients' certificates: a client may show one, which one of these has to have signed; its common name is the name of a key",
    byDefault: 'not set: no client is asked',
  }),
  CORS_ORIGINS: originList().default([]).register(reference, {
    what: 'origins whose pages may send events: `https://app.example.com,http://localhost:3000`. `https://*.example.com`: all its subdomains. `*` alone: any. An origin has no path and no default port',
    byDefault: 'none',
    orInFile: true,
  }),
  BEACON_PATH: beaconPath().nullable().default(null).register(reference, {
    what: 'a path of your own that the beacon routes stand under too, such as `/in`: blockers match words of a path. The script tag then has `data-path`, [browser.md](browser.md#ad-blockers)',
    byDefault: 'not set: only `/v1/beacon`',
  }),
  RATE_LIMIT_MAX: wholeNumber(null, 1).nullable().default(null).register(reference, {
    what: 'requests that an address may make in `RATE_LIMIT_WINDOW`, over all workers; then 429',
    byDefault: 'not set: no limit',
    orInFile: true,
  }),
  RATE_LIMIT_EVENTS: wholeNumber(null, 1).nullable().default(null).register(reference, {
    what: 'events that an address may send in `RATE_LIMIT_WINDOW`, good and bad ones; then 429, and nothing of the request is taken',
    byDefault: 'not set: no limit',
    orInFile: true,
  }),
  RATE_LIMIT_BYTES: wholeNumber('bytes', 1).nullable().default(null).register(reference, {
    what: 'bytes of bodies that an address may send in `RATE_LIMIT_WINDOW`, as received or as inflated, whichever is more; then 429',
    byDefault: 'not set: no limit',
    orInFile: true,
  }),
  RATE_LIMIT_WINDOW: duration().default(60_000).register(reference, {
    what: 'the time that the limits of an address count over: `60000` (milliseconds), `500ms`, `60s`, `1m`, `1h`',
    orInFile: true,
  }),
  RATE_LIMIT_BURST: burst().register(reference, {
    what: "how many windows' worth an address may send at once after it was quiet for as many windows, [limits.md](limits.md#burst)",
    orInFile: true,
  }),
  RATE_LIMIT_ALLOW: networkList().default([]).register(reference, {
    what: 'addresses and networks that no limit by address holds for: `10.0.0.0/8,2001:db8::/32`. Limits of keys hold for them, too',
    byDefault: 'none',
    orInFile: true,
  }),
  RATE_LIMIT_REDIS_URL: redisUrl().nullable().default(null).register(reference, {
    what: 'a Redis or Valkey in which several gateways count together, [limits.md](limits.md#several-gateways); a URL as in `CHUTE_DEDUPE_REDIS_URL`. While it is away, each gateway counts alone',
    byDefault: 'not set: each gateway counts alone',
  }),
  RATE_LIMIT_REDIS_PREFIX: nonEmptyText
    .default('chute:limit:')
    .register(reference, { what: 'what all keys of the limits in that Redis begin with' }),
  TRUST_PROXY: wholeNumber(null, 0, 32).default(0).register(reference, {
    what: 'number of proxies in front that append to `X-Forwarded-For`; what the address for the limits is taken from',
  }),
  MAX_CONNECTIONS: wholeNumber(null, 1).default(20_000).register(reference, {
    what: 'connections that are open at a time on `PORT`, over all workers; one more is closed',
  }),
  MAX_CONNECTIONS_PER_ADDRESS: wholeNumber(null, 1).nullable().default(null).register(reference, {
    what: 'connections that an address holds open at a time with one process; one more is closed. It is the address of the connection: a proxy in front belongs into `RATE_LIMIT_ALLOW`',
    byDefault: 'not set: no limit',
  }),
  MAX_BODIES: wholeNumber(null, 1).default(2_000).register(reference, {
    what: 'bodies that are being read at a time, over all workers; then 503. With `MAX_BODY_BYTES` it bounds the memory of bodies that come slowly',
  }),
  MAX_BODIES_PER_ADDRESS: wholeNumber(null, 1).nullable().default(null).register(reference, {
    what: 'bodies of one address that one process reads at a time; then 429',
    byDefault: 'not set: no limit',
  }),
  MAX_BODY_BYTES: wholeNumber('bytes', 1)
    .default(1_048_576)
    .register(reference, { what: 'largest body, as received and after inflating; then 413' }),
  MAX_EVENT_BYTES: wholeNumber('bytes', 1).default(1_048_576).register(reference, {
    what: "largest event; the topic's `max.message.bytes` may be lower and then rules",
  }),
  MAX_EVENTS_PER_REQUEST: wholeNumber(null, 1)
    .default(10_000)
    .register(reference, { what: 'events in one request; then 413' }),
  MAX_DEPTH: wholeNumber(null, 1, 1_000).default(32).register(reference, {
    what: "nesting of one event's JSON. An event above 32 KB that a JSON Schema judges may also have 20,000 members, objects and arrays at most, and 100,000 texts and numbers; a quarter of these if the schema has `uniqueItems`",
  }),
  BODY_TIMEOUT_MS: wholeNumber('milliseconds', 1).default(10_000).register(reference, {
    what: 'from the first byte of a request to the end of its header; then 408. A body that takes longer has to come at `BODY_MIN_BYTES_PER_SECOND` or faster',
  }),
  BODY_TIMEOUT_MAX_MS: wholeNumber('milliseconds', 1).nullable().default(null).register(reference, {
    what: 'from the first byte of a request to its last in any case; then 408',
    byDefault: '{}, or `BODY_TIMEOUT_MS` if that is longer',
  }),
  BODY_MIN_BYTES_PER_SECOND: wholeNumber('bytes', 0).default(50).register(reference, {
    what: 'what has to come of a body that is not complete after `BODY_TIMEOUT_MS`, measured over each `BODY_TIMEOUT_MS`; then 408. 0: any pace will do',
  }),
  // Longer than the 60 s of most load balancers.
  KEEP_ALIVE_TIMEOUT_MS: wholeNumber('milliseconds', 1_000, 86_400_000).default(72_000).register(reference, {
    what: 'how long a connection is kept on which no request comes. It has to be longer than a load balancer in front keeps it, [load-balancers.md](load-balancers.md#keep-alive)',
  }),
} satisfies z.ZodRawShape

/** Variables of the way to Kafka. */
export const kafkaShape = {
  KAFKA_BROKERS: brokerList().nonoptional().register(reference, {
    what: 'bootstrap brokers; an IPv6 address stands in brackets',
    byDefault: 'required',
  }),
  KAFKA_CLIENT_ID: nonEmptyText
    .default('chute')
    .register(reference, { what: 'the client id that brokers log and set quotas by' }),
  KAFKA_SSL: trueOrFalse
    .default(false)
    .register(reference, { what: '`true`: TLS. The other `KAFKA_SSL_` variables need it' }),
  KAFKA_SSL_CA: pem().nullable().default(null).register(reference, {
    what: "the authorities that the brokers' certificates are checked against",
    byDefault: "Node's own",
  }),
  KAFKA_SSL_CERT: pem()
    .nullable()
    .default(null)
    .register(reference, { what: "the client's certificate, for mutual TLS; only with `KAFKA_SSL_KEY`" }),
  KAFKA_SSL_KEY: pem()
    .nullable()
    .default(null)
    .register(reference, { what: 'the key of that certificate; only with `KAFKA_SSL_CERT`' }),
  KAFKA_SSL_REJECT_UNAUTHORIZED: trueOrFalse
    .default(true)
    .register(reference, { what: '`false` takes any certificate: for trials only' }),
  KAFKA_SSL_SERVERNAME: nonEmptyText.nullable().default(null).register(reference, {
    what: 'the name that certificates are checked for',
    byDefault: "the broker's host",
  }),
  KAFKA_SASL_MECHANISM: oneOf(saslMechanisms).nullable().default(null).register(reference, {
    what: 'the way to log in, in any case. `plain` without TLS sends the password in the clear. `oauthbearer` needs one of the three sources of tokens below, `aws_msk_iam` the package `aws-msk-iam-sasl-signer-js` ([brokers.md](brokers.md#amazon-msk)), the others a name and a password',
  }),
  KAFKA_SASL_USERNAME: nonEmptyText
    .nullable()
    .default(null)
    .register(reference, { what: 'the name; with the password', orInFile: true }),
  KAFKA_SASL_PASSWORD: secret()
    .nullable()
    .default(null)
    .register(reference, { what: 'the password, taken with its blanks; with the name' }),
  KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: httpUrl().nullable().default(null).register(reference, {
    what: 'where a token is got with client credentials (RFC 6749, section 4.4), [brokers.md](brokers.md#tokens)',
  }),
  KAFKA_SASL_OAUTHBEARER_CLIENT_ID: nonEmptyText
    .nullable()
    .default(null)
    .register(reference, { what: 'the client there', orInFile: true }),
  KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET: secret()
    .nullable()
    .default(null)
    .register(reference, { what: 'its secret' }),
  KAFKA_SASL_OAUTHBEARER_SCOPE: nonEmptyText
    .nullable()
    .default(null)
    .register(reference, { what: 'the scope to ask for' }),
  KAFKA_SASL_OAUTHBEARER_AUDIENCE: nonEmptyText
    .nullable()
    .default(null)
    .register(reference, { what: 'the audience to ask for, where the endpoint wants one' }),
  KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: nonEmptyText.nullable().default(null).register(reference, {
    what: 'in place of the endpoint: the path of a file with a token, which somebody else keeps new. It is read at each need of a token',
  }),
  KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND: nonEmptyText.nullable().default(null).register(reference, {
    what: 'in place of the endpoint: a command of the shell that prints a token',
  }),
  KAFKA_SASL_OAUTHBEARER_EXTENSIONS: saslExtensions().default({}).register(reference, {
    what: 'SASL extensions (KIP-342): `logicalCluster=lkc-1,identityPoolId=pool-1` for Confluent Cloud',
    byDefault: 'none',
  }),
  KAFKA_SASL_AWS_REGION: nonEmptyText.nullable().default(null).register(reference, {
    what: 'with `aws_msk_iam`: the region of the cluster',
    byDefault: 'that of the names in `KAFKA_BROKERS`',
  }),
  KAFKA_SASL_AWS_ROLE_ARN: nonEmptyText.nullable().default(null).register(reference, {
    what: 'with `aws_msk_iam`: a role that is taken on to log in',
    byDefault: 'the credentials that are found, as by all tools of AWS',
  }),
  KAFKA_CONNECTION_TIMEOUT_MS: wholeNumber('milliseconds', 1)
    .default(3_000)
    .register(reference, { what: 'longest wait for a connection to a broker' }),
  KAFKA_METADATA_MAX_AGE_MS: wholeNumber('milliseconds', 1)
    .default(5_000)
    .register(reference, { what: 'oldest knowledge of partitions and leaders (`metadata.max.age.ms`)' }),
  KAFKA_CREATE_TOPICS: trueOrFalse.default(true).register(reference, {
    what: 'topics that are missing at start are created; `false`: the gateway waits for them, not ready. A write never creates one, and a topic that is deleted later is not made again',
  }),
  KAFKA_TOPIC_PARTITIONS: wholeNumber(null, 1).nullable().default(null).register(reference, {
    what: 'partitions of a topic that is created',
    byDefault: 'as the brokers are set',
  }),
  KAFKA_TOPIC_REPLICATION: wholeNumber(null, 1, 32_767).nullable().default(null).register(reference, {
    what: 'replicas of a topic that is created',
    byDefault: 'as the brokers are set',
  }),
} satisfies z.ZodRawShape

/** The delay where `DRAIN_DELAY_MS` is not set, in words. `drainDelayMs` of commands/process.ts has the numbers. */
export const usualDrainDelay = '5000 after SIGTERM, 0 after SIGINT'

/** Variables of the process, its files and its store of keys. */
export const processShape = {
  CHUTE_CONFIG: nonEmptyText.nullable().default(null).register(reference, {
    what: "path of the streams' file; `.json` is read as JSON, anything else as YAML 1.2",
    byDefault: 'not set: the two default streams',
  }),
  CHUTE_KEYS_FILE: nonEmptyText.nullable().default(null).register(reference, {
    what: 'path of a file with the keys that clients send, where the file of `CHUTE_CONFIG` has none: a Secret of its own, [security.md](security.md)',
  }),
  CHUTE_OPEN: trueOrFalse.default(false).register(reference, {
    what: '`true`: nobody needs a key although `HOST` is not a loopback address. Without keys and without it such a gateway does not start',
  }),
  CHUTE_DATA_DIR: nonEmptyText.nullable().default(null).register(reference, {
    what: 'the folder in which durable streams keep events before they answer 202. Not set: no stream is durable, and accepted events are in memory only. One gateway a folder: a second one does not start. A folder that goes with its container is not called durable, [durable.md](durable.md)',
  }),
  CHUTE_DATA_DIR_EPHEMERAL: trueOrFalse.default(false).register(reference, {
    what: '`true`: a 202 says `durable` although the folder is on overlayfs, aufs, tmpfs or ramfs. For trials and tests. Without `CHUTE_DATA_DIR` the start is refused',
  }),
  CHUTE_DEDUPE_REDIS_URL: redisUrl().nullable().default(null).register(reference, {
    what: "a Redis or Valkey in which several gateways share what they know of keys and ids, [duplicates.md](duplicates.md): `redis://host:6379`, `rediss://user:password@host:6380/0` with TLS (another authority than Node's own: `NODE_EXTRA_CA_CERTS`)",
    byDefault: 'not set: keys are known to one process',
  }),
  CHUTE_DEDUPE_REDIS_PREFIX: nonEmptyText
    .default('chute:')
    .register(reference, { what: 'what all its keys begin with' }),
  CHUTE_DEDUPE_REDIS_LEASE_MS: wholeNumber('milliseconds', 1_000).default(30_000).register(reference, {
    what: 'for how long the key of a request without an answer outlives a gateway that dies',
  }),
  CHUTE_DEDUPE_REDIS_TIMEOUT_MS: wholeNumber('milliseconds', 10).default(1_000).register(reference, {
    what: 'longest wait for an answer of Redis, and for a connection; then it is away',
  }),
  SHUTDOWN_TIMEOUT_MS: wholeNumber('milliseconds', 1)
    .default(10_000)
    .register(reference, { what: 'longest drain after `DRAIN_DELAY_MS`; a signal ends it at once' }),
  DRAIN_DELAY_MS: wholeNumber('milliseconds', 0).nullable().default(null).register(reference, {
    what: 'for how long requests are taken after the signal, so that load balancers can learn that the gateway leaves, [workers.md](workers.md#leaving); a second signal ends the delay',
    byDefault: usualDrainDelay,
  }),
  SPOOL_DRAIN_TIMEOUT_MS: wholeNumber('milliseconds', 0).default(0).register(reference, {
    what: 'for how long a gateway that stops waits, behind its last request, until Kafka has what durable streams have on disk. 0: it does not wait, and the next gateway on the folder sends it. For a gateway that may not come back, [durable.md](durable.md#leaving-for-good)',
  }),
  WORKERS: wholeNumber(null, 1, 256).default(1).register(reference, {
    what: 'processes that take requests, on one port, [workers.md](workers.md)',
  }),
  LOG_LEVEL: oneOf(logLevels).default('info').register(reference, {
    what: 'the least that is logged, as JSON lines on stdout. From `warn` on, the account of a clean shutdown is not logged',
    orInFile: true,
  }),
  LOG_FORMAT: oneOf(logFormats).default('pino').register(reference, {
    what: "the names of the fields of a line: pino's, those of the Elastic Common Schema, or those of OpenTelemetry's log data model, [operations.md](operations.md#formats-of-the-log)",
  }),
} satisfies z.ZodRawShape

/** Every variable of the environment that the gateway and the readers take: the three tables of docs/configuration.md. */
export const environmentShape = { ...httpShape, ...kafkaShape, ...processShape }

/** What could be read of the environment. */
export type EnvironmentValues = FieldValues<typeof environmentShape>

/** The environment, when every variable could be read. */
export type Environment = { [K in keyof typeof environmentShape]: z.output<(typeof environmentShape)[K]> }

/** Variables whose value may also stand in the file that `NAME_FILE` names. */
export const fileVariables = Object.entries(environmentShape).flatMap(([name, schema]) =>
  metaOf(schema).orInFile === true ? [name] : [],
)
