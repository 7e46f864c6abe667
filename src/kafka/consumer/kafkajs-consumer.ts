import { createRequire } from 'node:module'
import type * as Kafkajs from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { isolationLevels, type ConsumerConfig } from '../../config/consumer-config.ts'
import { allCodecs } from '../protocol/compression.ts'
import type { ConsumedRecord } from './consumer.ts'
import { readPastEmptyBatches } from './kafkajs-empty-batches.ts'

// kafkajs is a CommonJS module, and Node does not find these names among its exports.
const { CompressionCodecs, CompressionTypes } = createRequire(import.meta.url)('kafkajs') as typeof Kafkajs

/**
 * A consumer's settings under kafkajs's names.
 * @param mayRestart kafkajs has given up after a retriable error, and asks whether it may begin again.
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
    readUncommitted: isolationLevels[config.isolationLevel].readUncommitted,
    metadataMaxAge: kafka.metadataMaxAgeMs,
    allowAutoTopicCreation: false,
    retry: { retries: 5, restartOnFailure: mayRestart },
  }
}

/** A record of kafkajs, without the fields that only kafkajs needs. */
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
    headers: headersOf(message.headers),
  }
}

/** The epoch of the leader that wrote a record (KIP-101). kafkajs keeps it, and its types leave it out. -1: the broker does not tell it. */
export function leaderEpochOf(message: Kafkajs.KafkaMessage): number {
  const { batchContext } = message as { batchContext?: { partitionLeaderEpoch?: number } }
  return batchContext?.partitionLeaderEpoch ?? -1
}

/** Kafka allows null as the value of a header. It is an empty value here, as where Chute writes one. */
function headersOf(headers: object | undefined): ConsumedRecord['headers'] {
  const entries = Object.entries(headers ?? {})
  return Object.fromEntries(entries.map(([name, value]) => [name, headerValue(value)]))
}

function headerValue(value: unknown): Buffer | readonly Buffer[] {
  if (!Array.isArray(value)) return Buffer.isBuffer(value) ? value : noBytes
  // For a name such as `constructor`, kafkajs takes what every object has under it for a first value.
  const values = value.flatMap((each: unknown) => {
    if (each === null) return [noBytes]
    return Buffer.isBuffer(each) ? [each] : []
  })
  return values.length === 1 ? values[0]! : values
}

const noBytes = Buffer.alloc(0)

/**
 * Gives kafkajs's consumer what it lacks to read any topic, for the whole process: the codecs, and the way past batches without records. kafkajs numbers
 * codecs as the attributes of a batch do. It keeps its own gzip.
 */
export function prepareReading(): void {
  readPastEmptyBatches()
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
