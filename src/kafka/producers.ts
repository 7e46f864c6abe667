import { setTimeout as pause } from 'node:timers/promises'
import type { InvalidConfig, KafkaConfig, KafkaCredentials, StreamConfig } from '../config/config.ts'
import { eventTopics } from '../config/record-sources.ts'
import { TopicCreator } from './network/topic-creator.ts'
import { BufferPool } from '../buffer-pool.ts'
import { ClusterMetadata } from './network/cluster-metadata.ts'
import type { Logger } from '../logger.ts'
import { openInvalidProducer, openProducer, shareParts, type SharedParts } from './open-producer.ts'
import { BufferMemory } from './producer/buffer-memory.ts'
import type {
  AccountedProducer,
  ManagedProducer,
  Obstacle,
  Producer,
  ProducerStats,
  ProducerTelemetry,
} from './producer/producer.ts'
import { DeadLetterFile } from './producer/at-least-once/dead-letter-file.ts'
import { mergeStats, retireStats, withoutCeilings } from './producer/producer-stats.ts'
import type { StreamProducer } from './producer/stream-producer.ts'
import { TopicsProducer } from './producer/topics-producer.ts'
import { KafkajsTransport } from './network/kafkajs-transport.ts'

/**
 * The producers of all streams of a gateway. Read this file of the folder first: it puts the rooms of `kafka/` together. Arrows
 * go one way: `protocol/` ← `network/` ← `producer/` ← a delivery. The producers share one view of the cluster and the recycled batch
 * buffers. The streams of a delivery also share connections (`network/shared-connections.ts`). No two streams share buffer memory.
 */
export class Producers {
  readonly #options: ProducersOptions
  readonly #byStream = new Map<string, OpenStream>()
  /** Streams that are gone from the configuration, and have records without an outcome. */
  readonly #leaving = new Set<OpenStream>()
  /** The producers of topics for invalid events. */
  readonly #invalid = new Map<ManagedProducer, OpenStream>()
  /**
   * Names of streams that are configured and not open: the stream that had the name drains, or the new one could not be opened. Set from outside.
   * {@link stats} says that they are not available.
   */
  unopened: ReadonlySet<string> = new Set()
  /** The accounts of streams that are gone. */
  #retired: readonly ProducerStats[] = []
  #isClosing = false
  readonly #shared: SharedParts
  readonly #transport: KafkajsTransport
  readonly #metadata: ClusterMetadata
  readonly #topicCreator: TopicCreator

  constructor(options: ProducersOptions) {
    const { kafka, streams, logger } = options
    this.#options = options
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
    this.#shared = shareParts({ metadata: this.#metadata, transport, buffers, logger })
    for (const stream of streams) this.#open(stream, false)
  }

