import type { KafkaConfig } from '../config/config.ts'
import { kafkajsClient } from './kafkajs-client.ts'
import type { ClusterMetadata } from './producer/cluster-metadata.ts'
import type { Logger } from './producer/producer.ts'

/**
 * Creates the topics that are missing at start (`KAFKA_CREATE_TOPICS`), once each: a topic that is deleted later was
 * deleted by somebody, and a produce never creates one.
 */
export class TopicCreator {
  readonly #config: KafkaConfig
  readonly #metadata: ClusterMetadata
  readonly #logger: Logger
  /** Topics that were neither seen nor created yet. */
  readonly #pending: Set<string>
  #creating = false
  #retryTimer: NodeJS.Timeout | null = null
  #stopped = false

  constructor(options: {
    config: KafkaConfig
    metadata: ClusterMetadata
    topics: readonly string[]
    logger: Logger
  }) {
    this.#config = options.config
    this.#metadata = options.metadata
    this.#logger = options.logger
    this.#pending = new Set(options.config.topics.create ? options.topics : [])
    if (this.#pending.size > 0) this.#metadata.onChange(() => void this.#createMissing())
  }

  /** Creates nothing any more. */
  stop(): void {
    this.#stopped = true
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
  }

  async #createMissing(): Promise<void> {
    for (const topic of this.#pending)
      if (this.#metadata.topic(topic).status === 'known') this.#pending.delete(topic)
    const missing = [...this.#pending].filter(
      (topic) => this.#metadata.topic(topic).status === 'unknown_topic',
    )
    if (missing.length === 0 || this.#creating || this.#stopped || this.#retryTimer !== null) return
    this.#creating = true
    const { partitions, replicationFactor } = this.#config.topics
    const admin = kafkajsClient(this.#config).admin()
    try {
      await admin.connect()
      const settings = { numPartitions: partitions ?? -1, replicationFactor: replicationFactor ?? -1 }
      const topics = missing.map((topic) => ({ topic, ...settings }))
      await admin.createTopics({ topics, waitForLeaders: false })
      this.#logger.info({ topics: missing, ...this.#config.topics }, 'topics were created')
      this.#metadata.refresh()
    } catch (error) {
      this.#logger.warn(
        { topics: missing, cause: describe(error) },
        'topics could not be created; trying again',
      )
      this.#retryTimer = setTimeout(() => {
        this.#retryTimer = null
        void this.#createMissing()
      }, retryMs)
    } finally {
      this.#creating = false
      await admin.disconnect()
    }
  }
}

/** kafkajs wraps the reasons of several topics in one error. */
function describe(error: unknown): string {
  const { errors } = error as { errors?: Error[] }
  return errors === undefined ? (error as Error).message : errors.map((inner) => inner.message).join('; ')
}

const retryMs = 2_000
