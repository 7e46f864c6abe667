import type { StreamConfig } from '../../config/config.ts'
import type { Logger } from '../../logger.ts'
import type { ClusterMetadata } from '../network/cluster-metadata.ts'
import type { TopicState } from '../network/topic-state.ts'
import { AuthenticationError } from '../network/transport.ts'
import { WriteRights } from '../network/write-rights.ts'
import { kafkaErrors } from '../protocol/kafka-error.ts'
import { recordBatchHeaderBytes } from '../protocol/record-batch.ts'
import { UnservedError } from '../protocol/requests.ts'
import { recordSizeUpperBound, type Obstacle, type TopicAdmission } from './producer.ts'

/**
 * Follows the topic of one stream: its metadata, the rights of the credentials, and whether a leader was reached. It says whether records
 * are taken, why not, how large they may be, and how many partitions there are.
 */
export class TopicFollower {
  /** The rights of the credentials. The sender asks brokers for them and passes on the answers. */
  readonly rights: WriteRights
  /** See `Producer.maxRecordBytes`. */
  maxRecordBytes: number
  /** See `Producer.needsKey`. */
  needsKey = false
  readonly #options: TopicFollowerOptions
  readonly #unfollow: () => void
  #topic: TopicState
  #isEverKnown = false
  /** A leader of the topic was reached since the start. */
  #isEverReached = false
  /** Why no leader is connected; null while one is connected, or before the first try. */
  #failure: Error | null = null
  #isEverOpen = false
  /** The summary of the obstacle that was logged last; null: the last line said that events are taken again, or there was none. */
  #loggedObstacle: string | null = null
  #fewerPartitionsSinceMs: number | null = null
  /** The incarnation of the topic whose partitions were counted last. */
  #incarnation = 0

  constructor(options: TopicFollowerOptions) {
    this.#options = options
    const { stream, metadata, headerBytes, onReady } = options
    this.rights = new WriteRights(stream.topic, onReady, stream.producer.enableIdempotence)
    this.#topic = metadata.topic(stream.topic)
    this.maxRecordBytes = stream.producer.maxRequestSizeBytes - recordSizeUpperBound(0, 0, headerBytes)
    this.#unfollow = metadata.onChange(() => this.follow())
  }

  /** Follows the topic no more. */
  stop(): void {
    this.#unfollow()
  }

  /** Metadata had the topic with all of its partitions at least once since the start. */
  get isEverKnown(): boolean {
    return this.#isEverKnown
  }

