import type { SaslConfig } from './kafka-login.ts'
import { hash } from 'node:crypto'
import zlib from 'node:zlib'
import type { ConsumerSection } from './consumer-config.ts'
import type {
  KeyMissing,
  RecordHeaderSource,
  RecordKeySource,
  TimestampUnit,
  TopicsConfig,
} from './record-sources.ts'
import type { HttpBounds, HttpLimits, RateLimit, RateLimitStoreConfig } from './limits.ts'

/**
 * The types of a valid configuration, after presets, defaults and files have been resolved. `load-config.ts` makes them for
 * the commands. `chute check` and the workers make changed copies (`commands/check-connect.ts`, `workers/messages.ts`), and
 * the library of the consumer makes a `ConsumerConfig` (`consumer-config.ts`) of its options. All other parts of Chute only read them.
 *
 * A configuration is plain data: no functions and no instances of classes. With WORKERS above 1 it goes to each worker in a
 * message (`start` in `workers/messages.ts`), and a structured clone keeps nothing else. `Plain` there refuses a function.
 *
 * Units are in the names: `Ms`, `Bytes`. Kafka's own names are kept (`linger.ms` is `lingerMs`).
 */

// The closed sets of the configuration. Each has its members here and nowhere else: the schemas read these lists, and every
// table with a row a member is a Record, so that a new member does not compile until each table has its row.

/** How a stream writes: never twice (`at-most-once`), or again until Kafka has acknowledged it (`at-least-once`). */
export type Delivery = 'at-most-once' | 'at-least-once'

/**
 * Whether a stream of this delivery sends a batch again until Kafka has acknowledged it. Code that treats the two deliveries
 * differently asks this table, or has a table of its own with a row a delivery.
 */
export const resends: Readonly<Record<Delivery, boolean>> = { 'at-most-once': false, 'at-least-once': true }

/** Whether a broker answers each write of a stream by itself, when all in-sync replicas have it. */
export function waitsForReplicas(delivery: Delivery, { acks }: Pick<ProducerConfig, 'acks'>): boolean {
  return resends[delivery] || acks === -1
}

/**
 * Whether a stream can share its connections. An at-most-once stream that waits for replicas would hold up the others. If a connection ends, an
 * at-least-once stream writes again what had no answer, and only with idempotence nothing is stored twice. A stream without idempotence
 * shares with nobody, so that no other stream ends its connection.
 */
export function canShareConnections(
  delivery: Delivery,
  { acks, enableIdempotence }: Pick<ProducerConfig, 'acks' | 'enableIdempotence'>,
): boolean {
  return resends[delivery] ? enableIdempotence : acks !== -1
}

/**
 * The words that `delivery:` of a stream takes, and what each of them sets. Exactly-once is at-least-once with everything that
 * keeps a repetition from becoming a second record: `refuseLessThanExactlyOnce` in stream-contradictions.ts.
 */
export const streamPromises = {
  'at-most-once': { delivery: 'at-most-once', exactlyOnce: false },
  'at-least-once': { delivery: 'at-least-once', exactlyOnce: false },
  'exactly-once': { delivery: 'at-least-once', exactlyOnce: true },
} as const satisfies Record<
  Delivery | 'exactly-once',
  { readonly delivery: Delivery; readonly exactlyOnce: boolean }
>

/** See {@link streamPromises}. Clients read it in `Chute-Delivery`. */
export type StreamPromise = keyof typeof streamPromises

/** The word of {@link streamPromises} that a stream was set with. */
export function promiseOf({
  delivery,
  exactlyOnce,
}: Pick<StreamConfig, 'delivery' | 'exactlyOnce'>): StreamPromise {
  return exactlyOnce ? 'exactly-once' : delivery
}

/** See {@link OnBufferFull}. */
export const onBufferFullActions = ['reject', 'drop', 'block'] as const

