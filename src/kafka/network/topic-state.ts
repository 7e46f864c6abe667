import { isStaleMetadata, kafkaErrors } from '../protocol/kafka-error.ts'
import type { ClusterView, TopicSettings } from '../protocol/requests.ts'

/** The state of a topic, as the cluster told it last. */
export interface TopicState {
  readonly status: 'unseen' | 'known' | 'unknown_topic' | 'not_authorized'
  /**
   * Node id of each partition's leader, by partition; -1 while there is none. The list gets shorter if the topic was made anew with fewer
   * partitions. It can also be shorter for a while if the broker that was asked lags behind the cluster.
   */
  readonly leaders: readonly number[]
  /** The topic's `max.message.bytes`; null until it was read. */
  readonly maxMessageBytes: number | null
  /** The topic is compacted, so it takes no record without a key. null until its `cleanup.policy` was read. */
  readonly isCompacted: boolean | null
  /** At least one partition has more than one replica. */
  readonly isReplicated: boolean
  /** The credentials may write to the topic; null: the cluster does not tell. */
  readonly mayWrite: boolean | null
  /** The topic's id. Another topic of the same name has another id. null: the brokers tell no ids. */
  readonly id: string | null
  /**
   * How many topics of this name there have been, as far as is certain. A topic with another id is another topic. Without ids, a topic is
   * another one if the name was missing in between.
   */
  readonly incarnation: number
}

/** The state of a topic that no look has told of. */
export const unknownTopic: TopicState = {
  status: 'unseen',
  leaders: [],
  maxMessageBytes: null,
  isCompacted: null,
  isReplicated: false,
  mayWrite: null,
  id: null,
  incarnation: 0,
}

/** Whether a topic is certainly another one than the topic that was known under its name. @param id the topic's id, if the broker tells it. */
export function isAnother(before: TopicState, id: string | null): boolean {
  if (before.id !== null && id !== null) return id !== before.id
  return before.status === 'unknown_topic'
}

/** The state of a topic after a look. A look that tells nothing new of it leaves it as it was. */
export function nextState(
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
  // The broker knows the topic, but not its partitions yet. The state stays as it was.
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
