/**
 * Kafka's errors: their names, and what follows from them. To act on another error, add its name to {@link kafkaErrors}. Then add it to each
 * function below whose description is true of the error.
 */

/**
 * Kafka's own names of its error codes, by code from 0 on (`org.apache.kafka.common.protocol.Errors`, as of Kafka 4.4). A closed set, since a
 * name can be the label of a metric.
 */
const kafkaErrorNames = [
  'NONE',
  'OFFSET_OUT_OF_RANGE',
  'CORRUPT_MESSAGE',
  'UNKNOWN_TOPIC_OR_PARTITION',
  'INVALID_FETCH_SIZE',
  'LEADER_NOT_AVAILABLE',
  'NOT_LEADER_OR_FOLLOWER',
  'REQUEST_TIMED_OUT',
  'BROKER_NOT_AVAILABLE',
  'REPLICA_NOT_AVAILABLE',
  'MESSAGE_TOO_LARGE',
  'STALE_CONTROLLER_EPOCH',
  'OFFSET_METADATA_TOO_LARGE',
  'NETWORK_EXCEPTION',
  'COORDINATOR_LOAD_IN_PROGRESS',
  'COORDINATOR_NOT_AVAILABLE',
  'NOT_COORDINATOR',
  'INVALID_TOPIC_EXCEPTION',
  'RECORD_LIST_TOO_LARGE',
  'NOT_ENOUGH_REPLICAS',
  'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
  'INVALID_REQUIRED_ACKS',
  'ILLEGAL_GENERATION',
  'INCONSISTENT_GROUP_PROTOCOL',
  'INVALID_GROUP_ID',
  'UNKNOWN_MEMBER_ID',
  'INVALID_SESSION_TIMEOUT',
  'REBALANCE_IN_PROGRESS',
  'INVALID_COMMIT_OFFSET_SIZE',
  'TOPIC_AUTHORIZATION_FAILED',
  'GROUP_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
  'INVALID_TIMESTAMP',
  'UNSUPPORTED_SASL_MECHANISM',
  'ILLEGAL_SASL_STATE',
  'UNSUPPORTED_VERSION',
  'TOPIC_ALREADY_EXISTS',
  'INVALID_PARTITIONS',
  'INVALID_REPLICATION_FACTOR',
  'INVALID_REPLICA_ASSIGNMENT',
  'INVALID_CONFIG',
  'NOT_CONTROLLER',
  'INVALID_REQUEST',
  'UNSUPPORTED_FOR_MESSAGE_FORMAT',
  'POLICY_VIOLATION',
  'OUT_OF_ORDER_SEQUENCE_NUMBER',
  'DUPLICATE_SEQUENCE_NUMBER',
  'INVALID_PRODUCER_EPOCH',
  'INVALID_TXN_STATE',
  'INVALID_PRODUCER_ID_MAPPING',
  'INVALID_TRANSACTION_TIMEOUT',
  'CONCURRENT_TRANSACTIONS',
  'TRANSACTION_COORDINATOR_FENCED',
  'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
  'SECURITY_DISABLED',
  'OPERATION_NOT_ATTEMPTED',
  'KAFKA_STORAGE_ERROR',
  'LOG_DIR_NOT_FOUND',
  'SASL_AUTHENTICATION_FAILED',
  'UNKNOWN_PRODUCER_ID',
  'REASSIGNMENT_IN_PROGRESS',
  'DELEGATION_TOKEN_AUTH_DISABLED',
  'DELEGATION_TOKEN_NOT_FOUND',
  'DELEGATION_TOKEN_OWNER_MISMATCH',
  'DELEGATION_TOKEN_REQUEST_NOT_ALLOWED',
  'DELEGATION_TOKEN_AUTHORIZATION_FAILED',
  'DELEGATION_TOKEN_EXPIRED',
  'INVALID_PRINCIPAL_TYPE',
  'NON_EMPTY_GROUP',
  'GROUP_ID_NOT_FOUND',
  'FETCH_SESSION_ID_NOT_FOUND',
  'INVALID_FETCH_SESSION_EPOCH',
  'LISTENER_NOT_FOUND',
  'TOPIC_DELETION_DISABLED',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
  'UNSUPPORTED_COMPRESSION_TYPE',
  'STALE_BROKER_EPOCH',
  'OFFSET_NOT_AVAILABLE',
  'MEMBER_ID_REQUIRED',
  'PREFERRED_LEADER_NOT_AVAILABLE',
  'GROUP_MAX_SIZE_REACHED',
  'FENCED_INSTANCE_ID',
  'ELIGIBLE_LEADERS_NOT_AVAILABLE',
  'ELECTION_NOT_NEEDED',
  'NO_REASSIGNMENT_IN_PROGRESS',
  'GROUP_SUBSCRIBED_TO_TOPIC',
  'INVALID_RECORD',
  'UNSTABLE_OFFSET_COMMIT',
  'THROTTLING_QUOTA_EXCEEDED',
  'PRODUCER_FENCED',
  'RESOURCE_NOT_FOUND',
  'DUPLICATE_RESOURCE',
  'UNACCEPTABLE_CREDENTIAL',
  'INCONSISTENT_VOTER_SET',
  'INVALID_UPDATE_VERSION',
  'FEATURE_UPDATE_FAILED',
  'PRINCIPAL_DESERIALIZATION_FAILURE',
  'SNAPSHOT_NOT_FOUND',
  'POSITION_OUT_OF_RANGE',
  'UNKNOWN_TOPIC_ID',
  'DUPLICATE_BROKER_REGISTRATION',
  'BROKER_ID_NOT_REGISTERED',
  'INCONSISTENT_TOPIC_ID',
  'INCONSISTENT_CLUSTER_ID',
  'TRANSACTIONAL_ID_NOT_FOUND',
  'FETCH_SESSION_TOPIC_ID_ERROR',
  'INELIGIBLE_REPLICA',
  'NEW_LEADER_ELECTED',
  'OFFSET_MOVED_TO_TIERED_STORAGE',
  'FENCED_MEMBER_EPOCH',
  'UNRELEASED_INSTANCE_ID',
  'UNSUPPORTED_ASSIGNOR',
  'STALE_MEMBER_EPOCH',
  'MISMATCHED_ENDPOINT_TYPE',
  'UNSUPPORTED_ENDPOINT_TYPE',
  'UNKNOWN_CONTROLLER_ID',
  'UNKNOWN_SUBSCRIPTION_ID',
  'TELEMETRY_TOO_LARGE',
  'INVALID_REGISTRATION',
  'TRANSACTION_ABORTABLE',
  'INVALID_RECORD_STATE',
  'SHARE_SESSION_NOT_FOUND',
  'INVALID_SHARE_SESSION_EPOCH',
  'FENCED_STATE_EPOCH',
  'INVALID_VOTER_KEY',
  'DUPLICATE_VOTER',
  'VOTER_NOT_FOUND',
  'INVALID_REGULAR_EXPRESSION',
  'REBOOTSTRAP_REQUIRED',
  'STREAMS_INVALID_TOPOLOGY',
  'STREAMS_INVALID_TOPOLOGY_EPOCH',
  'STREAMS_TOPOLOGY_FENCED',
  'SHARE_SESSION_LIMIT_REACHED',
  'GROUP_DELETION_FAILED',
  'STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED',
  'CONTROLLER_ID_NOT_REGISTERED',
] as const