/** What becomes of a request that finds the stream's buffer full: refused with 503, accepted and dropped, or made to wait. */
export type OnBufferFull = (typeof onBufferFullActions)[number]

/** Whether a 202 may stand for events that are lost: exactly-once forbids such an action. */
export const losesWhenFull: Readonly<Record<OnBufferFull, boolean>> = {
  reject: false,
  drop: true,
  block: false,
}

/**
 * Each `compression.type`, and which Node has it. The codec of each is in `kafka/protocol/compression.ts`, which does not compile without it.
 * `sinceNode`: null if every Node that Chute runs on has it. `isHere`: this Node has it.
 */
export const compressionTraits = {
  none: { sinceNode: null, isHere: true },
  gzip: { sinceNode: null, isHere: true },
  snappy: { sinceNode: null, isHere: true },
  lz4: { sinceNode: null, isHere: true },
  zstd: { sinceNode: '22.15', isHere: 'zstdCompress' in zlib },
} as const satisfies Record<string, { readonly sinceNode: string | null; readonly isHere: boolean }>

/** Kafka's `compression.type`, without `producer` and `uncompressed`, which only topics have. */
export type CompressionType = keyof typeof compressionTraits

/** See {@link CompressionType}. */
export const compressionTypes = Object.keys(compressionTraits) as CompressionType[]

/** See {@link Preset}. The settings of each are in presets.ts. */
export const presetNames = ['telemetry', 'device', 'reports', 'logs', 'critical'] as const

/** A row of the table of presets in docs/configuration.md. */
export type Preset = (typeof presetNames)[number]

/** See {@link BuiltInSchema}. What each of them takes is in `events/event-schema.ts`. */
export const builtInSchemas = ['telemetry', 'page', 'reports', 'any'] as const

/** See {@link ConnectionUse}. */
export const connectionUses = ['shared', 'own'] as const

/** Whether a stream shares its connections to the brokers with other streams. */
export type ConnectionUse = (typeof connectionUses)[number]

/** The words that `schema:` of a stream takes. Any other text is the path of a JSON Schema. */
export type BuiltInSchema = (typeof builtInSchemas)[number]

/**
 * What a key is for. `public`: for pages and devices in strangers' hands. `secret`: for services. Both only write. `admin`: for
 * those who look at metrics, the live page and the docs; it writes nothing. A client's certificate stands only for keys that write.
 */
export const keyKindTraits = {
  public: { writes: true, looks: false },
  secret: { writes: true, looks: false },
  admin: { writes: false, looks: true },
} as const satisfies Record<string, { readonly writes: boolean; readonly looks: boolean }>

/** See {@link keyKindTraits}. */
export type KeyKind = keyof typeof keyKindTraits

/** See {@link keyKindTraits}. */
export const keyKinds = Object.keys(keyKindTraits) as KeyKind[]

/** Levels of the log. They are pino's. */
export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

/** How a line of the log is written. `pino`: as pino does it. `ecs`, `otel`: with the names of the Elastic Common Schema, or of OpenTelemetry. */
export const logFormats = ['pino', 'ecs', 'otel'] as const