  /** Whether records can be appended; see `Producer.admission`. */
  get admission(): TopicAdmission {
    if (this.#topic.status === 'unknown_topic') return 'unknown_topic'
    if (this.rights.missing !== null) return 'not_authorized'
    if (!this.#isEverKnown) return 'not_known_yet'
    if (this.#failure instanceof AuthenticationError) return 'not_authorized'
    if (!this.#isEverReached) return 'no_leader_yet'
    if (!this.rights.isKnown) return 'not_known_yet'
    return 'open'
  }

  /** Records could be appended at some time since the start. */
  get wasOpen(): boolean {
    return this.#isEverOpen || this.admission === 'open'
  }

  /** The error with which Kafka refuses records until an operator has mended its cause; null: none. */
  get heldFor(): number | null {
    if (this.#topic.status === 'unknown_topic') return kafkaErrors.unknownTopicOrPartition
    return this.rights.missing?.errorCode ?? null
  }

  /** Why Kafka does not take records; null while it does. */
  get obstacle(): Obstacle | null {
    const { stream, metadata } = this.#options
    const { topic } = stream
    switch (this.admission) {
      case 'open':
        return null
      case 'unknown_topic':
        return { summary: `topic ${topic} does not exist`, cause: metadata.notCreated(topic) }
      case 'not_authorized':
        return this.#missingRight()
      case 'no_leader_yet':
        return {
          summary: `no leader of topic ${topic} was reached yet`,
          cause: describeUnreached(this.#failure),
        }
      case 'not_known_yet':
        if (!metadata.everConnected) return { summary: 'Kafka was not reached yet', cause: metadata.failure }
        return { summary: `topic ${topic} ${saidOf[this.#topic.status]}`, cause: null }
    }
  }

  /** A connection to a leader is open (null), or the last connection ended or could not be made (its failure). */
  connected(failure: Error | null): void {
    this.#isEverReached ||= failure === null
    this.#failure = failure
  }

  /** Takes over what metadata says of the topic now. The owner calls it once, when its callbacks may be called. Later changes call it again. */
  follow(): void {
    const { stream, metadata, headerBytes, onBatchSizeLimit } = this.#options
    const { producer, topic } = stream
    this.#topic = metadata.topic(topic)
    const { leaders, maxMessageBytes, isCompacted, status, incarnation } = this.#topic
    if (status === 'known') this.rights.metadataSays(this.#topic.mayWrite)
    // Kafka shows a topic to credentials that may write to it. So credentials that may not see the topic may not write to it.
    else if (status === 'not_authorized') this.rights.metadataSays(false)
    this.needsKey = isCompacted === true
    // The topic's limit (`max.message.bytes`) is for a whole batch with its header.
    const limitBytes = Math.min(producer.maxRequestSizeBytes, maxMessageBytes ?? Infinity)
    this.maxRecordBytes = Math.max(0, limitBytes - recordSizeUpperBound(0, 0, headerBytes))
    onBatchSizeLimit(Math.max(recordBatchHeaderBytes, Math.min(producer.batchSizeBytes, limitBytes)))
    if (status !== 'known' || leaders.length === 0) return
    this.#isEverKnown = true
    this.#followPartitions(leaders.length, incarnation)
  }

  /**
   * Is called every second. Writes one log line when a right or a leader is missing, and one when events are taken again.
   * `cluster-metadata.ts` logs the other obstacles.
   */
  everySecond(): void {
    const { admission, obstacle } = this
    this.#isEverOpen ||= admission === 'open'
    const isLoggedHere =
      (admission === 'no_leader_yet' && !(this.#failure instanceof UnservedError)) ||
      (admission === 'not_authorized' && this.#topic.status === 'known')
    const summary = isLoggedHere ? obstacle!.summary : null
    if (summary === this.#loggedObstacle || (summary !== null && obstacle!.cause === null)) return
    if (summary === null && admission !== 'open') return
    this.#loggedObstacle = summary
    const { stream: config, logger } = this.#options
    const { name: stream, topic } = config
    const fields = { stream, topic, obstacle: summary, cause: obstacle?.cause ?? null }
    if (summary === null) logger.info({ stream, topic }, 'events of the stream are taken again')
    else logger.warn(fields, `events of the stream are refused: ${summary}`)
  }

  #missingRight(): Obstacle {
    const { missing } = this.rights
    if (missing === null)
      return { summary: 'Kafka does not accept the credentials', cause: this.#failure?.message ?? null }
    const doubt = this.#topic.status === 'known' ? '' : ', or there is no such topic'
    return {
      summary: `${missing.right} is not permitted${doubt}`,
      cause: `${missing.kafkaError}; ${adviceOnRights}`,
    }
  }

  /**
   * Kafka adds partitions and never removes one. If there are fewer partitions than before, either the topic was made anew, or the broker
   * that was asked lags behind the cluster. Another incarnation proves that the topic was made anew. Without that proof the smaller number
   * counts once it has lasted for a while.
   */
  #followPartitions(count: number, incarnation: number): void {
    const { partitionCount: before, onPartitions, onMadeAnew } = this.#options
    const isAnother = incarnation !== this.#incarnation
    if (isAnother && this.#incarnation > 0) onMadeAnew()
    this.#incarnation = incarnation
    if (count < before() && !isAnother) {
      this.#fewerPartitionsSinceMs ??= performance.now()
      if (performance.now() - this.#fewerPartitionsSinceMs < lagOfMetadataMs) return
    }
    this.#fewerPartitionsSinceMs = null
    if (count !== before()) onPartitions(count)
  }
}

/** See {@link TopicFollower}. */
export interface TopicFollowerOptions {
  readonly stream: StreamConfig
  readonly metadata: ClusterMetadata
  readonly logger: Logger
  /** Bytes of the headers that each record gets. */
  readonly headerBytes: number
  /** Number of partitions to which records are appended now. */
  readonly partitionCount: () => number
  /** Something that kept batches from being written is gone. */
  readonly onReady: () => void
  /** From now on no batch may be larger than this. */
  readonly onBatchSizeLimit: (bytes: number) => void
  /** There is another topic of the name. */
  readonly onMadeAnew: () => void
  /** The topic has another number of partitions. */
  readonly onPartitions: (count: number) => void
}

const saidOf: Record<TopicState['status'], string> = {
  unseen: 'was not seen yet',
  known: 'has no partition whose leader told yet what may be written',
  unknown_topic: 'does not exist',
  not_authorized: 'may not be seen with these credentials',
}

/** Why no broker is connected, and where to look. A broker that is too old was reached, so its addresses are not to blame. */
function describeUnreached(failure: Error | null): string | null {
  if (failure === null) return null
  return failure instanceof UnservedError ? failure.message : `${failure.message}; ${adviceOnListeners}`
}

const adviceOnRights = "permit it to the gateway's principal with an ACL (or a role of your provider)"

const adviceOnListeners =
  'that is where the brokers say that they listen: see their advertised.listeners, and what is between'

/** A broker of the cluster learns of a new partition in much less time than this. */
const lagOfMetadataMs = 10_000
