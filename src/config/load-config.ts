import { readFileSync, statSync } from 'node:fs'
import {
  type Config,
  ConfigError,
  isLoopback,
  type ConfigProblem,
  type DedupeStoreConfig,
  type HttpConfig,
  type KafkaConfig,
  type KeyConfig,
} from './config.ts'
import type { SaslConfig, TokenSourceConfig } from './kafka-login.ts'
import type { ConsumerConfig } from './consumer-config.ts'
import { pemFilesOf, refuseBadTls } from './certificates.ts'
import { consumerSection, readConsumer } from './consumer-settings.ts'
import { refuseUnusedDedupeStore } from './stream-contradictions.ts'
import type { Environment, EnvironmentValues } from './environment-schema.ts'
import { quote } from './setting.ts'
import { readEnvironment, regionOfBrokers } from './read-environment.ts'
import { refuseUnknownKeys } from './read-fields.ts'
import { readDocument, type ReadFile } from './read-file.ts'
import { readKeys } from './read-keys.ts'
import { fileSections, readConfigFile, type FlawOfSchema } from './read-streams.ts'

/**
 * Read this file of the folder first: `config/` turns text into a checked `Config`, and knows nothing else of Chute.
 *
 * Reads the whole configuration: the environment, the files that it names, presets and defaults. The result has no
 * contradictions. The commands read settings by the functions of this file. Only `chute kafka` and local-kafka/ read variables
 * of their own (`KAFKA_PORT`, `CHUTE_CACHE_DIR`), since they need no gateway.
 * @param flawOfSchema judges the JSON Schemas of the streams. They are not judged where it is left out.
 * @throws ConfigError with every problem, not only the first.
 */
export function loadConfig(
  env: NodeJS.ProcessEnv,
  readFile: ReadFile = readTextFile,
  flawOfSchema: FlawOfSchema = () => null,
): Config {
  const problems: ConfigProblem[] = []
  const values = readEnvironment(env, readFile, problems)
  const {
    streams,
    retiredStreams,
    consumer,
    keys: section,
    streamNames,
  } = readConfigFile({
    file: values.CHUTE_CONFIG ?? null,
    hasDataDir: (values.CHUTE_DATA_DIR ?? null) !== null,
    workers: values.WORKERS ?? 1,
    hasSharedDedupe: (values.CHUTE_DEDUPE_REDIS_URL ?? null) !== null,
    readFile,
    flawOfSchema,
    problems,
  })
  const pemFiles = pemFilesOf(env)
  const { TLS_CERT: cert, TLS_KEY: key, TLS_CLIENT_CA: clientCa } = values
  if (cert != null && key != null) refuseBadTls({ cert, key, clientCa: clientCa ?? null }, pemFiles, problems)
  if (values.CHUTE_DEDUPE_REDIS_URL != null) refuseUnusedDedupeStore(streams, problems)
  const keys = readKeys({
    keysFile: values.CHUTE_KEYS_FILE ?? null,
    section,
    streams: streamNames,
    hasClientCa: clientCa != null,
    readFile,
    problems,
  })
  refuseOpenDoor(values, keys, problems)
  refuseOpenEvents(values, keys, problems)
  if (problems.length > 0) throw new ConfigError(problems)
  // Without a problem every variable has a value.
  const environment = values as Environment
  return {
    http: {
      host: environment.HOST,
      port: environment.PORT,
      adminPort: environment.ADMIN_PORT,
      tls:
        environment.TLS_CERT === null || environment.TLS_KEY === null
          ? null
          : { cert: environment.TLS_CERT, key: environment.TLS_KEY, clientCa: environment.TLS_CLIENT_CA },
      liveEvents: environment.LIVE_EVENTS ?? isLivePageGuarded(environment, keys),
      corsOrigins: environment.CORS_ORIGINS,
      beaconPath: environment.BEACON_PATH,
      keys,
      open: environment.CHUTE_OPEN,
      ...rateLimits(environment),
      bounds: {
        connections: environment.MAX_CONNECTIONS,
        connectionsPerAddress: environment.MAX_CONNECTIONS_PER_ADDRESS,
        bodies: environment.MAX_BODIES,
        bodiesPerAddress: environment.MAX_BODIES_PER_ADDRESS,
      },
      trustProxyHops: environment.TRUST_PROXY,
      limits: {
        bodyBytes: environment.MAX_BODY_BYTES,
        eventBytes: environment.MAX_EVENT_BYTES,
        eventsPerRequest: environment.MAX_EVENTS_PER_REQUEST,
        depth: environment.MAX_DEPTH,
        bodyTimeoutMs: environment.BODY_TIMEOUT_MS,
        bodyTimeoutMaxMs:
          environment.BODY_TIMEOUT_MAX_MS ?? Math.max(bodyTimeoutMaxMs, environment.BODY_TIMEOUT_MS),
        bodyMinBytesPerSecond: environment.BODY_MIN_BYTES_PER_SECOND,
        keepAliveTimeoutMs: environment.KEEP_ALIVE_TIMEOUT_MS,
      },
    },
    kafka: kafkaConfig(environment),
    pemFiles,
    streams,
    retiredStreams,
    consumer,
    shutdownTimeoutMs: environment.SHUTDOWN_TIMEOUT_MS,
    drainDelayMs: environment.DRAIN_DELAY_MS,
    spoolDrainTimeoutMs: environment.SPOOL_DRAIN_TIMEOUT_MS,
    dataDir: environment.CHUTE_DATA_DIR,
    dataDirEphemeral: environment.CHUTE_DATA_DIR_EPHEMERAL,
    workers: environment.WORKERS,
    dedupeStore: dedupeStoreConfig(environment),
    logLevel: environment.LOG_LEVEL,
    logFormat: environment.LOG_FORMAT,
  }
}

