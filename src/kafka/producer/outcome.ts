import type { ProducerConfig } from '../../config/config.ts'
import { kafkaErrorName, type KafkaErrorName } from '../protocol/kafka-error.ts'

/** What is true of a record with an outcome. */
interface OutcomeTraits {
  /** The field of the account, and of `ProducerStats`, that counts the records. */
  readonly field: string
  /** The record is where the stream's delivery promises to bring it, as far as can be known. */
  readonly isDelivered: boolean
  /** Neither Kafka nor a dead-letter place has the record: who sends it again makes no second one. */
  readonly isGone: boolean
  /** Whether the topic has the record: what an audit of the topic has to find. */
  readonly inTopic: 'yes' | 'maybe' | 'no'
  /** The record is lost, as far as can be known: a dead letter is not. */
  readonly isLoss: boolean
  /** The record was written, and the producer learned, or waited to learn, what became of it: `chute_loss_ratio{source="barrier"}`. */
  readonly isJudged: boolean
  /** The producer saw an error: `record-error-total`. */
  readonly isError: boolean
  /** The producer saw the write fail, and did not only doubt it. */
  readonly isLocalError: boolean
}

/**
 * What can become of an accepted record. Each record gets exactly one outcome; `account.ts` is the only place that books it. A closed
 * set: the account, the stats, the metrics, the log and the replies are made of this table. `public/live.js` lists the fields once more,
 * and `test/unit/kafka/producer/outcome.test.ts` holds it to the table.
 */
export const outcomeTraits = {
  /** All in-sync replicas have the record. */
  confirmed: {
    field: 'confirmed',
    isDelivered: true,
    isGone: false,
    inTopic: 'yes',
    isLoss: false,
    isJudged: true,
    isError: false,
    isLocalError: false,
  },
  /** The kernel took the record, and nobody asks any further (acks=0 with `confirm: off`). */
  sent: {
    field: 'sent',
    isDelivered: true,
    isGone: false,
    inTopic: 'maybe',
    isLoss: false,
    isJudged: false,
    isError: false,
    isLocalError: false,
  },
  /** The broker acknowledged the record to an at-least-once stream. */
  acked: {
    field: 'acked',
    isDelivered: true,
    isGone: false,
    inTopic: 'yes',
    isLoss: false,
    isJudged: true,
    isError: false,
    isLocalError: false,
  },
  /** The record was written, and nobody knows whether it arrived. */
  suspected_lost: {
    field: 'suspectedLost',
    isDelivered: false,
    isGone: false,
    inTopic: 'maybe',
    isLoss: true,
    isJudged: true,
    isError: true,
    isLocalError: false,
  },
  /** Kafka refused the record for good, and the dead-letter topic or file has it. */
  dead_lettered: {
    field: 'deadLettered',
    isDelivered: false,
    isGone: false,
    inTopic: 'no',
    isLoss: false,
    isJudged: true,
    isError: true,
    isLocalError: true,
  },
  /** The record was never written, or a broker said that it did not store it. See {@link dropReasons}. */
  dropped: {
    field: 'dropped',
    isDelivered: false,
    isGone: true,
    inTopic: 'no',
    isLoss: true,
    isJudged: false,
    isError: true,
    isLocalError: true,
  },
} as const satisfies Record<string, OutcomeTraits>

/** See {@link outcomeTraits}. */
export type Outcome = keyof typeof outcomeTraits

/** All outcomes. */
export const outcomes = Object.keys(outcomeTraits) as Outcome[]

/** The outcomes that one number counts. */
export type KeptOutcome = Exclude<Outcome, 'dropped'>

/** The outcomes that one number counts: all but `dropped`, which is counted by reason. */
export const keptOutcomes = outcomes.filter((outcome) => outcome !== 'dropped')

/** Records by outcome, and dropped ones by reason. */
export type OutcomeCounts = { [K in KeptOutcome as (typeof outcomeTraits)[K]['field']]: number } & {
  dropped: Readonly<Record<DropReason, number>>
}

