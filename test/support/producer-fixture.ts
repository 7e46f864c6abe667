import { murmur2, partitionForHash } from '../../src/kafka/protocol/murmur2.ts'
import {
  canShareConnections,
  compressionTraits,
  compressionTypes,
  type CompressionType,
  type ProducerConfig,
  type StreamConfig,
} from '../../src/config/config.ts'
import { BufferPool } from '../../src/buffer-pool.ts'
import { ClusterMetadata } from '../../src/kafka/network/cluster-metadata.ts'
import type { Logger } from '../../src/logger.ts'
import {
  recordSizeUpperBound,
  type PendingBatch,
  type ProducerTelemetry,
} from '../../src/kafka/producer/producer.ts'
import { openProducer, shareParts } from '../../src/kafka/open-producer.ts'
import { topicsOf } from '../../src/kafka/producers.ts'
import { DeadLetterFile } from '../../src/kafka/producer/at-least-once/dead-letter-file.ts'
import type { StreamProducer } from '../../src/kafka/producer/stream-producer.ts'
import type { ModelCluster } from './model-broker.ts'
import { passUntil } from './virtual-clock.ts'
import { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'

/** Each `compression.type` with a codec. */
export type CodecName = Exclude<CompressionType, 'none'>

/** The codecs that this Node has. */
export const codecsHere = compressionTypes.filter(
  (type): type is CodecName => type !== 'none' && compressionTraits[type].isHere,
)

/** The telemetry preset with what a test changes. */
export function producerConfig(overrides: Partial<ProducerConfig> = {}): ProducerConfig {
  return {
    acks: 0,
    retries: 0,
    retryBackoffMs: 100,
    lingerMs: 5,
    batchSizeBytes: 32_768,
    bufferMemoryBytes: 67_108_864,
    maxBlockMs: 1_000,
    maxInFlight: 1_000,
    deliveryTimeoutMs: 120_000,
    requestTimeoutMs: 3_000,
    maxRequestSizeBytes: 1_048_576,
    compressionType: 'none',
    enableIdempotence: false,
    confirmIntervalMs: 100,
    ...overrides,
  }
}

/** What the critical preset changes in {@link producerConfig}. */
export const criticalOverrides: Partial<ProducerConfig> = {
  acks: -1,
  retries: 2_147_483_647,
  enableIdempotence: true,
  confirmIntervalMs: null,
  deliveryTimeoutMs: Number.MAX_SAFE_INTEGER,
}

/** A stream named as its topic. */
export function streamConfig(
  topic: string,
  delivery: StreamConfig['delivery'],
  overrides: Partial<ProducerConfig> = {},
): StreamConfig {
  const critical = delivery === 'at-least-once' ? criticalOverrides : {}
  const producer = producerConfig({ ...critical, ...overrides })
  return {
    name: topic,
    topic,
    topics: null,
    delivery,
    preset: delivery === 'at-most-once' ? 'telemetry' : 'critical',
    connection: canShareConnections(delivery, producer) ? 'shared' : 'own',
    schema: 'any',
    timestampUnit: 'ms',
    key: 'source',
    keyMissing: 'accept',
    headers: {},
    onBufferFull: 'reject',
    beaconOnBufferFull: 'drop',
    audit: false,
    deadLetterTopic: null,
    invalid: null,
    dedupe: null,
    exactlyOnce: false,
    producer,
    spool: null,
  }
}

/** A topic for invalid events, with the settings that a stream gives it. */
export function invalidConfig(topic: string, maxPerSecond = 100): NonNullable<StreamConfig['invalid']> {
  return {
    topic,
    maxPerSecond,
    producer: producerConfig({ ...criticalOverrides, bufferMemoryBytes: 8 << 20 }),
  }
}

/** A logger that keeps what it is told. */
export class LogKeeper implements Logger {
  readonly lines: { level: string; fields: object; message: string }[] = []

  debug(): void {}

  info(fields: object, message: string): void {
    this.lines.push({ level: 'info', fields, message })
  }

  warn(fields: object, message: string): void {
    this.lines.push({ level: 'warn', fields, message })
  }

  error(fields: object, message: string): void {
    this.lines.push({ level: 'error', fields, message })
  }
}

/** Streams of a gateway on a model cluster, with their metadata. */
export class ProducerFixture {
  readonly cluster: ModelCluster
  readonly metadata: ClusterMetadata
  readonly producers: StreamProducer[]
  readonly logs = new LogKeeper()

  /** @param dataDir where dead letters without a topic go. */
  constructor(cluster: ModelCluster, streams: readonly StreamConfig[], dataDir: string | null = null) {
    this.cluster = cluster
    this.metadata = new ClusterMetadata({
      transport: cluster,
      bootstrap: [...cluster.nodes.keys()].map((nodeId) => ({ host: `node-${nodeId}`, port: 9092 })),
      topics: streams.flatMap(topicsOf),
      maxAgeMs: 5_000,
      logger: this.logs,
    })
    const buffers = new BufferPool(1 << 20)
    const shared = shareParts({ metadata: this.metadata, transport: cluster, buffers, logger: this.logs })
    this.producers = streams.map((stream) => {
      const letterFile = dataDir === null ? null : new DeadLetterFile(dataDir, stream.name)
      return openProducer(stream, { telemetry: noTelemetry, letterFile }, shared).producer
    })
  }

  /** The producer of the first stream. */
  get producer(): StreamProducer {
    return this.producers[0]!
  }

  /** Starts, and lets time pass until every stream takes records. */
  async start(): Promise<this> {
    this.metadata.start()
    await passUntil(() => this.producers.every(({ admission }) => admission === 'open'))
    return this
  }

  /** Ends everything at once. */
  stop(): void {
    for (const producer of this.producers) producer.abort()
    this.metadata.stop()
  }
}

/** Reserves and appends one record as a request would; null if there is no room. */
export function append(
  producer: StreamProducer,
  value: string,
  key: string | null = null,
): PendingBatch | null {
  const body = Buffer.from(value)
  const keyBuffer = key === null ? null : Buffer.from(key)
  const keyBytes = keyBuffer?.length ?? 0
  if (!producer.reserve(recordSizeUpperBound(keyBytes, body.length, producer.headerBytes))) return null
  return producer.append(RecordBytes.of(body, keyBuffer, Date.now()))
}

/** Telemetry that drops everything. */
export const noTelemetry: ProducerTelemetry = { batchWritten() {}, requestCompleted() {} }

/** The first of the keys `0`, `1`, `2` … that belongs to a partition. */
export function keyFor(partition: number, partitionCount: number): string {
  for (let i = 0; ; i++) {
    const key = `${i}`
    if (partitionForHash(murmur2(Buffer.from(key)), partitionCount) === partition) return key
  }
}
