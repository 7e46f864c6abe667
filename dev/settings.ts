import type { consumerShape } from '../src/config/consumer-settings.ts'
import type { environmentShape } from '../src/config/environment-schema.ts'
import type { producerShape } from '../src/config/producer-schema.ts'
import type { streamShape } from '../src/config/stream-schema.ts'

/**
 * What each setting acts on, for the tables of docs/configuration.md (`settings-reference.ts`). A setting of a schema that
 * is missing here does not compile.
 */
export interface SettingText {
  /** Markdown, for the cell of a table. */
  readonly what: string
  /** Said in place of the default. `{}` stands for the default itself. Left out: the default is one value, and is shown. */
  readonly default?: string
  /** The values that it takes, where the schema does not tell them in a few words. */
  readonly takes?: string
}

export const httpSettings = {
  HOST: { what: 'the address to listen on', default: '{} (the image: `0.0.0.0`)' },
  PORT: { what: 'the port of the event routes; 0: any free one' },
  ADMIN_PORT: {
    what: 'where `/metrics`, health, docs and the live page are; not set: on `PORT`. Never the same as `PORT`',
    default: 'not set',
  },
  TLS_CERT: {
    takes: 'PEM',
    what: 'the certificate of `PORT`, and behind it those of its issuers: `PORT` speaks HTTPS, [tls.md](tls.md). `ADMIN_PORT` never does',
    default: 'not set: plain HTTP',
  },
  TLS_KEY: { takes: 'PEM', what: 'the key of that certificate, without a password', default: 'not set' },
  TLS_CLIENT_CA: {
    takes: 'PEM',
    what: "the authorities of the clients' certificates: a client may show one, which one of these has to have signed; its common name is the name of a key",
    default: 'not set: no client is asked',
  },
  CORS_ORIGINS: {
    takes: 'origins, by comma',
    what: 'origins whose pages may send events: `https://app.example.com,http://localhost:3000`. `https://*.example.com`: all its subdomains. `*` alone: any. An origin has no path and no default port',
    default: 'none',
  },
  RATE_LIMIT_MAX: {
    what: 'requests that an address may make in `RATE_LIMIT_WINDOW`, over all workers; then 429',
    default: 'not set: no limit',
  },
  RATE_LIMIT_WINDOW: {
    takes: 'a duration',
    what: 'the time that `RATE_LIMIT_MAX` counts over: `60000` (milliseconds), `500ms`, `60s`, `1m`, `1h`',
  },
  TRUST_PROXY: {
    what: 'number of proxies in front that append to `X-Forwarded-For`; what the address for the rate limit is taken from',
  },
  MAX_BODY_BYTES: { what: 'largest body, as received and after inflating; then 413' },
  MAX_EVENT_BYTES: { what: "largest event; the topic's `max.message.bytes` may be lower and then rules" },
  MAX_EVENTS_PER_REQUEST: { what: 'events in one request; then 413' },
  MAX_DEPTH: {
    what: "nesting of one event's JSON. An event above 32 KB that a JSON Schema judges may also have 20,000 members, objects and arrays at most, and 100,000 texts and numbers",
  },
  BODY_TIMEOUT_MS: {
    what: 'from the first byte of a request to the end of its header; then 408. A body that takes longer has to come at `BODY_MIN_BYTES_PER_SECOND` or faster',
  },
  BODY_TIMEOUT_MAX_MS: {
    what: 'from the first byte of a request to its last in any case; then 408',
    default: '{}, or `BODY_TIMEOUT_MS` if that is longer',
  },
  BODY_MIN_BYTES_PER_SECOND: {
    what: 'what has to come of a body that is not complete after `BODY_TIMEOUT_MS`, measured over each `BODY_TIMEOUT_MS`; then 408. 0: any pace will do',
  },
} satisfies Partial<Record<keyof typeof environmentShape, SettingText>>