  /** The producers of the streams that take records. */
  get byStream(): ReadonlyMap<string, ManagedProducer> {
    return new Map(Array.from(this.#byStream, ([name, { producer }]) => [name, producer]))
  }

  /**
   * Makes the producer of a further stream of a gateway that runs. It takes records once Kafka has told its topic.
   * @param options.create whether its topics are created if they are missing.
   * @throws what `durable` throws. Then there is no such producer.
   */
  open(stream: StreamConfig, { create }: { create: boolean }): ManagedProducer {
    const producer = this.#open(stream, true)
    this.#follow(topicsOf({ ...stream, invalid: null }), create)
    return producer
  }

  /** Makes a producer of a topic for invalid events. @param options.isLate it is for a gateway that runs. */
  openInvalid(
    stream: StreamConfig,
    invalid: InvalidConfig,
    { create, isLate }: { create: boolean; isLate: boolean },
  ): AccountedProducer {
    const producer = openInvalidProducer(stream, invalid, this.#shared)
    this.#invalid.set(producer, { producer, accounts: [producer], left: [], writers: [producer], isLate })
    if (isLate) this.#follow([invalid.topic], create)
    return producer
  }

  #follow(topics: readonly string[], create: boolean): void {
    this.#topicCreator.add(topics, create)
    this.#metadata.follow(topics)
  }

  #open(stream: StreamConfig, isLate: boolean): ManagedProducer {
    const writers: StreamProducer[] = []
    try {
      const opened: OpenStream = { ...this.#openTopics(stream, writers), writers, isLate }
      this.#byStream.set(stream.name, opened)
      return opened.producer
    } catch (error) {
      for (const writer of writers) writer.abort()
      throw error
    }
  }

  /** Makes the producers of all topics of a stream. @param writers gets each of them, and those of dead letters. */
  #openTopics(
    stream: StreamConfig,
    writers: StreamProducer[],
  ): Pick<OpenStream, 'producer' | 'accounts' | 'left'> {
    const { telemetry, dataDir, durable } = this.#options
    const letterFile = dataDir === null ? null : new DeadLetterFile(dataDir, stream.name)
    const open = (topic: string, memory?: BufferMemory): StreamProducer => {
      const ofTopic = { ...stream, topic }
      const own = { telemetry: telemetry(ofTopic), letterFile, ...(memory !== undefined && { memory }) }
      const { producer, letters } = openProducer(ofTopic, own, this.#shared)
      writers.push(producer)
      if (letters !== null) writers.push(letters)
      return producer
    }
    const memory = new BufferMemory(stream.producer.bufferMemoryBytes)
    if (stream.topics === null) {
      const { own, left } = durable?.(stream, () => open(stream.topic, memory)) ?? {
        own: open(stream.topic),
        left: [],
      }
      return { producer: own, accounts: [own], left }
    }
    const topics = eventTopics(stream).map((topic) => open(topic, memory))
    return { producer: new TopicsProducer(stream, topics, memory), accounts: topics, left: [] }
  }

  /**
   * A stream is gone from the configuration, and its last request was answered. Sends its records, those on disk too, and closes its
   * producer when each of them has its outcome. Its account stays among the others.
   * @returns false if {@link close} came before that.
   */
  async leave(name: string): Promise<boolean> {
    const stream = this.#byStream.get(name)
    if (stream === undefined || this.#isClosing) return false
    this.#byStream.delete(name)
    this.#leaving.add(stream)
    if (!(await this.#drain(stream))) return false
    this.#retired = mergeStats([this.#retired, statsOf(stream).map(retireStats)])
    this.#leaving.delete(stream)
    this.#forgetUnused(stream)
    return true
  }

  /** As {@link leave}, for a producer of {@link openInvalid}. */
  async leaveInvalid(producer: ManagedProducer): Promise<boolean> {
    const stream = this.#invalid.get(producer)
    if (stream === undefined || !(await this.#drain(stream))) return false
    this.#invalid.delete(producer)
    this.#forgetUnused(stream)
    return true
  }

  async #drain(stream: OpenStream): Promise<boolean> {
    await this.#until(() => !statsOf(stream).some(hasPending))
    if (this.#isClosing) return false
    await closeAll(stream, performance.now() + leavingCloseMs)
    return true
  }

  /** Waits until something holds, until a time by `performance.now()`, or until the end of all streams. */
  async #until(holds: () => boolean, deadlineMs = Infinity): Promise<void> {
    while (!this.#isClosing && !holds() && performance.now() < deadlineMs) await pause(leavingLookMs)
  }

  #forgetUnused({ writers }: OpenStream): void {
    const used = new Set(
      [...this.#all, ...this.#invalid.values()].flatMap((each) =>
        each.writers.map(({ stream }) => stream.topic),
      ),
    )
    const unused = writers.map(({ stream }) => stream.topic).filter((topic) => !used.has(topic))
    this.#topicCreator.forget(unused)
    this.#metadata.forget(unused)
  }

  /** Takes a stream back that was opened, and never got a record. */
  discard(name: string): void {
    const stream = this.#byStream.get(name)
    if (stream === undefined) return
    abortAll(stream)
    this.#byStream.delete(name)
    this.#forgetUnused(stream)
  }

  /** As {@link discard}, for a producer of {@link openInvalid}. */
  discardInvalid(producer: ManagedProducer): void {
    const stream = this.#invalid.get(producer)
    producer.abort()
    this.#invalid.delete(producer)
    if (stream !== undefined) this.#forgetUnused(stream)
  }

  /** Starts to look for Kafka, in the background. The search goes on until Kafka is found. */
  start(): void {
    this.#metadata.start()
  }

  /** Connections to Kafka that are made from now on use other certificates or credentials. */
  renew(renewed: Partial<KafkaCredentials>): void {
    this.#transport.renew(renewed)
    for (const connections of Object.values(this.#shared.connections)) connections.renew()
    this.#topicCreator.renew(renewed)
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
    return this.#inUse.flatMap(({ writers, isLate }) =>
      writers.flatMap(({ admission, obstacle, wasOpen, stream }) =>
        obstacle === null ? [] : [{ topic: stream.topic, admission, obstacle, wasOpen: wasOpen || isLate }],
      ),
    )
  }

  /** The topics that exist and whose settings (`max.message.bytes`, `cleanup.policy`) the brokers do not tell. */
  get withoutSettings(): string[] {
    const writers = this.#inUse.flatMap((stream) => stream.writers)
    const topics = new Set(writers.map(({ stream }) => stream.topic))
    return [...topics].filter((topic) => {
      const { status, maxMessageBytes } = this.#metadata.topic(topic)
      return status === 'known' && maxMessageBytes === null
    })
  }

  /** The account of every topic of every stream, at this moment. A stream that is gone keeps its account, and a new one of its name goes on with it. */
  get stats(): ProducerStats[] {
    const live = this.#all.flatMap(statsOf)
    const hasLeft = this.#all.some(({ left }) => left.length > 0)
    const isPlain = this.#leaving.size === 0 && this.#retired.length === 0 && !hasLeft
    if (isPlain) return live
    return mergeStats([live, this.#retired]).map((stats) =>
      this.unopened.has(stats.stream) ? { ...stats, available: false } : stats,
    )
  }

  /** All streams are being closed, or are closed. */
  get isClosing(): boolean {
    return this.#isClosing
  }

  /** The streams that are open or leave. */
  get #all(): OpenStream[] {
    return [...this.#byStream.values(), ...this.#leaving]
  }

  /** What events can go to now. */
  get #inUse(): OpenStream[] {
    return [...this.#byStream.values(), ...this.#invalid.values()]
  }

  /**
   * Waits until Kafka has what durable streams have on disk. Meanwhile nothing may be appended.
   * @param deadlineMs by `performance.now()`.
   * @returns false: Kafka did not have it by then, or {@link close} or {@link abort} came before that.
   */
  async spoolsSent(deadlineMs: number): Promise<boolean> {
    const isSent = (): boolean => this.stats.every(({ spooled }) => spooled === 0)
    await this.#until(isSent, deadlineMs)
    return isSent()
  }

  /**
   * Drains and closes all streams at the same time, within `timeoutMs`.
   * @returns whether every record had its outcome in time.
   */
  async close(timeoutMs: number): Promise<boolean> {
    this.#isClosing = true
    this.#topicCreator.stop()
    const deadlineMs = performance.now() + timeoutMs
    const close = async (stream: OpenStream): Promise<boolean> => await closeAll(stream, deadlineMs)
    // Nobody was promised anything of the invalid events.
    const invalid = Promise.all(Array.from(this.#invalid.values(), close))
    const drained = await Promise.all(this.#all.map(close))
    await invalid
    this.#metadata.stop()
    return drained.every(Boolean)
  }

  /** Ends at once. The accounts have the losses. */
  abort(): void {
    this.#isClosing = true
    this.#topicCreator.stop()
    this.#metadata.stop()
    for (const stream of [...this.#all, ...this.#invalid.values()]) abortAll(stream)
  }
}

/** The accounts of a stream at this moment. What is left of it shares the ceilings of its own producer. */
function statsOf({ accounts, left }: OpenStream): ProducerStats[] {
  return [...accounts.map(({ stats }) => stats), ...left.map(({ stats }) => withoutCeilings(stats))]
}

async function closeAll({ producer, left }: OpenStream, deadlineMs: number): Promise<boolean> {
  const closed = await Promise.all([producer, ...left].map(async (each) => await each.close(deadlineMs)))
  return closed.every(Boolean)
}

function abortAll({ producer, left }: OpenStream): void {
  for (const each of [producer, ...left]) each.abort()
}

/** A stream and what writes for it. */
interface OpenStream {
  readonly producer: ManagedProducer
  /** One, or one for each topic of a stream with several. */
  readonly accounts: readonly AccountedProducer[]
  /** See {@link SpooledProducers.left}. */
  readonly left: readonly AccountedProducer[]
  /** The producers of all topics that are written to, including the dead-letter topic. */
  readonly writers: readonly StreamProducer[]
  /** The gateway took events before there was this stream. Its topic does not make the gateway unready. */
  readonly isLate: boolean
}

function hasPending({ spooled, buffered, inFlight }: ProducerStats): boolean {
  return spooled + buffered + inFlight > 0
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
  /**
   * Puts spools in front of producers of a stream. It returns null for a stream that answers from memory.
   * @param open makes a producer of the stream. All of them share `buffer.memory`.
   */
  readonly durable?: (stream: StreamConfig, open: () => StreamProducer) => SpooledProducers | null
}

/** The producers of a durable stream. */
export interface SpooledProducers {
  /** Takes the records of the stream. */
  readonly own: AccountedProducer
  /** Send what workers that are gone left on disk, and take nothing. */
  readonly left: readonly AccountedProducer[]
}

/** Every topic that the events of a stream can go to. */
export function topicsOf(stream: StreamConfig): string[] {
  const others = [stream.deadLetterTopic, stream.invalid?.topic ?? null]
  return [...eventTopics(stream), ...others.filter((each) => each !== null)]
}

/** Splits `host:port`. An IPv6 address is in brackets. */
export function parseAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) }
}

const leavingLookMs = 50
/** Longest wait for the disk, when each record has its outcome. */
const leavingCloseMs = 10_000

/** Enough for the batches in flight at full speed. Not part of any stream's `buffer.memory`. */
const recycledBytes = 8 << 20
