/** See {@link Outcome}. */
export const outcomes = ['confirmed', 'sent', 'acked', 'suspected_lost', 'dead_lettered', 'dropped'] as const

/** What can become of an accepted record. Each gets exactly one; `account.ts` is the only place that books it. */
export type Outcome = (typeof outcomes)[number]

/**
 * Why a record was dropped: it was never written, or a broker said that it did not store it. A closed set, since it is a
 * metric label.
 */
export const dropReasons = [
  /** `delivery.timeout.ms` ran out before the record was written. */
  'expired',
  /** The buffer was full and the stream's `onBufferFull` is `drop`. */
  'buffer_full',
  /** Still unsent when the shutdown limit was reached. */
  'shutdown',
  /** The broker refused the batch with an error that has no reason of its own here: `chute_records_refused_total` has its name. */
  'broker_rejected',
  /** The record, or its batch, is larger than the broker takes (MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE). */
  'message_too_large',
  /** The topic is gone (UNKNOWN_TOPIC_OR_PARTITION). */
  'unknown_topic',
  /** The credentials may not write to the topic (TOPIC_, CLUSTER_ or TRANSACTIONAL_ID_AUTHORIZATION_FAILED). */
  'not_authorized',
  // Kafka's own names of what else a broker refuses batches with, in lower case.
  /** The timestamp is further from the broker's clock than the topic takes: one of the two clocks is wrong. */
  'invalid_timestamp',
  /** The topic does not take such a record: a compacted topic takes none without a key. */
  'invalid_record',
  /** A checksum is wrong: something between the gateway and the log changes bytes. */
  'corrupt_message',
  /** The broker, or the topic, does not know the codec. */
  'unsupported_compression_type',
  /** A policy of the broker is against it. */
  'policy_violation',
  /** Fewer replicas are in sync than `min.insync.replicas`. */
  'not_enough_replicas',
  /** Another broker leads the partition. */
  'not_leader_or_follower',
  /** It was on disk, and can't be read any more. */
  'spool_damaged',
  /** A bug or a codec failure made the batch impossible to encode. */
  'encoding',
] as const

/** See {@link dropReasons}. */
export type DropReason = (typeof dropReasons)[number]
