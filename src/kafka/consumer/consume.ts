import type { ConsumerDelivery, KafkaConfig } from '../../config/config.ts'
import { readConsumerOrThrow } from '../../config/consumer-settings.ts'
import { silentLogger, type Logger } from '../../logger.ts'
import type { Consumer, ConsumerTelemetry, Process } from './consumer.ts'
import { GroupConsumer } from './group-consumer.ts'

export { ConfigError, type ConsumerDelivery } from '../../config/config.ts'
export type { Logger } from '../../logger.ts'
export type {
  Consumer,
  ConsumerStats,
  ConsumerTelemetry,
  Process,
  ProcessContext,
  ConsumedRecord,
} from './consumer.ts'

/** See {@link consume}. */
export interface ConsumeOptions {
  /** `host:port` of one broker or more. */
  readonly brokers: readonly string[]
  readonly topic: string
  readonly group: string
  /** `at-most-once` unless given. */
  readonly delivery?: ConsumerDelivery
  /** Kafka's settings by their own names: `{ 'max.poll.records': 100 }`. */
  readonly settings?: Readonly<Record<string, unknown>>
  readonly process: Process
  readonly clientId?: string
  /** null unless given: plain text. PEM texts. */
  readonly ssl?: KafkaConfig['ssl']
  readonly sasl?: KafkaConfig['sasl']
  /** pino's loggers fit. Nothing is logged unless given. */
  readonly logger?: Logger
  /** Told of each commit. */
  readonly telemetry?: ConsumerTelemetry
}

/**
 * Reads a topic as a member of a consumer group, from now on until {@link Consumer.stop}. What `chute consume` is made of,
 * as a function: `import { consume } from 'chute/consumer'`.
 *
 * It returns at once and joins the group in the background, for as long as it takes to reach Kafka.
 * @throws ConfigError with every setting that is unknown, wrong, or contradicts another.
 */
export function consume(options: ConsumeOptions): Consumer {
  const { topic, group, delivery, settings = {} } = options
  const consumer = readConsumerOrThrow({
    topic,
    group,
    delivery,
    settings,
    at: (key) => `settings['${key}']`,
    names: { topic: 'topic', group: 'group', delivery: 'delivery' },
  })
  const kafka: KafkaConfig = {
    brokers: options.brokers,
    clientId: options.clientId ?? 'chute',
    ssl: options.ssl ?? null,
    sasl: options.sasl ?? null,
    connectionTimeoutMs: 3_000,
    topics: { create: false, partitions: null, replicationFactor: null },
    metadataMaxAgeMs: 5_000,
  }
  const member = new GroupConsumer({
    kafka,
    consumer,
    process: options.process,
    logger: options.logger ?? silentLogger,
    telemetry: options.telemetry ?? { committed() {} },
  })
  member.start()
  return member
}
