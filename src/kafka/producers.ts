import {
  resends,
  type Delivery,
  type InvalidConfig,
  type KafkaConfig,
  type StreamConfig,
} from '../config/config.ts'
import { TopicCreator } from './network/topic-creator.ts'
import { BufferPool } from '../buffer-pool.ts'
import { ClusterMetadata } from './network/cluster-metadata.ts'
import type { Logger } from '../logger.ts'
import type {
  ManagedProducer,
  Obstacle,
  Producer,
  ProducerStats,
  ProducerTelemetry,
} from './producer/producer.ts'
import { DeadLetterFile } from './producer/at-least-once/dead-letter-file.ts'
import { DeadLetters, DeadLetterHeaders } from './producer/at-least-once/dead-letters.ts'
import { AtLeastOnceSender } from './producer/at-least-once/sender.ts'
import { AtMostOnceSender } from './producer/at-most-once/sender.ts'
import type { Sender, SenderOptions } from './producer/sender.ts'
import { StreamProducer, type StreamProducerOptions } from './producer/stream-producer.ts'
import { KafkajsTransport } from './network/kafkajs-transport.ts'

/**
 * The producers of all streams of a gateway. Read this file of the folder first: it puts the rooms of `kafka/` together. Arrows
 * go one way: `protocol/` ← `network/` ← `producer/` ← a delivery. The producers share one view of the cluster and the recycled batch
 * buffers. They share neither buffer memory nor connections.
 */
export class Producers {
  readonly byStream: ReadonlyMap<string, ManagedProducer>
  /** The producers of the topics for invalid events, by the stream whose events they are. */
  readonly invalidByStream = new Map<string, ManagedProducer>()
  readonly #transport: KafkajsTransport
  readonly #metadata: ClusterMetadata
  readonly #topicCreator: TopicCreator
  /** The producers of all topics that are written to, including those for dead letters and invalid events. */
  readonly #writers: StreamProducer[] = []

  constructor(options: ProducersOptions) {
    const { kafka, streams, dataDir, logger, telemetry } = options
    const transport = new KafkajsTransport(kafka, logger)
    this.#transport = transport
    const topics = [...new Set(streams.flatMap(topicsOf))]
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
      const { producer, letters } = openProducer(stream, telemetry(stream), dataDir, shared)
      this.#writers.push(producer)
      if (letters !== null) this.#writers.push(letters)
      if (stream.invalid !== null) this.#openInvalid(stream, stream.invalid, shared)
      return [stream.name, options.durable?.(producer) ?? producer] as const
    })
    this.byStream = new Map(producers)
  }

  /** Starts to look for Kafka, in the background. The search goes on until Kafka is found. */
  start(): void {
    this.#metadata.start()
  }

  /** Connections to Kafka that are made from now on use other certificates. */
  renewSsl(ssl: KafkaConfig['ssl']): void {
    this.#transport.renewSsl(ssl)
    this.#topicCreator.renewSsl(ssl)
  }

  /** A broker answered at least once since the start. */
  get everConnected(): boolean {
    return this.#metadata.everConnected
  }

  /** Why no broker answered at the last try; null if a broker answered. Never holds a secret. */
  get failure(): string | null {
    return this.#metadata.failure
  }

  /** The topics that cannot be written to at this moment, and why. A topic that was open once stays open while Kafka is away. */
  get obstructed(): ObstructedTopic[] {
    return this.#writers.flatMap((writer) => {
      const { admission, obstacle, wasOpen, stream } = writer
      return obstacle === null ? [] : [{ topic: stream.topic, admission, obstacle, wasOpen }]
    })
  }

  /** The topics that exist and whose settings (`max.message.bytes`, `cleanup.policy`) the brokers do not tell. */
  get withoutSettings(): string[] {
    const topics = new Set(this.#writers.map(({ stream }) => stream.topic))
    return [...topics].filter((topic) => {
      const { status, maxMessageBytes } = this.#metadata.topic(topic)
      return status === 'known' && maxMessageBytes === null
    })
  }

  /** Every stream's account, at this moment. */
  get stats(): ProducerStats[] {
    return [...this.byStream.values()].map((producer) => producer.stats)
  }

  /**
   * Drains and closes all streams at the same time, within `timeoutMs`.
   * @returns whether every record had its outcome in time.
   */
  async close(timeoutMs: number): Promise<boolean> {
    this.#topicCreator.stop()
    const deadlineMs = performance.now() + timeoutMs
    const close = async (producer: ManagedProducer): Promise<boolean> => await producer.close(deadlineMs)
    // Nobody was promised anything of the invalid events.
    const invalid = Promise.all(Array.from(this.invalidByStream.values(), close))
    const drained = await Promise.all(Array.from(this.byStream.values(), close))
    await invalid
    this.#metadata.stop()
    return drained.every(Boolean)
  }

  /** Ends at once. The accounts have the losses. */
  abort(): void {
    this.#topicCreator.stop()
    this.#metadata.stop()
    for (const producer of [...this.byStream.values(), ...this.invalidByStream.values()]) producer.abort()
  }

  #openInvalid(stream: StreamConfig, invalid: InvalidConfig, shared: SharedParts): void {
    const producer = new StreamProducer({
      ...shared,
      stream: invalidStream(stream, invalid),
      telemetry: untold,
      openSender: senders['at-least-once'],
      logsLosses: false,
    })
    this.#writers.push(producer)
    this.invalidByStream.set(stream.name, producer)
  }
}