/** The settings of one stream's producer, in Kafka's terms (`org.apache.kafka.clients.producer.ProducerConfig`). */
export interface ProducerConfig {
  /** `acks`: 0 no acknowledgment, 1 the leader's, -1 all in-sync replicas'. */
  readonly acks: 0 | 1 | -1
  /** `retries`: how often a failed batch is sent again. 0 for every at-most-once stream. */
  readonly retries: number
  /** `retry.backoff.ms`: pause before a batch is sent again. */
  readonly retryBackoffMs: number
  /** `linger.ms`: longest wait for a batch to fill. */
  readonly lingerMs: number
  /** `batch.size`: a batch is closed when the next record would pass it. One larger record gets a batch of its own. */
  readonly batchSizeBytes: number
  /** `buffer.memory`: ceiling of the records that are queued, in the socket or unconfirmed, in bytes. */
  readonly bufferMemoryBytes: number
  /** `max.block.ms`: longest wait for room where `onBufferFull` is `block`. */
  readonly maxBlockMs: number
  /** `max.in.flight.requests.per.connection`: produce requests written and not yet confirmed. */
  readonly maxInFlight: number
  /** `delivery.timeout.ms`: longest time from append to outcome. A record that was not written by then is dropped as `expired`. */
  readonly deliveryTimeoutMs: number
  /** `request.timeout.ms`: longest wait for a broker's response. */
  readonly requestTimeoutMs: number
  /** `max.request.size`: ceiling of a produce request, and so of a record, in bytes. */
  readonly maxRequestSizeBytes: number
  /** `compression.type` of the batches. */
  readonly compressionType: CompressionType
  /** `enable.idempotence`: sequence numbers, so that a batch that is sent again is stored once (KIP-98). */
  readonly enableIdempotence: boolean
  /** `confirm.interval.ms`: how often a barrier confirms writes; null with `confirm: off`, and where no barrier is needed. */
  readonly confirmIntervalMs: number | null
}

/** The spool of a durable stream, on disk. */
export interface SpoolConfig {
  /** `fsync`. true: a 202 waits for the disk, and survives a power cut. false: it waits for the kernel, and survives the process. */
  readonly fsync: boolean
  /** `spool.max.bytes`: ceiling of the spool. When it is reached, `onBufferFull` decides. */
  readonly maxBytes: number
}

/** How a stream finds requests and events that it accepted before. */
export interface DedupeConfig {
  /** `dedupe.window.ms`: for how long an `Idempotency-Key` or an event's `id` is known. */
  readonly windowMs: number
  /** `dedupe.max.entries`: the most keys and ids that are known. Above it the oldest are forgotten before their time. */
  readonly maxEntries: number
}

/** The store of accepted keys that several gateways share: Redis, or a server that speaks its protocol. */
export interface DedupeStoreConfig {
  /** `redis:` or `rediss:`, with the credentials. */
  readonly url: string
  /** The beginning of all keys in the store. */
  readonly prefix: string
  /** For how long the key of an unanswered request stays claimed after the gateway has crashed. */
  readonly leaseMs: number
  /** Longest wait for an answer, and for a connection. */
  readonly timeoutMs: number
}

/** Where the events of a stream go that are refused for themselves (`invalidTopic`). */
export interface InvalidConfig {
  readonly topic: string
  /** `invalidTopicMaxPerSecond`: above it such events are counted and not written. */
  readonly maxPerSecond: number
  /** At-least-once, whatever the delivery of the stream is, and with a small buffer of its own. */
  readonly producer: ProducerConfig
}

/** One stream: what a client writes to. */
export interface StreamConfig {
  readonly name: string
  /** Of every record, or with `topics` of the records that they have no other topic for. */
  readonly topic: string
  /** null: all records go to `topic`. */
  readonly topics: TopicsConfig | null
  readonly delivery: Delivery
  readonly preset: Preset
  /** One of the built-in schemas, or the JSON Schema that was read from the named file. */
  readonly schema: BuiltInSchema | { readonly file: string; readonly jsonSchema: unknown }
  /** Of the built-in event. The event is written as it came, whatever the unit. */
  readonly timestampUnit: TimestampUnit
  readonly key: RecordKeySource
  readonly keyMissing: KeyMissing
  /** The headers of each record, by name; empty: none. */
  readonly headers: Readonly<Record<string, RecordHeaderSource>>
  readonly onBufferFull: OnBufferFull
  /** The same for the beacon routes, whose clients do not read replies; `drop` unless set. */
  readonly beaconOnBufferFull: OnBufferFull
  /** `own` where the stream is at-least-once, or writes with acks=all. */
  readonly connection: ConnectionUse
  /** Each record gets a header with its writer and its number, by which `chute audit` finds what is missing. */
  readonly audit: boolean
  /** The topic of records that Kafka refused for good; null: a file in the data folder takes them. Without a folder they are dropped. */
  readonly deadLetterTopic: string | null
  /** Where events go that are refused for themselves; null: they are counted, and nothing else. */
  readonly invalid: InvalidConfig | null
  readonly producer: ProducerConfig
  /** null: a 202 is answered from memory. */
  readonly spool: SpoolConfig | null
  /** null: a repeated request is written again. */
  readonly dedupe: DedupeConfig | null
  /** `delivery: exactly-once`. Then `spool` and `dedupe` are not null, and writes are idempotent. */
  readonly exactlyOnce: boolean
}