export const kafkaSettings = {
  KAFKA_BROKERS: {
    takes: '`host:port`, by comma',
    what: 'bootstrap brokers; an IPv6 address stands in brackets',
    default: 'required',
  },
  KAFKA_CLIENT_ID: { what: 'the client id that brokers log and set quotas by' },
  KAFKA_SSL: { what: '`true`: TLS. The other `KAFKA_SSL_` variables need it' },
  KAFKA_SSL_CA: {
    takes: 'PEM',
    what: "the authorities that the brokers' certificates are checked against",
    default: "Node's own",
  },
  KAFKA_SSL_CERT: {
    takes: 'PEM',
    what: "the client's certificate, for mutual TLS; only with `KAFKA_SSL_KEY`",
    default: 'not set',
  },
  KAFKA_SSL_KEY: {
    takes: 'PEM',
    what: 'the key of that certificate; only with `KAFKA_SSL_CERT`',
    default: 'not set',
  },
  KAFKA_SSL_REJECT_UNAUTHORIZED: { what: '`false` takes any certificate: for trials only' },
  KAFKA_SSL_SERVERNAME: { what: 'the name that certificates are checked for', default: "the broker's host" },
  KAFKA_SASL_MECHANISM: {
    what: 'the way to log in, in any case. `plain` without TLS sends the password in the clear',
    default: 'not set',
  },
  KAFKA_SASL_USERNAME: { what: 'the name; all three SASL variables or none', default: 'not set' },
  KAFKA_SASL_PASSWORD: {
    what: 'the password, taken with its blanks; all three SASL variables or none',
    default: 'not set',
  },
  KAFKA_CONNECTION_TIMEOUT_MS: { what: 'longest wait for a connection to a broker' },
  KAFKA_METADATA_MAX_AGE_MS: { what: 'oldest knowledge of partitions and leaders (`metadata.max.age.ms`)' },
  KAFKA_CREATE_TOPICS: {
    what: 'topics that are missing at start are created; `false`: the gateway waits for them, not ready. A write never creates one, and a topic that is deleted later is not made again',
  },
  KAFKA_TOPIC_PARTITIONS: {
    what: 'partitions of a topic that is created',
    default: 'as the brokers are set',
  },
  KAFKA_TOPIC_REPLICATION: { what: 'replicas of a topic that is created', default: 'as the brokers are set' },
} satisfies Partial<Record<keyof typeof environmentShape, SettingText>>

export const processSettings = {
  CHUTE_CONFIG: {
    what: "path of the streams' file; `.json` is read as JSON, anything else as YAML 1.2",
    default: 'not set: the two default streams',
  },
  CHUTE_KEYS_FILE: {
    what: 'path of a file with the keys that clients send, where the file of `CHUTE_CONFIG` has none: a Secret of its own, [security.md](security.md)',
    default: 'not set',
  },
  CHUTE_OPEN: {
    what: '`true`: nobody needs a key although `HOST` is not a loopback address. Without keys and without it such a gateway does not start',
  },
  CHUTE_DATA_DIR: {
    what: 'the folder in which durable streams keep events before they answer 202. Not set: no stream is durable, and accepted events are in memory only. One gateway a folder: a second one does not start. A folder that goes with its container is not called durable, [durable.md](durable.md)',
    default: 'not set',
  },
  CHUTE_DATA_DIR_EPHEMERAL: {
    what: '`true`: a 202 says `durable` although the folder is on overlayfs, aufs, tmpfs or ramfs. For trials and tests. Without `CHUTE_DATA_DIR` the start is refused',
  },
  CHUTE_DEDUPE_REDIS_URL: {
    takes: 'a URL',
    what: "a Redis or Valkey in which several gateways share what they know of keys and ids, [duplicates.md](duplicates.md): `redis://host:6379`, `rediss://user:password@host:6380/0` with TLS (another authority than Node's own: `NODE_EXTRA_CA_CERTS`)",
    default: 'not set: keys are known to one process',
  },
  CHUTE_DEDUPE_REDIS_PREFIX: { what: 'what all its keys begin with' },
  CHUTE_DEDUPE_REDIS_LEASE_MS: {
    what: 'for how long the key of a request without an answer outlives a gateway that dies',
  },
  CHUTE_DEDUPE_REDIS_TIMEOUT_MS: {
    what: 'longest wait for an answer of Redis, and for a connection; then it is away',
  },
  SHUTDOWN_TIMEOUT_MS: { what: 'longest drain after `DRAIN_DELAY_MS`; a signal ends it at once' },
  DRAIN_DELAY_MS: {
    what: 'for how long requests are taken after the signal, so that load balancers can learn that the gateway leaves, [workers.md](workers.md#leaving); a second signal ends the delay',
    default: '5000 after SIGTERM, 0 after SIGINT',
  },
  WORKERS: {
    what: 'processes that take requests, on one port, [workers.md](workers.md). Not with `CHUTE_DATA_DIR`',
  },
  LOG_LEVEL: {
    what: 'the least that is logged, as JSON lines on stdout. From `warn` on, the account of a clean shutdown is not logged',
  },
} satisfies Partial<Record<keyof typeof environmentShape, SettingText>>

