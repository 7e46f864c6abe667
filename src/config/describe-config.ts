import { stringify } from 'yaml'
import {
  promiseOf,
  resends,
  type Config,
  type DedupeStoreConfig,
  type HttpConfig,
  type KafkaConfig,
  type KeyConfig,
  type ProducerConfig,
  type StreamConfig,
} from './config.ts'
import { usualDrainDelay } from './environment-schema.ts'
import type { SaslConfig, TokenSourceConfig } from './kafka-login.ts'
import { commitsByTheClock, type ConsumerConfig, type ConsumerSection } from './consumer-config.ts'
import type { RateLimit } from './limits.ts'
import { unlimitedMs } from './producer-schema.ts'

/** Stands for a secret of any length. */
const mask = '********'

/**
 * The effective configuration as YAML, with the names of the settings. Its parts `streams` and `consumer` can be used as a
 * configuration file. Secrets are masked. Certificates are public, but too long to print.
 * @param files the files that were read for it, by variable; null: none.
 */
export function describeConfig(config: Config, files: Readonly<Record<string, string | null>> = {}): string {
  return stringify(
    {
      environment: {
        ...files,
        ...describeHttp(config.http),
        ...describeKafka(config.kafka),
        CHUTE_OPEN: config.http.open,
        CHUTE_DATA_DIR: config.dataDir,
        CHUTE_DATA_DIR_EPHEMERAL: config.dataDirEphemeral,
        ...describeDedupeStore(config.dedupeStore),
        DRAIN_DELAY_MS: config.drainDelayMs ?? usualDrainDelay,
        SHUTDOWN_TIMEOUT_MS: config.shutdownTimeoutMs,
        SPOOL_DRAIN_TIMEOUT_MS: config.spoolDrainTimeoutMs,
        WORKERS: config.workers,
        LOG_LEVEL: config.logLevel,
        LOG_FORMAT: config.logFormat,
      },
      streams: Object.fromEntries([
        ...config.streams.map((stream) => [stream.name, describeStream(stream)] as const),
        ...config.retiredStreams.map((name) => [name, { retired: true }] as const),
      ]),
      ...(config.http.keys.length > 0 && {
        keys: Object.fromEntries(config.http.keys.map((key) => [key.name, describeKey(key)])),
      }),
      ...(config.consumer !== null && { consumer: describeConsumerSection(config.consumer) }),
    },
    { lineWidth: 0 },
  )
}

/** What a key may do. The hashes of its values are no secret, and can be used as they are. */
function describeKey({ kind, sha256, streams, origins, sources, notAfterMs, ...key }: KeyConfig): object {
  return {
    kind,
    ...(sha256.length > 0 && { sha256 }),
    ...(streams.length > 0 && { streams }),
    ...(origins.length > 0 && { origins }),
    ...(sources !== null && { sources }),
    ...(notAfterMs !== null && { notAfter: new Date(notAfterMs).toISOString() }),
    ...(key.limits !== null && { limits: describeLimit(key.limits) }),
    ...(key.addressLimits !== null && { addressLimits: describeLimit(key.addressLimits) }),
  }
}

function describeLimit({ requests, events, bytes, windowMs, burst }: RateLimit): object {
  return {
    ...(requests !== null && { requests }),
    ...(events !== null && { events }),
    ...(bytes !== null && { bytes }),
    window: windowMs,
    burst,
  }
}

/** The effective settings of a consumer, with Kafka's names. */
export function describeConsumer(
  consumer: ConsumerConfig,
): Readonly<Record<string, string | number | boolean>> {
  return {
    'enable.auto.commit': commitsByTheClock(consumer.delivery),
    ...(commitsByTheClock(consumer.delivery) && { 'auto.commit.interval.ms': consumer.autoCommitIntervalMs }),
    ...describeReading(consumer),
  }
}

/** Settings of commits that the file does not set are left out: they depend on `--delivery`. */
function describeConsumerSection({ enableAutoCommit, autoCommitIntervalMs, ...reading }: ConsumerSection) {
  return {
    ...(enableAutoCommit !== null && { 'enable.auto.commit': enableAutoCommit }),
    ...(autoCommitIntervalMs !== null && { 'auto.commit.interval.ms': autoCommitIntervalMs }),
    ...describeReading(reading),
  }
}