/** What can change in {@link KafkaConfig} while the gateway runs. */
export type KafkaCredentials = Pick<KafkaConfig, 'ssl' | 'sasl'>

/** How to reach Kafka. */
export interface KafkaConfig {
  /** `host:port` of the bootstrap brokers; never empty. */
  readonly brokers: readonly string[]
  readonly clientId: string
  /** null: plain text. PEM texts, already read from their files. */
  readonly ssl: {
    readonly ca: string | null
    readonly cert: string | null
    readonly key: string | null
    readonly rejectUnauthorized: boolean
    readonly servername: string | null
  } | null
  readonly sasl: SaslConfig | null
  readonly connectionTimeoutMs: number
  /**
   * When `create` is true, the start creates missing topics. Writing never creates one. null: the settings of the brokers
   * decide (`num.partitions`, `default.replication.factor`; KIP-464).
   */
  readonly topics: {
    readonly create: boolean
    readonly partitions: number | null
    readonly replicationFactor: number | null
  }
  /** Longest age of the partition leaders that producers go by, in milliseconds (`metadata.max.age.ms`). */
  readonly metadataMaxAgeMs: number
}

/** What the value of a key is told by: in the file, and when a request brings it. */
export function sha256OfKey(value: string): string {
  return hash('sha256', value, 'hex')
}

/** One key. Its values are not here: only what they are told by. */
export interface KeyConfig {
  readonly name: string
  readonly kind: KeyKind
  /**
   * SHA-256 of each valid value, in lower-case hexadecimal digits. More than one while a key is rotated; none for a key that is a client
   * certificate alone.
   */
  readonly sha256: readonly string[]
  /** Names of streams that the key may write to; `web-*` stands for every name that begins so. */
  readonly streams: readonly string[]
  /** Pages that may use the key, as in `corsOrigins`; empty: those of `corsOrigins`. */
  readonly origins: readonly string[]
  /** Values of `source` that its events may have, as in `streams`; null: any. */
  readonly sources: readonly string[] | null
  /** From when on the key is no longer known, in milliseconds since 1970; null: never. */
  readonly notAfterMs: number | null
  /** Of all requests with the key; null: no limit. */
  readonly limits: RateLimit | null
  /** Of the requests that one address sends with the key; null: no limit. */
  readonly addressLimits: RateLimit | null
}

/** TLS of the event port. PEM texts, already read from their files. */
export interface TlsConfig {
  /** The gateway's own certificate, and behind it those of its issuers. */
  readonly cert: string
  readonly key: string
  /** The authorities of the clients' certificates; null: clients are not asked for one. */
  readonly clientCa: string | null
}

/** Variables whose PEM text is read again when its file changes. */
export const pemVariables = [
  'TLS_CERT',
  'TLS_KEY',
  'TLS_CLIENT_CA',
  'KAFKA_SSL_CA',
  'KAFKA_SSL_CERT',
  'KAFKA_SSL_KEY',
] as const

/** Paths of the files that PEM texts were read from, by variable. A text that stands in the variable itself has none. */
export type PemFiles = Readonly<Partial<Record<(typeof pemVariables)[number], string>>>