/**
 * Without keys everyone who reaches the port can write. On a loopback address these are programs of this machine. On any other
 * address the operator has to say that it is wanted.
 */
function refuseOpenDoor(
  { HOST: host, CHUTE_OPEN: isOpen, CHUTE_KEYS_FILE: keysFile }: EnvironmentValues,
  keys: readonly KeyConfig[],
  problems: ConfigProblem[],
): void {
  if (isOpen === true && keys.length > 0) {
    problems.push({
      path: 'CHUTE_OPEN',
      problem: 'is true while there are keys',
      remedy: 'Leave it out: requests then need a key. Or take the keys away.',
    })
  }
  // Keys that cannot be read are a problem of their own.
  if (keys.length > 0 || keysFile != null || isOpen !== false || host === undefined || isLoopback(host))
    return
  problems.push({
    path: 'HOST',
    problem: `is ${quote(host)} and there are no keys, so everyone who reaches the port could write`,
    remedy: `Two ways out:
1. keys: chute keys new --name web --public --stream NAME prints one, and the lines for the file of CHUTE_KEYS_FILE
2. CHUTE_OPEN=true, if only programs that may write can reach the port`,
  })
}

/** Events of clients are not for everyone who reaches the port. */
function refuseOpenEvents(
  values: EnvironmentValues,
  keys: readonly KeyConfig[],
  problems: ConfigProblem[],
): void {
  if (values.LIVE_EVENTS !== true || isLivePageGuarded(values, keys)) return
  problems.push({
    path: 'LIVE_EVENTS',
    problem: 'is true while everyone who reaches PORT could read the events of others',
    remedy:
      'Set ADMIN_PORT and keep that port inside, or make an admin key (chute keys new --admin), or leave it out.',
  })
}

/**
 * Whether strangers are kept from the live page: by keys, by a port of its own, or by an address that only this machine reaches. A
 * proxy in front (`TRUST_PROXY`) lets strangers reach such an address.
 */
function isLivePageGuarded(
  { HOST: host, ADMIN_PORT: adminPort, TRUST_PROXY: proxies, CHUTE_KEYS_FILE: keysFile }: EnvironmentValues,
  keys: readonly KeyConfig[],
): boolean {
  if (keys.length > 0 || keysFile != null || adminPort != null) return true
  return host !== undefined && isLoopback(host) && proxies === 0
}

/**
 * The keys alone, for `chute keys`: where CHUTE_KEYS_FILE or CHUTE_CONFIG has them. Nothing else of the configuration is read.
 * @throws ConfigError with every problem, not only the first.
 */