function describeReading(consumer: Omit<ConsumerSection, 'enableAutoCommit' | 'autoCommitIntervalMs'>) {
  return {
    'auto.offset.reset': consumer.autoOffsetReset,
    'max.poll.records': consumer.maxPollRecords,
    'max.poll.interval.ms': consumer.maxPollIntervalMs,
    'session.timeout.ms': consumer.sessionTimeoutMs,
    'heartbeat.interval.ms': consumer.heartbeatIntervalMs,
    'fetch.min.bytes': consumer.fetchMinBytes,
    'fetch.max.wait.ms': consumer.fetchMaxWaitMs,
    'fetch.max.bytes': consumer.fetchMaxBytes,
    'max.partition.fetch.bytes': consumer.maxPartitionFetchBytes,
    'isolation.level': consumer.isolationLevel,
  }
}

function describeHttp(http: HttpConfig): object {
  return {
    HOST: http.host,
    PORT: http.port,
    ADMIN_PORT: http.adminPort,
    LIVE_EVENTS: http.liveEvents,
    TLS_CERT: http.tls === null ? null : '(PEM)',
    TLS_KEY: http.tls === null ? null : mask,
    TLS_CLIENT_CA: (http.tls?.clientCa ?? null) === null ? null : '(PEM)',
    CORS_ORIGINS: http.corsOrigins.length === 0 ? null : http.corsOrigins.join(','),
    BEACON_PATH: http.beaconPath,
    RATE_LIMIT_MAX: http.rateLimit?.requests ?? null,
    RATE_LIMIT_EVENTS: http.rateLimit?.events ?? null,
    RATE_LIMIT_BYTES: http.rateLimit?.bytes ?? null,
    RATE_LIMIT_WINDOW: http.rateLimit?.windowMs ?? null,
    RATE_LIMIT_BURST: http.rateLimit?.burst ?? null,
    RATE_LIMIT_ALLOW: http.rateLimitAllow.length === 0 ? null : http.rateLimitAllow.join(','),
    RATE_LIMIT_REDIS_URL: http.rateLimitStore === null ? null : maskedUrl(http.rateLimitStore.url),
    ...(http.rateLimitStore !== null && { RATE_LIMIT_REDIS_PREFIX: http.rateLimitStore.prefix }),
    TRUST_PROXY: http.trustProxyHops,
    MAX_CONNECTIONS: http.bounds.connections,
    MAX_CONNECTIONS_PER_ADDRESS: http.bounds.connectionsPerAddress,
    MAX_BODIES: http.bounds.bodies,
    MAX_BODIES_PER_ADDRESS: http.bounds.bodiesPerAddress,
    MAX_BODY_BYTES: http.limits.bodyBytes,
    MAX_EVENT_BYTES: http.limits.eventBytes,
    MAX_EVENTS_PER_REQUEST: http.limits.eventsPerRequest,
    MAX_DEPTH: http.limits.depth,
    BODY_TIMEOUT_MS: http.limits.bodyTimeoutMs,
    BODY_TIMEOUT_MAX_MS: http.limits.bodyTimeoutMaxMs,
    BODY_MIN_BYTES_PER_SECOND: http.limits.bodyMinBytesPerSecond,
    KEEP_ALIVE_TIMEOUT_MS: http.limits.keepAliveTimeoutMs,
  }
}

function describeSasl(sasl: SaslConfig): object {
  if (!('token' in sasl)) return { KAFKA_SASL_USERNAME: sasl.username, KAFKA_SASL_PASSWORD: mask }
  const extensions = Object.entries(sasl.extensions).map(([name, value]) => `${name}=${value}`)
  return {
    ...describeToken(sasl.token),
    ...(extensions.length > 0 && { KAFKA_SASL_OAUTHBEARER_EXTENSIONS: extensions.join(',') }),
  }
}

function describeToken(token: TokenSourceConfig): object {
  switch (token.from) {
    case 'endpoint':
      return {
        KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: maskedUrl(token.url),
        KAFKA_SASL_OAUTHBEARER_CLIENT_ID: token.clientId,
        KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET: mask,
        KAFKA_SASL_OAUTHBEARER_SCOPE: token.scope,
        KAFKA_SASL_OAUTHBEARER_AUDIENCE: token.audience,
      }
    case 'file':
      return { KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: token.path }
    case 'command':
      return { KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND: token.command }
    case 'aws':
      return { KAFKA_SASL_AWS_REGION: token.region, KAFKA_SASL_AWS_ROLE_ARN: token.roleArn }
  }
}

