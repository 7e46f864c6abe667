import { kafkaErrorNames } from './kafka-error-names.ts'
import { dropReasons, type DropReason } from '../producer/outcome.ts'

/**
 * Error codes of Kafka's protocol that Chute acts on (https://kafka.apache.org/protocol#protocol_error_codes,
 * `org.apache.kafka.common.protocol.Errors`).
 */
export const kafkaErrors = {
  unknownServerError: -1,
  none: 0,
  corruptMessage: 2,
  unknownTopicOrPartition: 3,
  leaderNotAvailable: 5,
  notLeaderOrFollower: 6,
  requestTimedOut: 7,
  messageTooLarge: 10,
  networkException: 13,
  invalidTopicException: 17,
  recordListTooLarge: 18,
  notEnoughReplicas: 19,
  notEnoughReplicasAfterAppend: 20,
  topicAuthorizationFailed: 29,
  groupAuthorizationFailed: 30,
  clusterAuthorizationFailed: 31,
  invalidTimestamp: 32,
  unsupportedForMessageFormat: 43,
  policyViolation: 44,
  outOfOrderSequenceNumber: 45,
  duplicateSequenceNumber: 46,
  invalidProducerEpoch: 47,
  transactionalIdAuthorizationFailed: 53,
  kafkaStorageError: 56,
  unknownProducerId: 59,
  fencedLeaderEpoch: 74,
  unknownLeaderEpoch: 75,
  invalidRecord: 87,
  producerFenced: 90,
} as const

/** The name of an error code as Kafka writes it (`MESSAGE_TOO_LARGE`), so that it can be looked up; of a code that is not known, `UNKNOWN_ERROR_<code>`. */
export function kafkaErrorName(code: number): string {
  if (code === kafkaErrors.unknownServerError) return 'UNKNOWN_SERVER_ERROR'
  return kafkaErrorNames[code] ?? `UNKNOWN_ERROR_${code}`
}

/** The broker is not, or not yet, the one to ask: metadata has to be looked up again. */
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

/** The same batch can succeed when it is sent again (`org.apache.kafka.common.errors.RetriableException`). */
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
 * The broker may have stored the batch all the same: it gave up on replicas after its own append, failed in the midst of
 * it, or never answered. Of such a batch nobody may say that it was dropped.
 */
export function mayBeStored(code: number): boolean {
  return (
    code === kafkaErrors.unknownServerError ||
    code === kafkaErrors.requestTimedOut ||
    code === kafkaErrors.networkException ||
    code === kafkaErrors.notEnoughReplicasAfterAppend ||
    code === kafkaErrors.kafkaStorageError
  )
}

/** It is the batch's content that the broker refuses, and not all of its records need be at fault. */
export function isBadContent(code: number): boolean {
  return (
    code === kafkaErrors.messageTooLarge ||
    code === kafkaErrors.recordListTooLarge ||
    code === kafkaErrors.invalidTimestamp ||
    code === kafkaErrors.invalidRecord
  )
}

/** The broker does not go by the batch's producer id, epoch or sequence: the batch needs others (KIP-360, KIP-588). */
export function isLostIdentity(code: number): boolean {
  return (
    code === kafkaErrors.outOfOrderSequenceNumber ||
    code === kafkaErrors.unknownProducerId ||
    code === kafkaErrors.invalidProducerEpoch ||
    code === kafkaErrors.producerFenced
  )
}

/** The credentials lack a right, which an operator can give them: the same batch can succeed then. */
export function isUnauthorized(code: number): boolean {
  return (
    code === kafkaErrors.topicAuthorizationFailed ||
    code === kafkaErrors.clusterAuthorizationFailed ||
    code === kafkaErrors.transactionalIdAuthorizationFailed
  )
}

/**
 * What the broker's word means for the batch's outcome: Kafka's own name in lower case where {@link dropReasons} has it, one
 * name for several errors where that is older, and `broker_rejected` for the rest.
 */
export function dropReasonOf(errorCode: number): DropReason {
  if (isUnauthorized(errorCode)) return 'not_authorized'
  switch (errorCode) {
    case kafkaErrors.recordListTooLarge:
      return 'message_too_large'
    case kafkaErrors.unknownTopicOrPartition:
      return 'unknown_topic'
    default: {
      const name = kafkaErrorName(errorCode).toLowerCase()
      return dropReasons.find((reason) => reason === name) ?? 'broker_rejected'
    }
  }
}
