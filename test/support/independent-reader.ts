import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { Kafka, logLevel, type Admin, type Batch } from 'kafkajs'
import { registerCodecs } from './kafka-codecs.ts'

/** A record as a consumer gets it. */
export interface ReadRecord {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: Buffer
  readonly timestampMs: number
  readonly headers: Readonly<Record<string, Buffer | readonly Buffer[]>>
}

registerCodecs()

/** kafkajs's public client for tests: quiet, and patient with a broker that has just come back. `host:port`, by comma. */
export function testClient(broker: string): Kafka {
  return new Kafka({
    clientId: 'test',
    brokers: broker.split(','),
    logLevel: logLevel.NOTHING,
    // A second, kafkajs's own limit, is little on a machine that starts brokers and gateways at the same time.
    connectionTimeout: 20_000,
    retry: { retries: 20 },
  })
}

/** Where each partition of a topic ends now. */
export async function endOffsets(broker: string, topic: string): Promise<Map<number, number>> {
  const admin = testClient(broker).admin()
  await admin.connect()
  try {
    const offsets = await fetchOffsets(admin, topic)
    return new Map(offsets.map(({ partition, high }) => [partition, Number(high)]))
  } finally {
    await admin.disconnect()
  }
}

/** Reads a whole topic as {@link eachRecord} does, into memory. */
export async function readTopic(broker: string, topic: string): Promise<ReadRecord[]> {
  const records: ReadRecord[] = []
  await eachRecord(broker, topic, (record) => records.push(record))
  return records
}

/**
 * Reads a whole topic with kafkajs's consumer, which shares no code with what wrote it: every record up to where the
 * partitions end at the time of the call, in the order of each partition.
 */
export async function eachRecord(
  broker: string,
  topic: string,
  onRecord: (record: ReadRecord) => void,
): Promise<void> {
  const ends = await endOffsets(broker, topic)
  const open = new Map([...ends].filter(([, end]) => end > 0))
  if (open.size === 0) return
  const next = new Map<number, number>()
  const consumer = testClient(broker).consumer({ groupId: `reader-${randomUUID()}`, maxWaitTimeInMs: 100 })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      consumer.on('consumer.crash', ({ payload }) => {
        // A broker that has just started loads its groups; the consumer comes back, and begins anew.
        if (!payload.restart) reject(payload.error)
      })
      const eachBatch = async ({ batch }: { batch: Batch }): Promise<void> => {
        const { partition } = batch
        for (const { offset, key, value, timestamp, headers } of batch.messages) {
          if (Number(offset) >= (ends.get(partition) ?? 0)) break
          if (Number(offset) < (next.get(partition) ?? 0)) continue
          next.set(partition, Number(offset) + 1)
          onRecord({
            partition,
            offset: Number(offset),
            key: key?.toString() ?? null,
            value: value ?? Buffer.alloc(0),
            timestampMs: Number(timestamp),
            headers: (headers ?? {}) as ReadRecord['headers'],
          })
        }
        if (Number(batch.lastOffset()) + 1 >= (open.get(partition) ?? Infinity)) open.delete(partition)
        if (open.size === 0) resolve()
      }
      consumer.run({ autoCommit: false, eachBatch }).catch(reject)
    })
  } finally {
    await consumer.disconnect()
  }
}

/** Creates a topic and waits until it has leaders. */
export async function createTopic(
  broker: string,
  topic: string,
  options: { partitions?: number; replicationFactor?: number; config?: Record<string, string> } = {},
): Promise<void> {
  const { partitions = 3, replicationFactor = 1, config = {} } = options
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const admin = testClient(broker).admin()
  await admin.connect()
  try {
    const topics = [{ topic, numPartitions: partitions, replicationFactor, configEntries }]
    await admin.createTopics({ topics, waitForLeaders: false })
    while (!(await hasLeaders(admin, topic, partitions))) await pause(20)
  } finally {
    await admin.disconnect()
  }
}

/** Changes settings of a topic, and waits until its leader goes by them. */
export async function alterTopic(
  broker: string,
  topic: string,
  settings: Readonly<Record<string, string>>,
): Promise<void> {
  const admin = testClient(broker).admin()
  await admin.connect()
  try {
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
    await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries }] })
    for (;;) {
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: 2, name: topic, configNames: Object.keys(settings) }],
      })
      const now = resources[0]!.configEntries
      if (now.every(({ configName, configValue }) => settings[configName] === configValue)) return
    }
  } finally {
    await admin.disconnect()
  }
}

/** Partitions of a topic that has just been made come online one by one; kafkajs gives up at the first that is not. */
async function fetchOffsets(admin: Admin, topic: string): ReturnType<Admin['fetchTopicOffsets']> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await admin.fetchTopicOffsets(topic)
    } catch (error) {
      if (attempt === 100 || (error as { retriable?: boolean }).retriable !== true) throw error
      await pause(50)
    }
  }
}

/** kafkajs's own wait for leaders fails where a broker does not know the new topic yet. */
async function hasLeaders(admin: Admin, topic: string, count: number): Promise<boolean> {
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    const { partitions } = topics[0]!
    return partitions.length === count && partitions.every(({ leader }) => leader >= 0)
  } catch (error) {
    const { type, retriable } = error as { type?: string; retriable?: boolean }
    if (type === 'UNKNOWN_TOPIC_OR_PARTITION' || retriable === true) return false
    throw error
  }
}