export function loadKeys(env: NodeJS.ProcessEnv, readFile: ReadFile = readTextFile): readonly KeyConfig[] {
  const problems: ConfigProblem[] = []
  const file = env['CHUTE_CONFIG'] || null
  const document = file === null ? null : readDocument(file, { readFile, problems })
  const keys = readKeys({
    keysFile: env['CHUTE_KEYS_FILE'] || null,
    section: document?.['keys'],
    streams: null,
    hasClientCa: null,
    readFile,
    problems,
  })
  if (problems.length > 0) throw new ConfigError(problems)
  return keys
}

/** Longest time of a request, where `BODY_TIMEOUT_MAX_MS` is not set and `BODY_TIMEOUT_MS` is not longer. */
const bodyTimeoutMaxMs = 300_000

/** How to reach Kafka. All commands reach it in one way. */
export function kafkaConfig(environment: Environment): KafkaConfig {
  return {
    brokers: environment.KAFKA_BROKERS,
    clientId: environment.KAFKA_CLIENT_ID,
    ssl: environment.KAFKA_SSL
      ? {
          ca: environment.KAFKA_SSL_CA,
          cert: environment.KAFKA_SSL_CERT,
          key: environment.KAFKA_SSL_KEY,
          rejectUnauthorized: environment.KAFKA_SSL_REJECT_UNAUTHORIZED,
          servername: environment.KAFKA_SSL_SERVERNAME,
        }
      : null,
    sasl: saslConfig(environment),
    connectionTimeoutMs: environment.KAFKA_CONNECTION_TIMEOUT_MS,
    topics: {
      create: environment.KAFKA_CREATE_TOPICS,
      partitions: environment.KAFKA_TOPIC_PARTITIONS,
      replicationFactor: environment.KAFKA_TOPIC_REPLICATION,
    },
    metadataMaxAgeMs: environment.KAFKA_METADATA_MAX_AGE_MS,
  }
}

