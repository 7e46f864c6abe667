import { CircuitBreaker } from './circuit-breaker.ts'
import { isStaleMetadata, kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
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
import type { BrokerConnection, Transport } from './transport.ts'
import type { WireRequest } from '../protocol/wire.ts'

/**
 * Knows which broker leads which partition, for all streams of a gateway, over one connection of its own. It looks again when a stream
 * finds something out of date, and every `maxAgeMs`. A topic that is gone or forbidden has a status that says so, and harms no other.
 */
export class ClusterMetadata {
  readonly #options: ClusterMetadataOptions
  readonly #brokers = new Map<number, BrokerAddress>()
  readonly #topics = new Map<string, TopicState>()
  readonly #notCreated = new Map<string, string>()
  readonly #listeners: (() => void)[] = []
  readonly #breaker = new CircuitBreaker()
  #connection: BrokerConnection | null = null
  #nextCandidate = 0
  #timer: NodeJS.Timeout | null = null
  #lookedAtMs = -Infinity
  #settingsAtMs = -Infinity
  /** Of topics that were deleted and made anew. */
  readonly #formerIds = new Set<string>()
  /** Topics whose limit may not be read. Each was logged. */
  readonly #withoutLimit = new Set<string>()
  #isLooking = false
  #isAskedMeanwhile = false
  /** A stream asked for a look: it is not only that the time for one has come. */
  #isAsked = false
  /** How many looks in a row were asked for, or were due because something is incomplete, and found nothing new. */
  #fruitless = 0
  #isStopped = false
  /** A broker was reached at least once. */
  everConnected = false
  /** Why the last look failed; null if it did not. */
  failure: string | null = null
  /** Causes that were logged before a broker was reached: each once, since brokers are tried twice a second. */
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

  /** What is known of a topic. */
  topic(name: string): TopicState {
    return this.#topics.get(name) ?? unknownTopic
  }

  /** Why a topic that is missing was not created; null where nobody tried. */
  notCreated(name: string): string | null {
    return this.#notCreated.get(name) ?? null
  }

  /** A topic that is missing could not be created. */
  setNotCreated(name: string, cause: string): void {
    this.#notCreated.set(name, cause)
  }

  /** Where a broker is, or null if it is not in the cluster. */
  broker(nodeId: number): BrokerAddress | null {
    return this.#brokers.get(nodeId) ?? null
  }

  /** The brokers that are known, for requests that every broker serves. */
  get nodeIds(): number[] {
    return [...this.#brokers.keys()]
  }

  /** Calls `listener` after every look that succeeded, whether or not something has changed. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }

  /** Looks again soon. Many calls make one look, and looks that find nothing new are ever further apart (KIP-580). */
  refresh(): void {
    if (this.#isStopped) return
    this.#isAsked = true
    if (this.#isLooking) {
      this.#isAskedMeanwhile = true
      return
    }
    this.#schedule(Math.max(0, this.#lookedAtMs + this.#pauseMs() - performance.now(), this.#breaker.waitMs))
  }

  /** As {@link refresh}, and reads the topics' settings anew: a broker has refused a batch that the known settings allow. */
  refreshSettings(): void {
    this.#settingsAtMs = -Infinity
    this.refresh()
  }

  /** Ends the connection and looks no more. */
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
      this.#notifyListeners()
    } catch (error) {
      this.#breaker.failed()
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

  /** From one look to the next, where one is wanted: `retry.backoff.ms`, doubled with each look in vain, with jitter (KIP-580). */
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

  /** A topic with a partition without a leader, or without a right, is looked at again soon. A missing topic is looked at at the usual pace. */
  #isIncomplete(): boolean {
    return [...this.#topics.values()].some(
      ({ leaders, mayWrite, status }) =>
        leaders.includes(-1) || mayWrite === false || status === 'not_authorized',
    )
  }

  async #connect(): Promise<BrokerConnection> {
    if (this.#connection?.isOpen === true && performance.now() < this.#connection.renewAtMs)
      return this.#connection
    this.#connection?.destroy(new Error('the SASL session expires'))
    this.#connection = null
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
    this.#connection = connection
    return connection
  }

  async #call(connection: BrokerConnection, request: WireRequest): Promise<Buffer> {
    return await new Promise((resolve, reject) => connection.call(request, resolve, reject))
  }

  async #lookAtTopics(connection: BrokerConnection): Promise<ClusterView> {
    const topics = [...this.#topics.keys()]
    return connection.lacks(['TopicIds']) === null
      ? decodeTopicIds(await this.#call(connection, encodeTopicIds(topics)))
      : decodeMetadata(await this.#call(connection, encodeMetadata(topics)))
  }

  /** Settings of topics change rarely: they are read for topics that are new, and every half minute. */
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
    const settings = decodeDescribeTopics(await this.#call(connection, encodeDescribeTopics(known)))
    for (const topic of known)
      if ((settings.get(topic)?.maxMessageBytes ?? null) === null) this.#logUnknownLimit(topic)
    return settings
  }

  /** @returns whether a topic is not as it was. */
  #apply(view: ClusterView, settings: Map<string, TopicSettings>): boolean {
    let isNews = false
    this.clusterId = view.clusterId
    this.#brokers.clear()
    for (const { nodeId, host, port } of view.brokers) this.#brokers.set(nodeId, { host, port })
    for (const topic of view.topics) {
      const { name, errorCode, id, mayWrite } = topic
      // This broker has not heard yet that the topic was made anew.
      if (id !== null && this.#formerIds.has(id)) continue
      const before = this.topic(name)
      if (before.id !== null && isAnother(before, id)) this.#formerIds.add(before.id)
      // A setting that the broker does not tell this time stays as it was.
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

  #notifyListeners(): void {
    for (const listener of this.#listeners) listener()
  }

  /** Once a topic: without the right to DESCRIBE_CONFIGS, nothing here can tell what the broker would refuse. */
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
  /** `metadata.max.age.ms`: short, since it is also what notices a broker that hangs. */
  readonly maxAgeMs: number
  readonly logger: Logger
}

/** Where a broker listens. */
export interface BrokerAddress {
  readonly host: string
  readonly port: number
}

/** What the cluster last said of a topic. */
export interface TopicState {
  readonly status: 'unseen' | 'known' | 'unknown_topic' | 'not_authorized'
  /**
   * Node id of each partition's leader, by partition; -1 while there is none. The list gets shorter where the topic was made anew with
   * fewer partitions, and for a while where the broker that was asked lags behind.
   */
  readonly leaders: readonly number[]
  /** The topic's `max.message.bytes`; null until it was read. */
  readonly maxMessageBytes: number | null
  /** The topic is compacted: it takes no record without a key. Null until its `cleanup.policy` was read. */
  readonly isCompacted: boolean | null
  /** Some partition has more than one replica. */
  readonly isReplicated: boolean
  /** The credentials may write to the topic, as the cluster last said; null: it does not tell. */
  readonly mayWrite: boolean | null
  /** Tells it from another topic of the same name; null where brokers do not tell it. */
  readonly id: string | null
  /**
   * How many topics of this name there were, as far as is certain. A topic is another one where its id is another; or, without ids,
   * where there was no such topic in between.
   */
  readonly incarnation: number
}

const unknownTopic: TopicState = {
  status: 'unseen',
  leaders: [],
  maxMessageBytes: null,
  isCompacted: null,
  isReplicated: false,
  mayWrite: null,
  id: null,
  incarnation: 0,
}

/** Whether a topic that is there is certainly another one than what was known. @param id what its broker tells. */
function isAnother(before: TopicState, id: string | null): boolean {
  if (before.id !== null && id !== null) return id !== before.id
  return before.status === 'unknown_topic'
}

function nextState(
  before: TopicState,
  { errorCode, partitions, id }: ClusterView['topics'][number],
  settings: TopicSettings,
): TopicState {
  if (errorCode === kafkaErrors.topicAuthorizationFailed) return { ...before, status: 'not_authorized' }
  if (errorCode === kafkaErrors.unknownTopicOrPartition || errorCode === kafkaErrors.invalidTopicException) {
    const { id: lastId, incarnation } = before
    return { ...unknownTopic, status: 'unknown_topic', id: lastId, incarnation }
  }
  if (errorCode !== kafkaErrors.none && !isStaleMetadata(errorCode)) return before
  const leaders = Array.from({ length: partitions.length }, () => -1)
  for (const { partition, leader } of partitions) if (partition < leaders.length) leaders[partition] = leader
  // The broker knows the topic, and not its partitions yet: that is no news.
  if (leaders.length === 0) return before
  const isReplicated = partitions.some(({ replicas }) => replicas > 1)
  const isNew = before.incarnation === 0 || isAnother(before, id)
  const incarnation = before.incarnation + (isNew ? 1 : 0)
  return {
    ...before,
    status: 'known',
    leaders,
    isReplicated,
    id: id ?? (isNew ? null : before.id),
    incarnation,
    ...settings,
  }
}

const stopCause = new Error('the gateway stopped')
/** `retry.backoff.ms` and `retry.backoff.max.ms` of Kafka's clients. */
const minIntervalMs = 100
const maxIntervalMs = 1_000
const settingsMaxAgeMs = 30_000
const maxLoggedCauses = 20
/** A broker that takes longer for so small a question is given up, and another one is asked. */
const requestTimeoutMs = 3_000