/** The HTTP side. */
export interface HttpConfig {
  readonly host: string
  readonly port: number
  /** null: the event port speaks plain HTTP. `adminPort` always does. */
  readonly tls: TlsConfig | null
  /** null: `/metrics`, health and docs are on `port`. */
  readonly adminPort: number | null
  /** `LIVE_EVENTS`: the live page shows the last events. True only where strangers do not reach the page. */
  readonly liveEvents: boolean
  /** Exact origins; `*` alone allows any (and is then echoed, since sendBeacon sends credentials). Empty: no cross-origin use. */
  readonly corsOrigins: readonly string[]
  /** `BEACON_PATH`: where the beacon routes stand too, without a slash at its end; null: only under `/v1/beacon`. */
  readonly beaconPath: string | null
  /** Empty: nobody needs a key. */
  readonly keys: readonly KeyConfig[]
  /** `CHUTE_OPEN`: it is wanted that nobody needs a key, whatever the address is. */
  readonly open: boolean
  /** Of an address. null: no limit. */
  readonly rateLimit: RateLimit | null
  /** Addresses and networks that no limit by address holds for. */
  readonly rateLimitAllow: readonly string[]
  /** null: this gateway counts alone. */
  readonly rateLimitStore: RateLimitStoreConfig | null
  readonly bounds: HttpBounds
  /** Number of proxies in front that append to X-Forwarded-For; 0: none is trusted. */
  readonly trustProxyHops: number
  readonly limits: HttpLimits
}

/** Whether only this machine reaches a host. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/** The whole configuration of one gateway process. */
export interface Config {
  readonly http: HttpConfig
  readonly kafka: KafkaConfig
  /** The files of the certificates in `http.tls` and `kafka.ssl`. */
  readonly pemFiles: PemFiles
  /** In order of declaration; names are unique, and no topic has two deliveries. */
  readonly streams: readonly StreamConfig[]
  /** Names of streams that are no longer in use (`retired: true`). They are not in `streams`, and their routes answer 410. */
  readonly retiredStreams: readonly string[]
  /** null: the file has no `consumer:`. The gateway does not use it: it only reports problems in it, and prints it. */
  readonly consumer: ConsumerSection | null
  readonly shutdownTimeoutMs: number
  /** For how long requests are taken after a signal to stop; null: 5 s after SIGTERM, and 0 after SIGINT. */
  readonly drainDelayMs: number | null
  /** For how long a gateway that stops waits until Kafka has what durable streams have on disk. */
  readonly spoolDrainTimeoutMs: number
  /** `CHUTE_DATA_DIR`: where the events of durable streams are kept before they are answered; null: no stream is durable. */
  readonly dataDir: string | null
  /** `CHUTE_DATA_DIR_EPHEMERAL`: the folder may be one that goes with the container, or with the machine's memory. */
  readonly dataDirEphemeral: boolean
  readonly workers: number
  /** `CHUTE_DEDUPE_REDIS_URL`; null: each process knows what it accepted itself. */
  readonly dedupeStore: DedupeStoreConfig | null
  readonly logLevel: (typeof logLevels)[number]
  readonly logFormat: (typeof logFormats)[number]
}

/** One problem of the configuration. Its text is enough to put the configuration right, without the source. */
export interface ConfigProblem {
  /** The environment variable, or the key in the file: `streams.metrics-realtime.producer.linger.ms`. */
  readonly path: string
  /** What is wrong, as the rest of a sentence that begins with the path: `is "5ms", not a plain number`. */
  readonly problem: string
  /** What would be right. */
  readonly remedy: string
}

/** The configuration cannot be used. The error has every problem that was found, so that one start shows them all. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super([`The configuration has ${count}.`, ...problems.map(describeProblem)].join('\n'))
    this.problems = problems
  }
}

function describeProblem({ path, problem, remedy }: ConfigProblem): string {
  return `\n  ${path} ${problem}\n    ${remedy.replaceAll('\n', '\n    ')}`
}