/** The environment has been looked through for halves (read-environment.ts): what a mechanism needs is there. */
function saslConfig(environment: Environment): SaslConfig | null {
  const { KAFKA_SASL_MECHANISM: mechanism } = environment
  switch (mechanism) {
    case null:
      return null
    case 'plain':
    case 'scram-sha-256':
    case 'scram-sha-512': {
      const { KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = environment
      return { mechanism, username: username ?? '', password: password ?? '' }
    }
    case 'oauthbearer': {
      const extensions = environment.KAFKA_SASL_OAUTHBEARER_EXTENSIONS
      return { mechanism, token: bearerToken(environment), extensions }
    }
    case 'aws_msk_iam': {
      const { KAFKA_SASL_AWS_REGION: named, KAFKA_SASL_AWS_ROLE_ARN: roleArn } = environment
      const region = named ?? regionOfBrokers(environment.KAFKA_BROKERS) ?? ''
      return { mechanism, token: { from: 'aws', region, roleArn }, extensions: {} }
    }
  }
}

function bearerToken(environment: Environment): TokenSourceConfig {
  const { KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: path, KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND: command } =
    environment
  if (path !== null) return { from: 'file', path }
  if (command !== null) return { from: 'command', command }
  return {
    from: 'endpoint',
    url: environment.KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL ?? '',
    clientId: environment.KAFKA_SASL_OAUTHBEARER_CLIENT_ID ?? '',
    clientSecret: environment.KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET ?? '',
    scope: environment.KAFKA_SASL_OAUTHBEARER_SCOPE,
    audience: environment.KAFKA_SASL_OAUTHBEARER_AUDIENCE,
  }
}

/** The limits of an address, and where they are counted. */
function rateLimits(
  environment: Environment,
): Pick<HttpConfig, 'rateLimit' | 'rateLimitAllow' | 'rateLimitStore'> {
  const { RATE_LIMIT_MAX: requests, RATE_LIMIT_EVENTS: events, RATE_LIMIT_BYTES: bytes } = environment
  const { RATE_LIMIT_WINDOW: windowMs, RATE_LIMIT_BURST: burst, RATE_LIMIT_REDIS_URL: url } = environment
  const isLimited = requests !== null || events !== null || bytes !== null
  return {
    rateLimit: isLimited ? { requests, events, bytes, windowMs, burst } : null,
    rateLimitAllow: environment.RATE_LIMIT_ALLOW,
    rateLimitStore: url === null ? null : { url, prefix: environment.RATE_LIMIT_REDIS_PREFIX },
  }
}

function dedupeStoreConfig(environment: Environment): DedupeStoreConfig | null {
  const { CHUTE_DEDUPE_REDIS_URL: url } = environment
  if (url === null) return null
  return {
    url,
    prefix: environment.CHUTE_DEDUPE_REDIS_PREFIX,
    leaseMs: environment.CHUTE_DEDUPE_REDIS_LEASE_MS,
    timeoutMs: environment.CHUTE_DEDUPE_REDIS_TIMEOUT_MS,
  }
}

/**
 * Reads a file of the disk. Tests give a {@link ReadFile} of their own. A named pipe, a socket and a device are refused: opening or reading one could
 * wait for ever, and the whole process with it. `/dev/stdin` and what a shell makes of `<(…)` have a writer, and are read.
 */
export function readTextFile(path: string): string {
  const stats = statSync(path)
  if (
    !stats.isFile() &&
    !stats.isDirectory() &&
    !/^\/(?:dev\/(?:null|stdin|fd\/\d+)|proc\/self\/fd\/\d+)$/.test(path)
  )
    throw new Error('it is no regular file (a named pipe, a socket or a device)')
  return readFileSync(path, 'utf8')
}

/** The part of the command line of `chute consume` that is configuration. */
export interface ConsumeArguments {
  readonly topic: string | undefined
  readonly group: string | undefined
  readonly delivery: string | undefined
  /** Each `--set`, as it was written. */
  readonly set: readonly string[]
}

/** The configuration of a process that reads from Kafka, apart from its consumer. */
export interface ReaderProcessConfig extends Pick<Config, 'shutdownTimeoutMs' | 'logLevel' | 'logFormat'> {
  readonly kafka: KafkaConfig
}

/**
 * Reads the configuration of `chute consume`: the environment as the gateway reads it, `consumer:` of the file that
 * CHUTE_CONFIG names, and `--set`. A setting of `--set` wins over the file.
 * @throws ConfigError with every problem, not only the first.
 */
export function loadConsumerConfig(
  args: ConsumeArguments,
  env: NodeJS.ProcessEnv,
  readFile: ReadFile = readTextFile,
): ReaderProcessConfig & { readonly consumer: ConsumerConfig } {
  const problems: ConfigProblem[] = []
  const values = readEnvironment(env, readFile, problems)
  const file = values.CHUTE_CONFIG ?? null
  const document = (file === null ? null : readDocument(file, { readFile, problems })) ?? {}
  refuseUnknownKeys(document, fileSections, (key) => key, problems)
  const written = readSets(args.set, problems)
  const fromFile = consumerSection(document, problems)
  const consumer = readConsumer(
    {
      ...args,
      settings: { ...fromFile, ...written },
      at: (key) => (key in fromFile && !(key in written) ? `consumer.${key}` : `--set ${key}`),
      names: { topic: '--topic', group: '--group', delivery: '--delivery' },
    },
    problems,
  )
  if (consumer === null || problems.length > 0) throw new ConfigError(problems)
  return { ...readerProcessConfig(values as Environment), consumer }
}

/** Reads the environment of a process that only needs to reach Kafka. @throws ConfigError */
export function loadReaderConfig(
  env: NodeJS.ProcessEnv,
  readFile: ReadFile = readTextFile,
): ReaderProcessConfig {
  const problems: ConfigProblem[] = []
  const values = readEnvironment(env, readFile, problems)
  if (problems.length > 0) throw new ConfigError(problems)
  return readerProcessConfig(values as Environment)
}

function readerProcessConfig(environment: Environment): ReaderProcessConfig {
  return {
    kafka: kafkaConfig(environment),
    shutdownTimeoutMs: environment.SHUTDOWN_TIMEOUT_MS,
    logLevel: environment.LOG_LEVEL,
    logFormat: environment.LOG_FORMAT,
  }
}

function readSets(sets: readonly string[], problems: ConfigProblem[]): Record<string, string> {
  const settings: Record<string, string> = {}
  for (const text of sets) {
    const equals = text.indexOf('=')
    const key = text.slice(0, equals).trim()
    if (equals < 1) {
      problems.push({
        path: `--set ${text}`,
        problem: 'is not key=value',
        remedy: 'Write --set max.poll.records=500.',
      })
    } else if (key in settings) {
      problems.push({ path: `--set ${key}`, problem: 'is given twice', remedy: 'Give it once.' })
    } else {
      settings[key] = text.slice(equals + 1).trim()
    }
  }
  return settings
}
