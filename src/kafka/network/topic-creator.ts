import type { KafkaConfig, KafkaCredentials } from '../../config/config.ts'
import { describeFailure } from './describe-failure.ts'
import { kafkajsClient } from './kafkajs-client.ts'
import type { ClusterMetadata } from './cluster-metadata.ts'
import type { Logger } from '../../logger.ts'

/**
 * Creates the topics that are missing at the start (`KAFKA_CREATE_TOPICS`), each of them once. A topic that is deleted later is not created
 * again, since somebody has deleted it. Writing never creates a topic. The reason why a topic is missing goes to `ClusterMetadata`, for
 * `/readyz`, and each reason is logged once.
 */
export class TopicCreator {
  #config: KafkaConfig
  readonly #metadata: ClusterMetadata
  readonly #logger: Logger
  /** Topics that were neither seen nor created yet. */
  readonly #pending = new Set<string>()
  readonly #loggedCauses = new Set<string>()
  #failures = 0
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
    this.add(options.topics, options.config.topics.create)
  }

  /** Creates further topics too, where they are missing. @param create false: they are only waited for. */
  add(topics: readonly string[], create: boolean): void {
    for (const topic of topics) {
      if (create) {
        this.#pending.add(topic)
        this.#metadata.setToCreate(topic)
      } else this.#metadata.setNotCreated(topic, adviceToCreate)
    }
    if (this.#pending.size > 0) this.#metadata.onChange(this.#createMissing)
  }

  /** Creates topics no more that nobody writes to. */
  forget(topics: readonly string[]): void {
    for (const topic of topics) this.#pending.delete(topic)
  }

  /** As `KafkajsTransport.renew`. */
  renew(renewed: Partial<KafkaCredentials>): void {
    this.#config = { ...this.#config, ...renewed }
  }

  /** Creates nothing any more. */
  stop(): void {
    this.#stopped = true
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
  }

  /** One function, so that it is registered once. */
  readonly #createMissing = (): void => void this.#create()

  async #create(): Promise<void> {
    for (const topic of this.#pending)
      if (this.#metadata.topic(topic).status === 'known') {
        this.#pending.delete(topic)
        this.#metadata.setNotCreated(
          topic,
          'it was there, and a topic is created at the start only: create it again, or restart one gateway',
        )
      }
    const missing = [...this.#pending].filter(
      (topic) => this.#metadata.topic(topic).status === 'unknown_topic',
    )
    if (missing.length === 0 || this.#creating || this.#stopped || this.#retryTimer !== null) return
    this.#creating = true
    const causes = await createTopics(this.#config, missing, { validateOnly: false })
    this.#creating = false
    if (causes.size > 0) {
      this.#failed(missing, causes)
      return
    }
    this.#logger.info({ topics: missing, ...this.#config.topics }, 'topics were created')
    this.#metadata.refresh()
  }

  /** @param causes why topics were not created, by topic. The cause under the empty name holds for all topics. */
  #failed(missing: readonly string[], causes: ReadonlyMap<string, string>): void {
    for (const topic of missing) {
      const cause = causes.get(topic) ?? causes.get('')
      if (cause === undefined) continue
      this.#metadata.setNotCreated(topic, `it could not be created: ${cause}`)
      const isLogged = this.#loggedCauses.has(`${topic} ${cause}`)
      this.#loggedCauses.add(`${topic} ${cause}`)
      if (isLogged) this.#logger.debug({ topic, cause }, 'the topic could still not be created')
      else this.#logger.warn({ topic, cause }, 'the topic could not be created; trying again')
    }
    const pauseMs = Math.min(firstRetryMs * 2 ** this.#failures++, maxRetryMs)
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = null
      this.#createMissing()
    }, pauseMs)
  }
}

/**
 * Creates topics with the settings of `KAFKA_TOPIC_…`.
 * @param options.validateOnly asks the broker whether it would create the topics, and creates none.
 * @returns why topics were not created, by topic, in words that say what to do. The cause under the empty name holds for all topics. Empty:
 * all topics were created.
 */
export async function createTopics(
  config: KafkaConfig,
  names: readonly string[],
  { validateOnly }: { validateOnly: boolean },
): Promise<Map<string, string>> {
  const { partitions, replicationFactor } = config.topics
  const admin = kafkajsClient(config).admin()
  try {
    await admin.connect()
    const settings = { numPartitions: partitions ?? -1, replicationFactor: replicationFactor ?? -1 }
    const topics = names.map((topic) => ({ topic, ...settings }))
    await admin.createTopics({ topics, waitForLeaders: false, validateOnly })
    return new Map()
  } catch (error) {
    return causesOf(error, config)
  } finally {
    await admin.disconnect()
  }
}

/** See {@link createTopics}. */
function causesOf(error: unknown, kafka: KafkaConfig): Map<string, string> {
  const { errors } = error as { errors?: (Error & { type?: string; topic?: string })[] }
  if (errors === undefined) return new Map([['', describeFailure(error, { kafka })]])
  return new Map(
    errors.map((inner) => {
      const { type, topic = '', message } = inner
      if (type === 'TOPIC_AUTHORIZATION_FAILED' || type === 'CLUSTER_AUTHORIZATION_FAILED')
        return [
          topic,
          `CREATE on topic ${topic}, or on the cluster, is not permitted (${type}); permit it, or create the topic and set KAFKA_CREATE_TOPICS=false`,
        ]
      return [topic, type === undefined ? message : `${message} (${type})`]
    }),
  )
}

const adviceToCreate = 'create it, or set KAFKA_CREATE_TOPICS=true'
const firstRetryMs = 2_000
/** Longest pause between two tries, and so the longest wait after an operator has given the right. */
const maxRetryMs = 10_000