/** The three together are all variables. */
export const environmentSettings: Readonly<Record<keyof typeof environmentShape, SettingText>> = {
  ...httpSettings,
  ...kafkaSettings,
  ...processSettings,
}

export const streamSettings: Readonly<Record<keyof typeof streamShape, SettingText>> = {
  topic: {
    what: 'the topic; streams with different deliveries never share one',
    default: "the stream's name",
  },
  delivery: {
    takes: '`at-most-once`, `at-least-once`, `exactly-once`',
    what: '`at-most-once`: never twice, may be lost. `at-least-once`: sent again until Kafka has it. `exactly-once`: at-least-once that is durable, idempotent and told from duplicates, all three for certain ([duplicates.md](duplicates.md#exactly-once))',
    default: 'required',
  },
  preset: { what: 'a row of [the table below](#presets)', default: 'by delivery' },
  schema: {
    what: 'the built-in schema; `any`: any JSON; otherwise the path of a JSON Schema file (JSON, draft-07 or 2020-12), relative to this file. A `pattern` that backtracks for long holds up all requests of the process: Chute cannot interrupt it',
  },
  timestampUnit: {
    what: 'of `schema: telemetry`: the unit of a `timestamp` that is a number. `auto`: any of the four. A number that is no time of 1970 to 2099 in this unit, or looks like another unit, is refused ([records.md](records.md#timestamps-in-other-units)). The event is written as it came',
    default: '`ms`',
  },
  key: {
    takes: '`source`, `none`, a JSON pointer such as `/user/id`, or `header:NAME`',
    what: "what becomes the record's key, which chooses its partition: the event's `source`, nothing, the text or number at a place in the event (RFC 6901), or a header of the request ([records.md](records.md#the-key))",
  },
  keyMissing: {
    what: 'an event without a key: `accept` (written without one), `reject` (refused with `record_key_missing`)',
  },
  headers: {
    takes:
      'a map of up to 16 names, each with `header:NAME`, `key:name`, `client:address/24`, `client:address` or `time`',
    what: 'headers of each record, from the request: `{ traceparent: header:traceparent, tenant: key:name, received: time }` ([records.md](records.md#headers))',
    default: 'none',
  },
  onBufferFull: {
    what: 'a request that finds the buffer full: `reject` (503), `drop` (202, counted as dropped), `block` (waits up to `max.block.ms`, then 503)',
  },
  beaconOnBufferFull: { what: 'the same for the beacon routes, whose clients read no reply' },
  confirm: {
    what: '`off`: bare acks=0, whose records end as `sent`, and nobody knows what arrived; with acks=1, `confirmed` then means the leader alone. Not with acks=all, whose answers are the confirmation',
  },
  audit: {
    what: '`true`: each record gets a header of 26 bytes with its writer and its number, by which `chute audit` tells from the topic alone what is lost, repeated or out of order ([docs/audit.md](audit.md))',
  },
  deadLetterTopic: {
    what: 'at-least-once: where records go that Kafka refuses for good, with the reason in their headers. Without it they go to a file of the data folder, and without that they are dropped and counted. See [dead-letters.md](dead-letters.md)',
    default: 'none',
  },
  dedupe: {
    what: "`on`: what was accepted before is told by `Idempotency-Key` or by an event's `id`, and is not written again ([duplicates.md](duplicates.md))",
    default:
      '`on` for at-least-once, `off` for at-most-once, and with more than one worker unless there is a Redis',
  },
  'dedupe.window.ms': { what: 'for how long a key or an id is known', default: '{} (10 min)' },
  'dedupe.max.entries': {
    what: 'the most keys and ids that are known: some 200 bytes each with 36 characters, some 700 with the longest source and id (heap of Node 20); then the oldest are forgotten before their time and counted in `chute_dedupe_forgotten_total`. With Redis: the most that wait to be told to it',
  },
  durable: {
    what: '`on`: a 202 is answered when the events are on disk ([durable.md](durable.md)); without `CHUTE_DATA_DIR` the start is refused. `off`: from memory',
    default: '`on` for at-least-once with `CHUTE_DATA_DIR` set',
  },
  fsync: {
    what: 'of a durable stream: `on` waits for the disk, `off` for the kernel ([durable.md](durable.md))',
  },
  'spool.max.bytes': {
    what: 'of a durable stream: what its events may take of the disk, with those that are done and not yet removed ([durable.md](durable.md)); then `onBufferFull` decides. At least `buffer.memory`',
    default: '{} (4 GiB)',
  },
}

