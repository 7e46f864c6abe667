import { CircuitBreaker } from '../../circuit-breaker.ts'
import { kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import type { Logger } from '../../logger.ts'
import {
  decodeDescribeTopics,
  decodeMetadata,
  decodeTopicIds,
  encodeDescribeTopics,
  encodeMetadata,
  encodeTopicIds,
  type ClusterView,
  type TopicSettings,
  UnservedError,
} from '../protocol/requests.ts'
import { isAnother, nextState, type TopicState, unknownTopic } from './topic-state.ts'
import { responseTo, type BrokerConnection, type Transport } from './transport.ts'

/**
 * Knows which broker leads which partition, for all streams of a gateway. It reads metadata over one connection of its own: every
 * `maxAgeMs`, and when a stream finds that something may be out of date. One read is called a look. A topic that does not exist, or that the
 * credentials may not see, has a status that says so, and does not affect the other topics.
 */
export class ClusterMetadata {
  readonly #options: ClusterMetadataOptions
  readonly #brokers = new Map<number, BrokerAddress>()
  readonly #topics = new Map<string, TopicState>()
  readonly #notCreated = new Map<string, string>()
  /** Topics that are created if they are missing, and were not seen yet. */
  readonly #toCreate = new Set<string>()
  readonly #listeners = new Set<() => void>()
  readonly #breaker = new CircuitBreaker()
  #connection: BrokerConnection | null = null
  #nextCandidate = 0
  #timer: NodeJS.Timeout | null = null
  #lookedAtMs = -Infinity
  #settingsAtMs = -Infinity
  /** The ids of topics that were deleted and made anew under the same name. An id of another cluster is none of them. */
  readonly #formerIds = new Set<string>()
  /** Topics of which every look since then has told a former id. */
  readonly #formerToldSinceMs = new Map<string, number>()
  /** Topics whose `max.message.bytes` cannot be read. Each was logged. */
  readonly #withoutLimit = new Set<string>()
  #isLooking = false
  #isAskedMeanwhile = false
  /** {@link refresh} was called since the last look. */
  #isAsked = false
  /** Number of looks in a row that were asked for, or that followed an incomplete look, and that found nothing new. */
  #fruitless = 0
  /** Looks that somebody asked for, one after the other, and that found nothing new at this broker. */
  #askedInVain = 0
  #isStopped = false
  /** A broker was reached at least once. */
  everConnected = false
  /** Why the last look failed; null if it succeeded. */
  failure: string | null = null
  /** Causes that were logged before a broker was reached. Each is logged once, since brokers are tried more than once a second. */
  readonly #loggedCauses = new Set<string>()

  /** The name that the cluster has given itself; empty until it is known. */
  clusterId = ''

  constructor(options: ClusterMetadataOptions) {
    this.#options = options
    for (const topic of options.topics) this.#topics.set(topic, unknownTopic)
  }

  /** Starts looking, in the background. */
  start(): void {
    this.refresh()
  }

  /** The state of a topic. */
  topic(name: string): TopicState {
    return this.#topics.get(name) ?? unknownTopic
  }

  /** Why a topic that is missing was not created; null: there is nothing to say. */
  notCreated(name: string): string | null {
    return this.#notCreated.get(name) ?? null
  }

  /** Sets why a topic is not created. */
  setNotCreated(name: string, cause: string): void {
    this.#notCreated.set(name, cause)
  }

  /** The topic is created if it is missing, so that is no reason for a warning. */
  setToCreate(name: string): void {
    // One that is there may be deleted later, and nobody creates it again.
    if (this.topic(name).status !== 'known') this.#toCreate.add(name)
  }

  /** The address of a broker; null if the broker is not in the cluster. */
  broker(nodeId: number): BrokerAddress | null {
    return this.#brokers.get(nodeId) ?? null
  }

  /** The node ids of the brokers in the cluster. */
  get nodeIds(): number[] {
    return [...this.#brokers.keys()]
  }

  /**
   * Calls `listener` after every look that succeeded, whether or not something has changed. A listener that throws keeps no other from its call.
   * @returns ends the calls.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Looks at further topics from now on, and soon. */
  follow(topics: readonly string[]): void {
    const added = topics.filter((topic) => !this.#topics.has(topic))
    for (const topic of added) this.#topics.set(topic, unknownTopic)
    if (added.length === 0) return
    this.#fruitless = 0
    this.refresh()
  }

  /** Looks at topics no more. */
  forget(topics: readonly string[]): void {
    for (const topic of topics) {
      this.#topics.delete(topic)
      this.#notCreated.delete(topic)
      this.#toCreate.delete(topic)
      this.#withoutLimit.delete(topic)
      this.#formerToldSinceMs.delete(topic)
    }
  }

  /** Looks again soon. Many calls cause one look. The pause grows with each look that finds nothing new (KIP-580). */
  refresh(): void {
    if (this.#isStopped) return
    this.#isAsked = true
    if (this.#isLooking) {
      this.#isAskedMeanwhile = true
      return
    }
    this.#schedule(Math.max(0, this.#lookedAtMs + this.#pauseMs() - performance.now(), this.#breaker.waitMs))
  }

  /** As {@link refresh}, and reads the settings of topics again. To be called when a broker refuses a batch that the known settings allow. */
  refreshSettings(): void {
    this.#settingsAtMs = -Infinity
    this.refresh()
  }

  /** Ends the connection, and looks no more. */
  stop(): void {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#connection?.destroy(stopCause)
  }

  #schedule(delayMs: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#look(), delayMs)
  }

  async #look(): Promise<void> {
    this.#isLooking = true
    this.#isAskedMeanwhile = false
    const isAsked = this.#isAsked
    this.#isAsked = false
    try {
      const connection = await this.#connect()
      const view = await this.#lookAtTopics(connection)
      const settings = await this.#lookAtSettings(connection, view)
      this.#breaker.succeeded()
      this.#reached()
      const isNews = this.#apply(view, settings)
      this.#fruitless = isNews || !(isAsked || this.#isIncomplete()) ? 0 : this.#fruitless + 1
      if (isNews) this.#askedInVain = 0
      else if (isAsked || this.#lacksTopic()) this.#askedInVain++
      this.#notifyListeners()
    } catch (error) {
      this.#breaker.failed()
      this.#formerToldSinceMs.clear()
      this.#connection?.destroy(error as Error)
      this.#connection = null
      this.#failed((error as Error).message)
    } finally {
      this.#isLooking = false
      this.#lookedAtMs = performance.now()
    }
    if (this.#isStopped) return
    const incomplete = this.#breaker.failures > 0 || this.#isAskedMeanwhile || this.#isIncomplete()
    const pauseMs = incomplete ? Math.max(this.#pauseMs(), this.#breaker.waitMs) : this.#options.maxAgeMs
    this.#schedule(Math.min(pauseMs, this.#options.maxAgeMs))
  }

  /** The pause before a look that is wanted soon: `retry.backoff.ms`, doubled with each look in vain, with jitter (KIP-580). */
  #pauseMs(): number {
    const pauseMs = Math.min(minIntervalMs * 2 ** this.#fruitless, maxIntervalMs)
    return this.#fruitless === 0 ? pauseMs : pauseMs * (0.8 + 0.4 * Math.random())
  }

  #reached(): void {
    if (!this.everConnected && this.#loggedCauses.size > 0) this.#options.logger.info({}, 'Kafka was reached')
    this.everConnected = true
    this.failure = null
  }

  /** Once a broker was reached, the streams log outages (`outage-log.ts`), and this class does not. */
  #failed(cause: string): void {
    this.failure = cause
    const { logger } = this.#options
    if (this.everConnected || this.#isStopped || this.#loggedCauses.has(cause)) {
      logger.debug({ cause }, 'metadata could not be read')
    } else if (this.#loggedCauses.size < maxLoggedCauses) {
      this.#loggedCauses.add(cause)
      logger.warn({ cause }, 'Kafka was not reached; trying again')
    }
  }

  /**
   * Another look is wanted soon: a partition of a topic has no leader, or the credentials may not see a topic or write to it. A missing
   * topic can wait for the next look.
   */
  #isIncomplete(): boolean {
    return [...this.#topics.values()].some(
      ({ leaders, mayWrite, status }) =>
        leaders.includes(-1) || mayWrite === false || status === 'not_authorized',
    )
  }

  /** A topic is missing, at this broker at least. Nothing is taken for it, so nobody asks. */
  #lacksTopic(): boolean {
    return [...this.#topics.values()].some(({ status }) => status === 'unknown_topic')
  }

  async #connect(): Promise<BrokerConnection> {
    const current = this.#connection
    if (current?.isOpen !== true || performance.now() >= current.renewAtMs) {
      current?.destroy(new Error('the SASL session expires'))
      this.#connection = null
      this.#connection = await this.#connectNext()
    } else if (this.#askedInVain >= fruitlessLooks && this.#brokers.size > 1) {
      // A broker that has lost its controllers goes on to tell what it knew last. Another one may know more.
      this.#askedInVain = 0
      const other = await this.#connectNext().catch(() => null)
      if (other !== null) {
        current.destroy(new Error('another broker may know more'))
        this.#connection = other
      }
    }
    return this.#connection!
  }

  async #connectNext(): Promise<BrokerConnection> {
    const candidates = [...this.#brokers.values(), ...this.#options.bootstrap]
    const { host, port } = candidates[this.#nextCandidate++ % candidates.length]!
    const connection = await this.#options.transport
      .connect(host, port, requestTimeoutMs)
      .catch((error: Error) => {
        throw new Error(`${host}:${port}: ${error.message}`, { cause: error })
      })
    if (this.#isStopped) {
      connection.destroy(stopCause)
      throw stopCause
    }
    const lacking = connection.lacks(['Metadata'])
    if (lacking !== null) {
      connection.destroy(new Error(lacking))
      throw new UnservedError(lacking)
    }
    return connection
  }

  async #lookAtTopics(connection: BrokerConnection): Promise<ClusterView> {
    const topics = [...this.#topics.keys()]
    return connection.lacks(['TopicIds']) === null
      ? decodeTopicIds(await responseTo(connection, encodeTopicIds(topics)))
      : decodeMetadata(await responseTo(connection, encodeMetadata(topics)))
  }

  /** The settings of topics, which change rarely. They are read when a topic is new, and every half minute. Empty: they were not read now. */
  async #lookAtSettings(
    connection: BrokerConnection,
    view: ClusterView,
  ): Promise<Map<string, TopicSettings>> {
    const found = view.topics.filter((topic) => topic.errorCode === kafkaErrors.none)
    const known = found.map((topic) => topic.name)
    const isNew = found.some(
      ({ name, id }) =>
        isAnother(this.topic(name), id) ||
        (this.topic(name).maxMessageBytes === null && !this.#withoutLimit.has(name)),
    )
    if (known.length === 0 || (!isNew && performance.now() - this.#settingsAtMs < settingsMaxAgeMs))
      return new Map()
    this.#settingsAtMs = performance.now()
    const lacking = connection.lacks(['DescribeConfigs'])
    if (lacking !== null) {
      for (const topic of known) this.#logUnknownLimit(topic, lacking)
      return new Map()
    }
    const settings = decodeDescribeTopics(await responseTo(connection, encodeDescribeTopics(known)))
    for (const topic of known)
      if ((settings.get(topic)?.maxMessageBytes ?? null) === null) this.#logUnknownLimit(topic)
    return settings
  }

  /** Takes over the result of a look. @returns whether the state of a topic has changed. */
  #apply(view: ClusterView, settings: Map<string, TopicSettings>): boolean {
    let isNews = false
    const isOtherCluster = view.clusterId !== this.clusterId
    if (isOtherCluster) this.#formerIds.clear()
    this.clusterId = view.clusterId
    this.#brokers.clear()
    for (const { nodeId, host, port } of view.brokers) this.#brokers.set(nodeId, { host, port })
    for (const topic of view.topics) {
      const { name, errorCode, id, mayWrite } = topic
      // It was forgotten since the look began.
      if (!this.#topics.has(name)) continue
      if (this.#isStale(name, id)) continue
      const before = this.topic(name)
      if (id !== null) this.#formerIds.delete(id)
      if (!isOtherCluster && before.id !== null && isAnother(before, id)) this.#formerIds.add(before.id)
      // A setting that was not read now keeps its last value.
      const known = isAnother(before, id) ? unknownTopic : before
      const maxMessageBytes = settings.get(name)?.maxMessageBytes ?? known.maxMessageBytes
      const isCompacted = settings.get(name)?.isCompacted ?? known.isCompacted
      const now = { ...nextState(before, topic, { maxMessageBytes, isCompacted }), mayWrite }
      this.#topics.set(name, now)
      if (now.status !== before.status) this.#logStatus(name, now.status, errorCode)
      isNews ||=
        now.status !== before.status ||
        now.incarnation !== before.incarnation ||
        now.mayWrite !== before.mayWrite ||
        now.leaders.length !== before.leaders.length ||
        now.leaders.some((leader, partition) => leader !== before.leaders[partition])
    }
    return isNews
  }

  /**
   * The broker that was asked does not know yet that the topic was made anew. A former id that is told for longer than a broker lags behind
   * is the topic's id again, as after a cluster was restored.
   */
  #isStale(name: string, id: string | null): boolean {
    if (id === null || !this.#formerIds.has(id)) {
      this.#formerToldSinceMs.delete(name)
      return false
    }
    const sinceMs = this.#formerToldSinceMs.get(name) ?? performance.now()
    this.#formerToldSinceMs.set(name, sinceMs)
    if (performance.now() - sinceMs < lagOfMetadataMs) return true
    this.#formerToldSinceMs.delete(name)
    return false
  }

  /** An exception of a listener is a bug of ours and says nothing of the broker. It ends no look, and becomes an uncaught exception. */
  #notifyListeners(): void {
    for (const listener of this.#listeners) {
      try {
        listener()
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }

  /** Logs, once a topic, that the topic's size limit cannot be read, such as without the right to DESCRIBE_CONFIGS. */
  #logUnknownLimit(topic: string, lacking: string | null = null): void {
    if (this.#withoutLimit.has(topic)) return
    this.#withoutLimit.add(topic)
    const size = 'set max.request.size to no more than the topic takes'
    const fields =
      lacking === null
        ? { topic, remedy: `permit DESCRIBE_CONFIGS, or ${size}` }
        : { topic, cause: lacking, remedy: size }
    this.#options.logger.warn(fields, 'max.message.bytes of the topic cannot be read')
  }

  #logStatus(topic: string, status: TopicState['status'], errorCode: number): void {
    const { logger } = this.#options
    const isToCreate = this.#toCreate.delete(topic)
    if (status === 'unknown_topic' && isToCreate) return
    if (status === 'known')
      logger.info({ topic, partitions: this.topic(topic).leaders.length }, 'topic is known')
    else logger.warn({ topic, status, kafkaError: kafkaErrorName(errorCode) }, 'topic cannot be written to')
  }
}

/** See {@link ClusterMetadata}. */
export interface ClusterMetadataOptions {
  readonly transport: Transport
  readonly bootstrap: readonly BrokerAddress[]
  readonly topics: readonly string[]
  /** `metadata.max.age.ms`. It is short, since only a look notices a broker that hangs. */
  readonly maxAgeMs: number
  readonly logger: Logger
}

/** The address on which a broker listens. */
export interface BrokerAddress {
  readonly host: string
  readonly port: number
}

const stopCause = new Error('the gateway stopped')
/** `retry.backoff.ms` and `retry.backoff.max.ms` of Kafka's clients. */
const minIntervalMs = 100
const maxIntervalMs = 1_000
const settingsMaxAgeMs = 30_000
const maxLoggedCauses = 20
/** A broker of the cluster learns of a topic that was made anew in much less time than this. */
const lagOfMetadataMs = 10_000
/** After as many looks in vain, one after the other, another broker is asked. */
const fruitlessLooks = 5
/** If a broker takes longer to answer, its connection is ended, and another broker is asked. */
const requestTimeoutMs = 3_000