/** See {@link Producers.obstructed}. */
export interface ObstructedTopic {
  readonly topic: string
  readonly admission: Producer['admission']
  readonly obstacle: Obstacle
  /** The topic could be written to at some time since the start. */
  readonly wasOpen: boolean
}

/** See {@link Producers}. */
export interface ProducersOptions {
  readonly kafka: KafkaConfig
  readonly streams: readonly StreamConfig[]
  readonly logger: Logger
  /** `CHUTE_DATA_DIR`, for dead letters; null: there is no data folder. */
  readonly dataDir: string | null
  readonly telemetry: (stream: StreamConfig) => ProducerTelemetry
  /** Puts a spool in front of a stream's producer. It returns null for a stream that answers from memory. */
  readonly durable?: (producer: StreamProducer) => ManagedProducer | null
}

/** What the producers of all streams share. */
type SharedParts = Pick<StreamProducerOptions, 'metadata' | 'transport' | 'buffers' | 'logger'>

/**
 * Makes the producer of a stream, with the sender of the stream's delivery. An at-least-once stream also gets a place for its dead letters:
 * the dead-letter topic, which has a producer of its own, and the file in the data folder.
 * @param dataDir null: there is no data folder.
 * @returns `letters`: the producer of the dead-letter topic; null if there is no such topic.
 */
export function openProducer(
  stream: StreamConfig,
  telemetry: ProducerTelemetry,
  dataDir: string | null,
  { metadata, transport, buffers, logger }: SharedParts,
): { producer: StreamProducer; letters: StreamProducer | null } {
  const parts = { metadata, transport, buffers, logger, openSender: senders[stream.delivery] }
  if (!resends[stream.delivery])
    return { producer: new StreamProducer({ ...parts, stream, telemetry }), letters: null }
  const headers = new DeadLetterHeaders()
  const letters =
    stream.deadLetterTopic === null
      ? null
      : new StreamProducer({
          ...parts,
          stream: letterStream(stream, stream.deadLetterTopic),
          headers,
          telemetry: untold,
          logsLosses: false,
        })
  const producer = new StreamProducer({
    ...parts,
    stream,
    telemetry,
    openDeadLetters: ({ account, onReady }) =>
      new DeadLetters({
        stream: stream.name,
        topic: stream.topic,
        account,
        producer: letters,
        headers,
        file: dataDir === null ? null : new DeadLetterFile(dataDir, stream.name),
        logger,
        onReady,
      }),
  })
  return { producer, letters }
}

/** The sender of each delivery. */
const senders = {
  'at-most-once': (options) => new AtMostOnceSender(options),
  'at-least-once': (options) => new AtLeastOnceSender(options),
} satisfies Record<Delivery, (options: SenderOptions) => Sender>

/** The stream of a dead-letter topic: it has the settings of its stream, but no audit and no dead letters. */
function letterStream(stream: StreamConfig, topic: string): StreamConfig {
  const deliveryTimeoutMs = Math.min(stream.producer.deliveryTimeoutMs, deadLetterTimeoutMs)
  const producer = { ...stream.producer, deliveryTimeoutMs }
  return { ...stream, topic, audit: false, deadLetterTopic: null, invalid: null, producer }
}

/** The stream of a topic for invalid events. */
function invalidStream(stream: StreamConfig, { topic, producer }: InvalidConfig): StreamConfig {
  const promise = { delivery: 'at-least-once', exactlyOnce: false, spool: null, dedupe: null } as const
  return { ...stream, ...promise, topic, audit: false, deadLetterTopic: null, invalid: null, producer }
}

/** Every topic that the events of a stream can go to. */
export function topicsOf({ topic, deadLetterTopic, invalid }: StreamConfig): string[] {
  return [topic, deadLetterTopic, invalid?.topic ?? null].filter((each) => each !== null)
}

/** Takes nothing. The batches of dead letters and invalid events are in no histogram. */
const untold: ProducerTelemetry = { batchWritten() {}, requestCompleted() {} }

/** Letters that cannot be written to the dead-letter topic within this time go to the file. */
const deadLetterTimeoutMs = 60_000

/** Splits `host:port`. An IPv6 address is in brackets. */
export function parseAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) }
}

/** Enough for the batches in flight at full speed. Not part of any stream's `buffer.memory`. */
const recycledBytes = 8 << 20