export const producerSettings: Readonly<Record<keyof typeof producerShape, SettingText>> = {
  acks: {
    takes: '`0`, `1`, `all` (or `-1`)',
    what: 'who has to have a batch before it counts: nobody, the leader, all in-sync replicas',
    default: '*',
  },
  retries: { what: 'how often a failed batch is sent again; 0 on every at-most-once stream', default: '*' },
  'retry.backoff.ms': { what: 'pause before a batch is sent again', default: '* ({})' },
  'linger.ms': {
    what: 'longest wait for a batch to fill; one that a client waits for (`Prefer: wait`) goes sooner',
    default: '*',
  },
  'batch.size': {
    what: 'a batch is closed when the next record would pass it; a larger record goes alone',
    default: '*',
  },
  'buffer.memory': {
    what: 'ceiling of what is queued, in the socket and unconfirmed; then `onBufferFull` decides',
    default: '*',
  },
  'max.block.ms': { what: 'longest wait for room with `onBufferFull: block`' },
  'max.in.flight.requests.per.connection': {
    what: 'produce requests that are written and not confirmed; at-least-once has one batch a partition, and takes no other value',
    default: '*',
  },
  'delivery.timeout.ms': {
    what: "from acceptance to outcome; a record that was not written by then is dropped as `expired`. What is under way is waited for, `request.timeout.ms` at most. Kafka's default is 120000 for both; a stream that promises not to lose does not give up by itself",
    default: 'at-most-once: 120000; at-least-once: `unlimited`',
  },
  'request.timeout.ms': { what: "longest wait for a broker's reply" },
  'max.request.size': {
    what: "ceiling of a produce request, and so of a record. With `preset: logs` it is 1049600, since a full batch of 1 MiB and the request around it would not fit Kafka's default",
    default: '{}, or `batch.size` + 1024 if that is more',
  },
  'compression.type': { what: 'the batches; `zstd` needs Node 22.15', default: '*' },
  'enable.idempotence': {
    what: 'sequence numbers, so that a batch that is sent again is stored once',
    default: '`true` for at-least-once with acks=all',
  },
  'confirm.interval.ms': {
    what: 'how often, and with a write twice as often, the brokers are asked how far all in-sync replicas have what was written (two small ListOffsets requests, which nothing waits for; where a client waits, they go right behind the write). What was written since is what the death of a broker makes doubtful, so a small interval loses and flags less',
  },
}

export const consumerSettings: Readonly<Record<keyof typeof consumerShape, SettingText>> = {
  'enable.auto.commit': {
    what: 'may be said, and has to agree: `true` with `auto-commit`, `false` with the other two',
    default: 'by `--delivery`',
  },
  'auto.commit.interval.ms': {
    what: "pause between two commits by the clock; only with `--delivery auto-commit`. Kafka's default is 5000",
  },
  'auto.offset.reset': {
    takes: '`latest`, `earliest`',
    what: 'where a group begins that has committed nothing',
  },
  'max.poll.records': { what: 'the most that is committed, and so put at stake, at a time' },
  'max.poll.interval.ms': {
    what: 'longest time that processing one poll may take before the group goes on without this member',
  },
  'session.timeout.ms': {
    what: 'a member that is not heard of for this long is taken for dead; brokers have limits for it',
  },
  'heartbeat.interval.ms': { what: 'pause between two signs of life' },
  'fetch.min.bytes': { what: 'a broker answers a fetch when it has this much' },
  'fetch.max.bytes': { what: 'most that one fetch brings' },
  'fetch.max.wait.ms': { what: 'or when this time is up' },
  'max.partition.fetch.bytes': { what: 'most of one partition' },
  'isolation.level': { what: 'whether records of open transactions are read' },
}