/** Kafka's name of an error. */
export type KafkaErrorName = (typeof kafkaErrorNames)[number]

function codeOf(name: KafkaErrorName): number {
  return kafkaErrorNames.indexOf(name)
}

/**
 * Error codes of Kafka's protocol that Chute acts on (https://kafka.apache.org/protocol#protocol_error_codes,
 * `org.apache.kafka.common.protocol.Errors`).
 */
export const kafkaErrors = {
  unknownServerError: -1,
  none: codeOf('NONE'),
  corruptMessage: codeOf('CORRUPT_MESSAGE'),
  unknownTopicOrPartition: codeOf('UNKNOWN_TOPIC_OR_PARTITION'),
  leaderNotAvailable: codeOf('LEADER_NOT_AVAILABLE'),
  notLeaderOrFollower: codeOf('NOT_LEADER_OR_FOLLOWER'),
  requestTimedOut: codeOf('REQUEST_TIMED_OUT'),
  messageTooLarge: codeOf('MESSAGE_TOO_LARGE'),
  networkException: codeOf('NETWORK_EXCEPTION'),
  invalidTopicException: codeOf('INVALID_TOPIC_EXCEPTION'),
  recordListTooLarge: codeOf('RECORD_LIST_TOO_LARGE'),
  notEnoughReplicas: codeOf('NOT_ENOUGH_REPLICAS'),
  notEnoughReplicasAfterAppend: codeOf('NOT_ENOUGH_REPLICAS_AFTER_APPEND'),
  topicAuthorizationFailed: codeOf('TOPIC_AUTHORIZATION_FAILED'),
  groupAuthorizationFailed: codeOf('GROUP_AUTHORIZATION_FAILED'),
  clusterAuthorizationFailed: codeOf('CLUSTER_AUTHORIZATION_FAILED'),
  invalidTimestamp: codeOf('INVALID_TIMESTAMP'),
  unsupportedForMessageFormat: codeOf('UNSUPPORTED_FOR_MESSAGE_FORMAT'),
  policyViolation: codeOf('POLICY_VIOLATION'),
  outOfOrderSequenceNumber: codeOf('OUT_OF_ORDER_SEQUENCE_NUMBER'),
  duplicateSequenceNumber: codeOf('DUPLICATE_SEQUENCE_NUMBER'),
  invalidProducerEpoch: codeOf('INVALID_PRODUCER_EPOCH'),
  transactionalIdAuthorizationFailed: codeOf('TRANSACTIONAL_ID_AUTHORIZATION_FAILED'),
  kafkaStorageError: codeOf('KAFKA_STORAGE_ERROR'),
  unknownProducerId: codeOf('UNKNOWN_PRODUCER_ID'),
  fencedLeaderEpoch: codeOf('FENCED_LEADER_EPOCH'),
  unknownLeaderEpoch: codeOf('UNKNOWN_LEADER_EPOCH'),
  invalidRecord: codeOf('INVALID_RECORD'),
  producerFenced: codeOf('PRODUCER_FENCED'),
}

