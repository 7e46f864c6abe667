import { createRequire } from 'node:module'
import type * as Kafkajs from 'kafkajs'
import type { ConsumerConfig, KafkaConfig } from '../../config/config.ts'
import { allCodecs } from '../protocol/compression.ts'
import type { ConsumedRecord } from './consumer.ts'

// Node does not find these among the names that a CommonJS module exports.
const { CompressionCodecs, CompressionTypes } = createRequire(import.meta.url)('kafkajs') as typeof Kafkajs

/**
 * A consumer's settings as kafkajs names them.
 * @param mayRestart is asked when kafkajs has given up on an error that may pass, and would begin again.
 */
export function kafkajsConsumerConfig(
  config: ConsumerConfig,
  kafka: KafkaConfig,
  mayRestart: () => Promise<boolean>,
): Kafkajs.ConsumerConfig {
  return {
    groupId: config.groupId,
    sessionTimeout: config.sessionTimeoutMs,
    rebalanceTimeout: config.maxPollIntervalMs,
    heartbeatInterval: config.heartbeatIntervalMs,
    minBytes: config.fetchMinBytes,
    maxBytes: config.fetchMaxBytes,
    maxWaitTimeInMs: config.fetchMaxWaitMs,
    maxBytesPerPartition: config.maxPartitionFetchBytes,
    readUncommitted: config.isolationLevel === 'read_uncommitted',
    metadataMaxAge: kafka.metadataMaxAgeMs,
    allowAutoTopicCreation: false,
    retry: { retries: 5, restartOnFailure: mayRestart },
  }
}

/** A record of kafkajs's, without what only kafkajs needs. */
export function consumedRecord(
  topic: string,
  partition: number,
  message: Kafkajs.KafkaMessage,
): ConsumedRecord {
  return {
    topic,
    partition,
    offset: message.offset,
    timestampMs: Number(message.timestamp),
    key: message.key,
    value: message.value,
    // kafkajs's types allow for texts, which only its producer takes.
    headers: (message.headers ?? {}) as ConsumedRecord['headers'],
  }
}

/**
 * Lets kafkajs's consumer read what it cannot by itself: lz4, snappy and, where Node has it, zstd. kafkajs numbers codecs as a batch's
 * attributes do, and keeps them for the whole process. Its own gzip stays.
 */
export function registerReadCodecs(): void {
  for (const codec of allCodecs) {
    const type = codec.attribute as Kafkajs.CompressionTypes
    if (type === CompressionTypes.None || type === CompressionTypes.GZIP) continue
    const decompress = async (data: Buffer): Promise<Buffer> => await codec.decompress(data)
    CompressionCodecs[type] = () => ({ compress, decompress })
  }
}

async function compress(): Promise<Buffer> {
  throw new Error('this side only reads')
}
