import type { Admin } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { silentLogger } from '../../logger.ts'
import { isUnauthorized, kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import {
  decodeDescribeQuorum,
  decodeMetadata,
  encodeDescribeQuorum,
  encodeMetadata,
  type ClusterView,
  UnservedError,
} from '../protocol/requests.ts'
import { kafkajsClient } from './kafkajs-client.ts'
import { KafkajsTransport } from './kafkajs-transport.ts'
import { responseTo, type BrokerConnection } from './transport.ts'

/** What a cluster tells of a topic, for `chute doctor`. A gateway that runs goes by `cluster-metadata.ts` instead. */
export interface TopicFacts {
  readonly topic: string
  readonly partitions: number
  /** The fewest replicas that a partition has. */
  readonly replicas: number
  /** The fewest replicas of a partition that are in sync. */
  readonly inSync: number
  /** Settings by Kafka's names; null: the credentials may not read them (DESCRIBE_CONFIGS). */
  readonly settings: Readonly<Record<string, string>> | null
}

/** `ConfigResource.Type.TOPIC`. */
const topicResource = 2
/** Settings of topics that are read. */
const settingNames = [
  'min.insync.replicas',
  'max.message.bytes',
  'cleanup.policy',
  'retention.ms',
  'message.timestamp.before.max.ms',
  'message.timestamp.after.max.ms',
  // Kafka before 3.6 has one setting for both.
  'message.timestamp.difference.max.ms',
  'message.timestamp.type',
]

/**
 * Asks the cluster for its topics. It creates nothing.
 * @returns facts of the topics that exist, and that the credentials may see.
 * @throws Error if the cluster cannot be asked.
 */
export async function topicFacts(kafka: KafkaConfig, topics: readonly string[]): Promise<TopicFacts[]> {
  const admin = kafkajsClient(kafka).admin()
  try {
    await admin.connect()
    const seen = new Set(await admin.listTopics())
    const wanted = topics.filter((topic) => seen.has(topic))
    return await Promise.all(wanted.map(async (topic) => await factsOf(admin, topic)))
  } finally {
    await admin.disconnect()
  }
}

async function factsOf(admin: Admin, topic: string): Promise<TopicFacts> {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  const partitions = topics[0]?.partitions ?? []
  return {
    topic,
    partitions: partitions.length,
    replicas: Math.min(...partitions.map(({ replicas }) => replicas.length)),
    inSync: Math.min(...partitions.map(({ isr }) => isr.length)),
    settings: await settingsOf(admin, topic),
  }
}

async function settingsOf(admin: Admin, topic: string): Promise<Record<string, string> | null> {
  try {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: topicResource, name: topic, configNames: settingNames }],
    })
    const entries = resources[0]?.configEntries ?? []
    return Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue]))
  } catch {
    return null
  }
}

/** What a cluster tells of itself over one connection. */
export interface ClusterFacts {
  /** The brokers, with the addresses that the cluster gives to clients (`advertised.listeners`). */
  readonly brokers: ClusterView['brokers']
  /** A text says why the clock is not known. */
  readonly clock: ClusterClock | string
}

/** The clock of the cluster, compared with that of this process. */
export interface ClusterClock {
  /** The node id of the active controller, whose clock it is. */
  readonly nodeId: number
  /** The clock of this process minus that of the controller. */
  readonly aheadMs: number
  /** By how much {@link aheadMs} may be wrong: half of the time that the answer took. */
  readonly uncertainMs: number
}

/** Asks one broker for the others, and for the clock of the active controller. @throws Error if the broker does not answer. */
export async function clusterFacts(
  kafka: KafkaConfig,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<ClusterFacts> {
  const timeoutMs = kafka.connectionTimeoutMs
  const connection = await new KafkajsTransport(kafka, silentLogger).connect(host, port, timeoutMs)
  try {
    const lacking = connection.lacks(['Metadata'])
    if (lacking !== null) throw new UnservedError(lacking)
    const { brokers } = decodeMetadata(await responseTo(connection, encodeMetadata([])))
    return { brokers, clock: await clockOf(connection) }
  } finally {
    connection.destroy(new Error('it was asked'))
  }
}

/** Kafka has no other request that tells a clock. */
async function clockOf(connection: BrokerConnection): Promise<ClusterClock | string> {
  const lacking = connection.lacks(['DescribeQuorum'])
  if (lacking !== null) return lacking
  const askedAtMs = Date.now()
  const { errorCode, nodeId, nowMs } = decodeDescribeQuorum(
    await responseTo(connection, encodeDescribeQuorum()),
  )
  const uncertainMs = (Date.now() - askedAtMs) / 2
  if (nowMs !== null) return { nodeId, aheadMs: askedAtMs + uncertainMs - nowMs, uncertainMs }
  if (isUnauthorized(errorCode)) return 'DESCRIBE on the cluster is not permitted'
  return errorCode === kafkaErrors.none ? 'the answer has no time' : kafkaErrorName(errorCode)
}