/** Kafka's name of an error code (`MESSAGE_TOO_LARGE`). For a code that Chute does not know, `UNKNOWN_ERROR_<code>`. */
export function kafkaErrorName(code: number): string {
  if (code === kafkaErrors.unknownServerError) return 'UNKNOWN_SERVER_ERROR'
  return kafkaErrorNames[code] ?? `UNKNOWN_ERROR_${code}`
}

/** The broker does not lead the partition, or not yet. Metadata has to be read again. */
export function isStaleMetadata(code: number): boolean {
  return (
    code === kafkaErrors.unknownTopicOrPartition ||
    code === kafkaErrors.leaderNotAvailable ||
    code === kafkaErrors.notLeaderOrFollower ||
    code === kafkaErrors.kafkaStorageError ||
    code === kafkaErrors.fencedLeaderEpoch ||
    code === kafkaErrors.unknownLeaderEpoch
  )
}

/** The batch may succeed when it is sent again (`org.apache.kafka.common.errors.RetriableException`). */
export function isRetriable(code: number): boolean {
  return (
    isStaleMetadata(code) ||
    code === kafkaErrors.corruptMessage ||
    code === kafkaErrors.requestTimedOut ||
    code === kafkaErrors.networkException ||
    code === kafkaErrors.notEnoughReplicas ||
    code === kafkaErrors.notEnoughReplicasAfterAppend
  )
}

/**
 * The broker may have stored the batch in spite of the error: it gave up on replicas after its own append, failed during the append, or
 * never answered. With `acks=all` a leader that loses the partition while it waits for replicas says so behind its append
 * (`DelayedProduce.tryComplete`). Such a batch must not count as dropped.
 */
export function mayBeStored(code: number, acks: 0 | 1 | -1): boolean {
  return (
    (acks === -1 && code === kafkaErrors.notLeaderOrFollower) ||
    code === kafkaErrors.unknownServerError ||
    code === kafkaErrors.requestTimedOut ||
    code === kafkaErrors.networkException ||
    code === kafkaErrors.notEnoughReplicasAfterAppend ||
    code === kafkaErrors.kafkaStorageError
  )
}

/** The broker refuses the batch for its content. Some of its records may be without fault. */
export function isBadContent(code: number): boolean {
  return (
    code === kafkaErrors.messageTooLarge ||
    code === kafkaErrors.recordListTooLarge ||
    code === kafkaErrors.invalidTimestamp ||
    code === kafkaErrors.invalidRecord
  )
}

/** The broker does not accept the batch's producer id, epoch or sequence: the batch needs new ones (KIP-360, KIP-588). */
export function isLostIdentity(code: number): boolean {
  return (
    code === kafkaErrors.outOfOrderSequenceNumber ||
    code === kafkaErrors.unknownProducerId ||
    code === kafkaErrors.invalidProducerEpoch ||
    code === kafkaErrors.producerFenced
  )
}

/** The credentials lack a right. When an operator has given the right, the same batch can succeed. */
export function isUnauthorized(code: number): boolean {
  return (
    code === kafkaErrors.topicAuthorizationFailed ||
    code === kafkaErrors.clusterAuthorizationFailed ||
    code === kafkaErrors.transactionalIdAuthorizationFailed
  )
}
