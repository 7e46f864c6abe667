import type { KafkaConfig } from '../../config/config.ts'
import type { ConsumerDelivery } from '../../config/consumer-config.ts'
import { readConsumerOrThrow } from '../../config/consumer-settings.ts'
import { silentLogger, type Logger } from '../../logger.ts'
import type { Consumer, ConsumerTelemetry, Process } from './consumer.ts'
import { GroupConsumer } from './group-consumer.ts'

export { ConfigError } from '../../config/config.ts'
export type { ConsumerDelivery } from '../../config/consumer-config.ts'
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
  /** Kafka's settings by their own names, such as `{ 'max.poll.records': 100 }`. */
  readonly settings?: Readonly<Record<string, unknown>>
  readonly process: Process
  readonly clientId?: string
  /** PEM texts. null, or not given: the connection is plain text. */
  readonly ssl?: KafkaConfig['ssl']
  readonly sasl?: KafkaConfig['sasl']
  /** Any logger of this form, such as pino's. Not given: nothing is logged. */
  readonly logger?: Logger
  /** Is told of each commit. */
  readonly telemetry?: ConsumerTelemetry
}

/**
 * Reads a topic as a member of a consumer group, from now on until {@link Consumer.stop}. This is the library of `chute consume`:
 * `import { consume } from '@chute-gateway/chute/consumer'`.
 *
 * It returns at once. The member joins the group in the background, and keeps trying until Kafka is reached.
 * @throws ConfigError with every setting that is unknown, that is wrong, or that contradicts another one.
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
