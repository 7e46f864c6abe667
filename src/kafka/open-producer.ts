import { resends, type Delivery, type InvalidConfig, type StreamConfig } from '../config/config.ts'
import type { BufferMemory } from './producer/buffer-memory.ts'
import type { ProducerTelemetry } from './producer/producer.ts'
import type { DeadLetterFile } from './producer/at-least-once/dead-letter-file.ts'
import { DeadLetters, DeadLetterHeaders } from './producer/at-least-once/dead-letters.ts'
import { AtLeastOnceSender } from './producer/at-least-once/sender.ts'
import { AtMostOnceSender } from './producer/at-most-once/sender.ts'
import { LingerClocks } from './producer/linger-clock.ts'
import { ownConnections, SharedConnections, type TopicTransport } from './network/shared-connections.ts'
import { TurnEnd } from './network/turn.ts'
import type { Sender, SenderOptions } from './producer/sender.ts'
import { StreamProducer, type StreamProducerOptions } from './producer/stream-producer.ts'

/** What the producers of all streams share. */
export interface SharedParts extends Pick<
  StreamProducerOptions,
  'metadata' | 'transport' | 'buffers' | 'logger' | 'turn' | 'clocks'
> {
  /** The connections of the streams that share them. */
  readonly connections: SharingGroups
}

/**
 * Streams share connections within a group, and never beyond it. At-least-once streams never wait for at-most-once streams, and no stream
 * waits for what was refused: dead letters and invalid events are the group `aside`.
 */
export type SharingGroups = Readonly<Record<Delivery | 'aside', SharedConnections>>

/** Adds what producers need to write together: the end of a turn, the connections, and the time at which batches have lingered. */
export function shareParts(parts: Omit<SharedParts, 'connections' | 'turn' | 'clocks'>): SharedParts {
  const turn = new TurnEnd()
  const { transport, logger } = parts
  const group = (awaitsAnswers: boolean): SharedConnections =>
    new SharedConnections({ transport, logger, turn, awaitsAnswers })
  const connections = { 'at-most-once': group(false), 'at-least-once': group(true), aside: group(true) }
  return { ...parts, turn, connections, clocks: new LingerClocks() }
}

/**
 * Makes the producer of a topic of a stream, with the sender of the stream's delivery. An at-least-once stream also gets a place for its dead letters:
 * the dead-letter topic, which has a producer of its own, and the file in the data folder.
 * @param own.memory the memory that the topics of a stream share; left out: `buffer.memory` is the producer's own. Dead letters have a memory of their own.
 * @param own.letterFile null: there is no data folder.
 * @returns `letters`: the producer of the dead-letter topic; null if there is no such topic.
 */
export function openProducer(
  stream: StreamConfig,
  own: {
    readonly telemetry: ProducerTelemetry
    readonly letterFile: DeadLetterFile | null
    readonly memory?: BufferMemory
  },
  shared: SharedParts,
): { producer: StreamProducer; letters: StreamProducer | null } {
  const { delivery } = stream
  const { telemetry, letterFile, memory } = own
  const openSender = openerOf(delivery, shared.connections[delivery])
  const ofStream = { ...shared, openSender, stream, telemetry, ...(memory !== undefined && { memory }) }
  if (!resends[stream.delivery]) return { producer: new StreamProducer(ofStream), letters: null }
  const headers = new DeadLetterHeaders()
  const letters =
    stream.deadLetterTopic === null
      ? null
      : new StreamProducer({
          ...shared,
          openSender: openerOf(delivery, shared.connections.aside),
          stream: letterStream(stream, stream.deadLetterTopic),
          headers,
          telemetry: untold,
          logsLosses: false,
        })
  const producer = new StreamProducer({
    ...ofStream,
    openDeadLetters: ({ account, onReady }) =>
      new DeadLetters({
        stream: stream.name,
        topic: stream.topic,
        account,
        producer: letters,
        headers,
        file: letterFile,
        logger: shared.logger,
        onReady,
      }),
  })
  return { producer, letters }
}

/** Makes senders of a delivery. @param connections those that a stream uses if it shares. */
function openerOf(delivery: Delivery, connections: SharedConnections): (options: SenderOptions) => Sender {
  return (options) => {
    const { stream, transport } = options
    return senders[delivery]({
      ...options,
      transport:
        stream.connection === 'shared'
          ? connections.of(stream.topic, stream.producer.maxRequestSizeBytes)
          : ownConnections(transport),
    })
  }
}

/** The sender of each delivery. */
const senders = {
  'at-most-once': (options) => new AtMostOnceSender(options),
  'at-least-once': (options) => new AtLeastOnceSender(options),
} satisfies Record<Delivery, (options: SenderOptions & { readonly transport: TopicTransport }) => Sender>

/** The stream of a dead-letter topic: it has the settings of its stream, but no audit and no dead letters. */
function letterStream(stream: StreamConfig, topic: string): StreamConfig {
  const deliveryTimeoutMs = Math.min(stream.producer.deliveryTimeoutMs, deadLetterTimeoutMs)
  const producer = { ...stream.producer, deliveryTimeoutMs }
  return { ...stream, ...noneOf, topic, producer }
}

/** Makes the producer of a topic for invalid events. */
export function openInvalidProducer(
  stream: StreamConfig,
  invalid: InvalidConfig,
  shared: SharedParts,
): StreamProducer {
  return new StreamProducer({
    ...shared,
    stream: invalidStream(stream, invalid),
    telemetry: untold,
    openSender: openerOf('at-least-once', shared.connections.aside),
    logsLosses: false,
  })
}

function invalidStream(stream: StreamConfig, { topic, producer }: InvalidConfig): StreamConfig {
  const promise = { delivery: 'at-least-once', exactlyOnce: false, spool: null, dedupe: null } as const
  return { ...stream, ...noneOf, ...promise, topic, producer }
}

/** What topics for dead letters and invalid events do not have. */
const noneOf = { topics: null, audit: false, deadLetterTopic: null, invalid: null } as const

/** Takes nothing. The batches of dead letters and invalid events are in no histogram. */
const untold: ProducerTelemetry = { batchWritten() {}, requestCompleted() {} }

/** Letters that cannot be written to the dead-letter topic within this time go to the file. */
const deadLetterTimeoutMs = 60_000