function describeKafka({ ssl, sasl, ...kafka }: KafkaConfig): object {
  return {
    KAFKA_BROKERS: kafka.brokers.join(','),
    KAFKA_CLIENT_ID: kafka.clientId,
    KAFKA_SSL: ssl !== null,
    ...(ssl !== null && {
      KAFKA_SSL_CA: ssl.ca === null ? null : '(PEM)',
      KAFKA_SSL_CERT: ssl.cert === null ? null : '(PEM)',
      KAFKA_SSL_KEY: ssl.key === null ? null : mask,
      KAFKA_SSL_REJECT_UNAUTHORIZED: ssl.rejectUnauthorized,
      KAFKA_SSL_SERVERNAME: ssl.servername,
    }),
    KAFKA_SASL_MECHANISM: sasl?.mechanism ?? null,
    ...(sasl !== null && describeSasl(sasl)),
    KAFKA_CONNECTION_TIMEOUT_MS: kafka.connectionTimeoutMs,
    KAFKA_METADATA_MAX_AGE_MS: kafka.metadataMaxAgeMs,
    KAFKA_CREATE_TOPICS: kafka.topics.create,
    KAFKA_TOPIC_PARTITIONS: kafka.topics.partitions,
    KAFKA_TOPIC_REPLICATION: kafka.topics.replicationFactor,
  }
}

function describeDedupeStore(store: DedupeStoreConfig | null): object {
  if (store === null) return { CHUTE_DEDUPE_REDIS_URL: null }
  return {
    CHUTE_DEDUPE_REDIS_URL: maskedUrl(store.url),
    CHUTE_DEDUPE_REDIS_PREFIX: store.prefix,
    CHUTE_DEDUPE_REDIS_LEASE_MS: store.leaseMs,
    CHUTE_DEDUPE_REDIS_TIMEOUT_MS: store.timeoutMs,
  }
}

function maskedUrl(text: string): string {
  const url = new URL(text)
  if (url.password !== '') url.password = mask
  if (url.search !== '') url.search = mask
  return url.href
}

function describeStream({ producer, ...stream }: StreamConfig): object {
  return {
    ...(stream.topics === null ? { topic: stream.topic } : { topics: stream.topics }),
    delivery: promiseOf(stream),
    preset: stream.preset,
    schema: typeof stream.schema === 'string' ? stream.schema : stream.schema.file,
    ...(stream.schema === 'telemetry' && { timestampUnit: stream.timestampUnit }),
    key: stream.key,
    keyMissing: stream.keyMissing,
    ...(Object.keys(stream.headers).length > 0 && { headers: stream.headers }),
    onBufferFull: stream.onBufferFull,
    beaconOnBufferFull: stream.beaconOnBufferFull,
    connection: stream.connection,
    audit: stream.audit,
    retired: false,
    ...(stream.deadLetterTopic !== null && { deadLetterTopic: stream.deadLetterTopic }),
    ...(stream.invalid !== null && {
      invalidTopic: stream.invalid.topic,
      invalidTopicMaxPerSecond: stream.invalid.maxPerSecond,
    }),
    dedupe: stream.dedupe === null ? 'off' : 'on',
    ...(stream.dedupe !== null && {
      'dedupe.window.ms': stream.dedupe.windowMs,
      'dedupe.max.entries': stream.dedupe.maxEntries,
    }),
    ...(resends[stream.delivery] && { durable: stream.spool === null ? 'off' : 'on' }),
    ...(stream.spool !== null && {
      fsync: stream.spool.fsync ? 'on' : 'off',
      'spool.max.bytes': stream.spool.maxBytes,
    }),
    ...(!resends[stream.delivery] &&
      producer.acks !== -1 && { confirm: producer.confirmIntervalMs === null ? 'off' : 'on' }),
    producer: describeProducer(producer),
  }
}

function describeProducer(producer: ProducerConfig): object {
  const { deliveryTimeoutMs, confirmIntervalMs } = producer
  return {
    acks: producer.acks === -1 ? 'all' : producer.acks,
    retries: producer.retries,
    'retry.backoff.ms': producer.retryBackoffMs,
    'linger.ms': producer.lingerMs,
    'batch.size': producer.batchSizeBytes,
    'buffer.memory': producer.bufferMemoryBytes,
    'max.block.ms': producer.maxBlockMs,
    'max.in.flight.requests.per.connection': producer.maxInFlight,
    'delivery.timeout.ms': deliveryTimeoutMs === unlimitedMs ? 'unlimited' : deliveryTimeoutMs,
    'request.timeout.ms': producer.requestTimeoutMs,
    'max.request.size': producer.maxRequestSizeBytes,
    'compression.type': producer.compressionType,
    'enable.idempotence': producer.enableIdempotence,
    ...(confirmIntervalMs !== null && { 'confirm.interval.ms': confirmIntervalMs }),
  }
}
