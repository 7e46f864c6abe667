import type { KafkaConfig, StreamConfig } from '../../config/config.ts'
import { TopicCreator } from '../network/topic-creator.ts'
import { BufferPool } from '../../buffer-pool.ts'
import { ClusterMetadata } from '../network/cluster-metadata.ts'
import type { Logger } from '../../logger.ts'
import type { ManagedProducer, Obstacle, Producer, ProducerStats, ProducerTelemetry } from './producer.ts'
import { openDeadLetters } from './at-least-once/open-dead-letters.ts'
import { StreamProducer } from './stream-producer.ts'
import { KafkajsTransport } from '../network/kafkajs-transport.ts'

/**
 * The producers of all streams of a gateway. They share one view of the cluster and the recycled batch buffers, and
 * nothing else: neither memory nor connections.
 */
export class Producers {
  readonly byStream: ReadonlyMap<string, ManagedProducer>
  readonly #metadata: ClusterMetadata
  readonly #topicCreator: TopicCreator
  /** Every topic that is written to, those of dead letters among them. */
  readonly #writers: StreamProducer[] = []

  constructor(options: ProducersOptions) {
    const { kafka, streams, dataDir, logger, telemetry } = options
    const transport = new KafkajsTransport(kafka, logger)
    const topics = [
      ...new Set(
        streams.flatMap(({ topic, deadLetterTopic }) => [
          topic,
          ...(deadLetterTopic === null ? [] : [deadLetterTopic]),
        ]),
      ),
    ]
    this.#metadata = new ClusterMetadata({
      transport,
      bootstrap: kafka.brokers.map(parseAddress),
      topics,
      maxAgeMs: kafka.metadataMaxAgeMs,
      logger,
    })
    this.#topicCreator = new TopicCreator({ config: kafka, metadata: this.#metadata, topics, logger })
    const buffers = new BufferPool(recycledBytes)
    const shared = { metadata: this.#metadata, transport, buffers, logger }
    const producers = streams.map((stream) => {
      const deadLetters = openDeadLetters(stream, dataDir, shared)
      const parts = { ...shared, stream, deadLetters, telemetry: telemetry(stream) }
      const producer = new StreamProducer(parts)
      this.#writers.push(producer)
      if (deadLetters.producer !== null) this.#writers.push(deadLetters.producer)
      return [stream.name, options.durable?.(producer) ?? producer] as const
    })
    this.byStream = new Map(producers)
  }

  /** Starts to look for Kafka, in the background and for as long as it takes. */
  start(): void {
    this.#metadata.start()
  }

  /** A broker answered at least once since the start. */
  get everConnected(): boolean {
    return this.#metadata.everConnected
  }

  /** Why no broker answered at the last try; null if one did. Never holds a secret. */
  get failure(): string | null {
    return this.#metadata.failure
  }

  /** The topics that cannot be written to at this moment, for another reason than that Kafka is away, and why. */
  get obstructed(): ObstructedTopic[] {
    return this.#writers.flatMap((writer) => {
      const { admission, obstacle, wasOpen, stream } = writer
      return obstacle === null ? [] : [{ topic: stream.topic, admission, obstacle, wasOpen }]
    })
  }

  /** Every stream's account, at this moment. */
  get stats(): ProducerStats[] {
    return [...this.byStream.values()].map((producer) => producer.stats)
  }

  /**
   * Drains and closes all streams side by side, within `timeoutMs`.
   * @returns whether everything was sent and confirmed.
   */
  async close(timeoutMs: number): Promise<boolean> {
    this.#topicCreator.stop()
    const deadlineMs = performance.now() + timeoutMs
    const producers = [...this.byStream.values()]
    const drained = await Promise.all(producers.map(async (producer) => await producer.close(deadlineMs)))
    this.#metadata.stop()
    return drained.every(Boolean)
  }

  /** Ends at once. The accounts say what that cost. */
  abort(): void {
    this.#topicCreator.stop()
    this.#metadata.stop()
    for (const producer of this.byStream.values()) producer.abort()
  }
}

/** See {@link Producers.obstructed}. */
export interface ObstructedTopic {
  readonly topic: string
  readonly admission: Producer['admission']
  readonly obstacle: Obstacle
  /** It could be written to at some time since the start. */
  readonly wasOpen: boolean
}

/** See {@link Producers}. */
export interface ProducersOptions {
  readonly kafka: KafkaConfig
  readonly streams: readonly StreamConfig[]
  readonly logger: Logger
  /** `CHUTE_DATA_DIR`, for dead letters; null: there is none. */
  readonly dataDir: string | null
  readonly telemetry: (stream: StreamConfig) => ProducerTelemetry
  /** Puts a spool in front of a stream's producer; null for a stream that answers from memory. */
  readonly durable?: (producer: StreamProducer) => ManagedProducer | null
}

/** Splits `host:port`; an IPv6 address stands in brackets. */
export function parseAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) }
}

/** Enough for the batches in flight at full speed; not part of any stream's `buffer.memory`. */
const recycledBytes = 8 << 20
