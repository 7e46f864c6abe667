import { randomUUID } from 'node:crypto'
import { expect, onTestFinished } from 'vitest'
import type { KafkaConfig } from '../../src/config/config.ts'
import { kafkaErrors } from '../../src/kafka/protocol/kafka-error.ts'
import { ProducerBatch } from '../../src/kafka/producer/producer-batch.ts'
import {
  decodeInitProducerId,
  decodeListOffsets,
  decodeMetadata,
  decodeProduce,
  encodeInitProducerId,
  encodeListOffsets,
  encodeMetadata,
  encodeProduce,
  type PartitionOffset,
  type ProducerIdentity,
  type ProduceResult,
} from '../../src/kafka/protocol/requests.ts'
import { KafkajsTransport } from '../../src/kafka/network/kafkajs-transport.ts'
import type { BrokerConnection } from '../../src/kafka/network/transport.ts'
import type { WireRequest } from '../../src/kafka/protocol/wire.ts'
import { createTopic } from './independent-reader.ts'
import { LogKeeper } from './producer-fixture.ts'
import { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'

function kafkaConfig(broker: string, overrides: Partial<KafkaConfig> = {}): KafkaConfig {
  return {
    brokers: [broker],
    clientId: 'contract',
    ssl: null,
    sasl: null,
    connectionTimeoutMs: 3_000,
    topics: { create: false, partitions: 1, replicationFactor: 1 },
    metadataMaxAgeMs: 5_000,
    ...overrides,
  }
}

/** A connection of the real transport, until the test is over. */
export async function connect(
  broker: string,
  overrides: Partial<KafkaConfig> = {},
): Promise<BrokerConnection> {
  const [host, port] = broker.split(':') as [string, string]
  const transport = new KafkajsTransport(kafkaConfig(broker, overrides), new LogKeeper())
  const connection = await transport.connect(host, Number(port), 10_000)
  onTestFinished(() => connection.destroy(new Error('the test is over')))
  return connection
}

/** Sends a request and gives its answer. */
export async function call(connection: BrokerConnection, request: WireRequest): Promise<Buffer> {
  return await new Promise((resolve, reject) => connection.call(request, resolve, reject))
}

/** Resolves with the cause when the connection ends. */
export async function closed(connection: BrokerConnection): Promise<Error> {
  return await new Promise((resolve) => connection.onClose(resolve))
}

/** A batch of `count` records, one for partition 0 unless said otherwise. */
export function batchOf(
  value: string,
  options: { count?: number; timestampMs?: number; partition?: number } = {},
): ProducerBatch {
  const { count = 1, timestampMs = Date.now(), partition = 0 } = options
  const body = Buffer.from(value)
  const batch = new ProducerBatch(partition, 0, Buffer.allocUnsafe(1024), () => {})
  for (let i = 0; i < count; i++) batch.append(RecordBytes.of(body, null, timestampMs), 1 << 26)
  batch.close()
  return batch
}

/** Writes a batch with acks=0. */
export function write(connection: BrokerConnection, topic: string, batch: ProducerBatch): void {
  connection.send(encodeProduce(topic, 0, 10_000, [batch]), () => {})
}

/** Writes a batch and gives what the broker says of it. */
export async function produce(
  connection: BrokerConnection,
  topic: string,
  batch: ProducerBatch,
  acks: 1 | -1 = 1,
): Promise<ProduceResult> {
  const payload = await call(connection, encodeProduce(topic, acks, 10_000, [batch]))
  return decodeProduce(payload).results[0]!
}

/** Where a partition ends. */
export async function logEnd(
  connection: BrokerConnection,
  topic: string,
  end: 'log_end' | 'high_watermark' = 'high_watermark',
  partition = 0,
): Promise<PartitionOffset> {
  return decodeListOffsets(await call(connection, encodeListOffsets(topic, [partition], end)))[0]!
}

/** A broker that has just started has no ids for a while. */
export async function newIdentity(connection: BrokerConnection): Promise<ProducerIdentity> {
  let identity: ProducerIdentity | null = null
  const ask = async (): Promise<number> => {
    identity = decodeInitProducerId(await call(connection, encodeInitProducerId()))
    return identity.errorCode
  }
  await expect.poll(ask, { timeout: 30_000 }).toBe(kafkaErrors.none)
  return identity!
}

/** A topic of the test's own, with one partition unless said otherwise, and leaders that answer. */
export async function topicOn(
  broker: string,
  options: Parameters<typeof createTopic>[2] = {},
): Promise<string> {
  const topic = `contract-${randomUUID()}`
  await createTopic(broker, topic, { partitions: 1, ...options })
  if (options.replicationFactor !== undefined) return topic
  // That it has leaders is not to say that they know.
  const connection = await connect(broker)
  for (let partition = 0; partition < (options.partitions ?? 1); partition++) {
    const probe = async (): Promise<number> =>
      (await logEnd(connection, topic, 'high_watermark', partition)).errorCode
    await expect.poll(probe, { timeout: 30_000 }).toBe(kafkaErrors.none)
  }
  return topic
}

/** Error code and leader of each topic's first partition, as one broker sees them. */
export async function topicStates(
  connection: BrokerConnection,
  topics: readonly string[],
): Promise<Record<string, { errorCode: number; leader: number }>> {
  const view = decodeMetadata(await call(connection, encodeMetadata(topics)))
  return Object.fromEntries(
    view.topics.map(({ name, errorCode, partitions }) => [
      name,
      { errorCode, leader: partitions[0]?.leader ?? -1 },
    ]),
  )
}