/** Records of an outcome that one number counts. */
export function countOf(counts: Readonly<Omit<OutcomeCounts, 'dropped'>>, outcome: KeptOutcome): number {
  return counts[outcomeTraits[outcome].field]
}

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
  /** The record, or its batch, is larger than the broker takes. */
  'message_too_large',
  /** The topic is gone. */
  'unknown_topic',
  /** The credentials may not write to the topic. */
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
  /** The record was on disk, and cannot be read any more. */
  'spool_damaged',
  /** Nothing gives this reason any more. It stays a label, at 0, since dashboards and alerts may name it. */
  'encoding',
] as const

/** See {@link dropReasons}. */
export type DropReason = (typeof dropReasons)[number]

/** The reason of each of Kafka's errors that has one of its own: Kafka's name in lower case, or an older name for several errors. */
const reasonOfError: Readonly<Partial<Record<string, DropReason>>> = {
  MESSAGE_TOO_LARGE: 'message_too_large',
  RECORD_LIST_TOO_LARGE: 'message_too_large',
  UNKNOWN_TOPIC_OR_PARTITION: 'unknown_topic',
  TOPIC_AUTHORIZATION_FAILED: 'not_authorized',
  CLUSTER_AUTHORIZATION_FAILED: 'not_authorized',
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 'not_authorized',
  INVALID_TIMESTAMP: 'invalid_timestamp',
  INVALID_RECORD: 'invalid_record',
  CORRUPT_MESSAGE: 'corrupt_message',
  UNSUPPORTED_COMPRESSION_TYPE: 'unsupported_compression_type',
  POLICY_VIOLATION: 'policy_violation',
  NOT_ENOUGH_REPLICAS: 'not_enough_replicas',
  NOT_LEADER_OR_FOLLOWER: 'not_leader_or_follower',
} satisfies Partial<Record<KafkaErrorName, DropReason>>

/** Why a batch is dropped that a broker refused with this error. */
export function dropReasonOf(errorCode: number): DropReason {
  return reasonOfError[kafkaErrorName(errorCode)] ?? 'broker_rejected'
}

/**
 * How a stream learns what became of its writes. A stream of which parts are in different modes is in the later one of them. A closed set,
 * since it is a metric label.
 * `isAnswered`: each write is answered by its leader.
 */
const confirmationTraits = {
  /** Writes go unanswered (acks=0), and barriers find out what all in-sync replicas have. */
  log_end: { isAnswered: false },
  /**
   * Each write is answered by its leader, and barriers find out what all in-sync replicas have. So it is with `acks: 1`, and where a
   * broker does not tell where its log ends.
   */
  acks_1: { isAnswered: true },
  /** Each write is answered by all in-sync replicas. */
  acks_all: { isAnswered: true },
  /** With `confirm: off` nobody learns what became of the writes. */
  off: { isAnswered: false },
} as const satisfies Record<string, { readonly isAnswered: boolean }>

/** See {@link confirmationTraits}. */
export type ConfirmationMode = keyof typeof confirmationTraits

/** All modes, in the order of {@link confirmationTraits}. */
export const confirmationModes = Object.keys(confirmationTraits) as ConfirmationMode[]

/** Whether each write of a stream in this mode is answered. Streams that send again are in such modes only. */
export function isAnswered(mode: ConfirmationMode): boolean {
  return confirmationTraits[mode].isAnswered
}

/** The mode of a stream of which all brokers tell what Kafka tells. */
export function configuredMode({
  acks,
  confirmIntervalMs,
}: Pick<ProducerConfig, 'acks' | 'confirmIntervalMs'>): ConfirmationMode {
  if (acks === -1) return 'acks_all'
  if (acks === 1) return 'acks_1'
  return confirmIntervalMs === null ? 'off' : 'log_end'
}

/** The mode of a stream of which parts are in different modes: the later one of {@link confirmationTraits}. */
export function commonMode(one: ConfirmationMode, other: ConfirmationMode): ConfirmationMode {
  return confirmationModes[Math.max(confirmationModes.indexOf(one), confirmationModes.indexOf(other))]!
}
