import type { ProducerConfig } from '../../config/config.ts'
import { kafkaErrorName, type KafkaErrorName } from '../protocol/kafka-error.ts'

/** What is true of a record with an outcome. */
interface OutcomeTraits {
  /** The field of the account, and of `ProducerStats`, that counts the records. */
  readonly field: string
  /** The record is where the stream's delivery promises to bring it, as far as can be known. */
  readonly isDelivered: boolean
  /** Neither Kafka nor a dead-letter place has the record: a client that sends it again makes no second one. */
  readonly isGone: boolean
  /** Whether the topic has the record, and an audit of the topic has to find it. */
  readonly inTopic: 'yes' | 'maybe' | 'no'
  /** The record is lost, as far as can be known. A dead letter is not lost. */
  readonly isLoss: boolean
  /** The record was written, and the producer waited for word of it. `chute_loss_ratio{source="barrier"}` is made of these records. */
  readonly isJudged: boolean
  /** The producer saw an error: `record-error-total`. */
  readonly isError: boolean
  /** The producer saw the record fail, and does not only suspect that. */
  readonly isLocalError: boolean
  /** A durable stream that ends leaves the record on disk for the next process, and books no outcome. Dropped records: see {@link dropReasonTraits}. */
  readonly isLeftAtEnd: boolean
}

/**
 * What can become of an accepted record. Each record gets exactly one outcome, and only `account.ts` books outcomes. A closed set: the
 * account, the stats (`stream-producer.ts`, `producer-stats.ts`), the metrics, the log, the audit (`kafka/audit/compare-account.ts`), the results of
 * refused events (`routes/ingest/invalid-events.ts`) and the replies are made of this table. Pages, alerts and `public/live.js` list members by
 * hand: `test/unit/docs/members.test.ts` and `test/unit/kafka/producer/outcome.test.ts` compare them. CONTRIBUTING.md ("An outcome") has the rest.
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
    isLeftAtEnd: false,
  },
  /** The kernel took the record, and the producer does not ask the broker about it (acks=0 with `confirm: off`). */
  sent: {
    field: 'sent',
    isDelivered: true,
    isGone: false,
    inTopic: 'maybe',
    isLoss: false,
    isJudged: false,
    isError: false,
    isLocalError: false,
    isLeftAtEnd: false,
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
    isLeftAtEnd: false,
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
    isLeftAtEnd: true,
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
    isLeftAtEnd: false,
  },
  /** The record was never written, or a broker said that it did not store it. See {@link dropReasonTraits}. */
  dropped: {
    field: 'dropped',
    isDelivered: false,
    isGone: true,
    inTopic: 'no',
    isLoss: true,
    isJudged: false,
    isError: true,
    isLocalError: true,
    isLeftAtEnd: false,
  },
} as const satisfies Record<string, OutcomeTraits>

/** See {@link outcomeTraits}. */
export type Outcome = keyof typeof outcomeTraits

/** All outcomes. */
export const outcomes = Object.keys(outcomeTraits) as Outcome[]

/** The outcomes that one number counts. */
export type KeptOutcome = Exclude<Outcome, 'dropped'>

/** The outcomes that one number counts: all but `dropped`. Dropped records are counted by reason. */
export const keptOutcomes = outcomes.filter((outcome) => outcome !== 'dropped')

/** Records by outcome, and dropped ones by reason. */
export type OutcomeCounts = { [K in KeptOutcome as (typeof outcomeTraits)[K]['field']]: number } & {
  dropped: Readonly<Record<DropReason, number>>
}

/** The number of records with an outcome. */
export function countOf(counts: Readonly<Omit<OutcomeCounts, 'dropped'>>, outcome: KeptOutcome): number {
  return counts[outcomeTraits[outcome].field]
}

/** What is true of a record that was dropped for a reason. */
interface DropReasonTraits {
  /** Only a stream with a spool can drop a record for this reason. */
  readonly needsSpool: boolean
  /** As in {@link OutcomeTraits}. */
  readonly isLeftAtEnd: boolean
}

const anyTime: DropReasonTraits = { needsSpool: false, isLeftAtEnd: false }

/**
 * Why a record was dropped: it was never written, or a broker said that it did not store it. A closed set, since it is a
 * metric label.
 */
export const dropReasonTraits = {
  /** `delivery.timeout.ms` ran out, and no broker has the record. */
  expired: anyTime,
  /** The buffer was full and the stream's `onBufferFull` is `drop`. */
  buffer_full: anyTime,
  /** The shutdown limit was reached, and no broker has the record. */
  shutdown: { needsSpool: false, isLeftAtEnd: true },
  /** The broker refused the batch with an error that has no reason of its own here. `chute_records_refused_total` has the error's name. */
  broker_rejected: anyTime,
  /** The record, or its batch, is larger than the broker takes. */
  message_too_large: anyTime,
  /** The topic is gone. */
  unknown_topic: anyTime,
  /** The credentials may not write to the topic. */
  not_authorized: anyTime,
  // The other errors with which a broker refuses a batch have Kafka's own names, in lower case.
  /** The timestamp is further from the broker's clock than the topic allows: one of the two clocks is wrong. */
  invalid_timestamp: anyTime,
  /** The topic does not take such a record: a compacted topic takes none without a key. */
  invalid_record: anyTime,
  /** A checksum is wrong: something between the gateway and the log changes bytes. */
  corrupt_message: anyTime,
  /** The broker, or the topic, does not know the codec. */
  unsupported_compression_type: anyTime,
  /** A policy of the broker forbids the record. */
  policy_violation: anyTime,
  /** Fewer replicas are in sync than `min.insync.replicas`. */
  not_enough_replicas: anyTime,
  /** Another broker leads the partition. */
  not_leader_or_follower: anyTime,
  /** The record was on disk, and cannot be read any more. */
  spool_damaged: { needsSpool: true, isLeftAtEnd: false },
  /** No code gives this reason any more. It stays a label, at 0, since dashboards and alerts may name it. */
  encoding: anyTime,
} as const satisfies Record<string, DropReasonTraits>

/** See {@link dropReasonTraits}. */
export type DropReason = keyof typeof dropReasonTraits

/** All reasons. */
export const dropReasons = Object.keys(dropReasonTraits) as DropReason[]

/**
 * Whether records of a durable stream stay on disk for the next process, although the producer has settled them.
 * @param isEnding the stream ends. Until then only the drops of the end itself are left.
 */
export function isLeftAtEnd(
  { outcome, reason }: { readonly outcome: Outcome | 'pending'; readonly reason: DropReason | null },
  isEnding: boolean,
): boolean {
  if (outcome === 'pending') return false
  if (outcome === 'dropped') return reason !== null && dropReasonTraits[reason].isLeftAtEnd
  return isEnding && outcomeTraits[outcome].isLeftAtEnd
}

/** The errors of Kafka that have a reason of their own. The reason is Kafka's name in lower case, or an older name for several errors. */
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

/** The reason of a batch that is dropped since a broker refused it with this error. */
export function dropReasonOf(errorCode: number): DropReason {
  return reasonOfError[kafkaErrorName(errorCode)] ?? 'broker_rejected'
}

interface ConfirmationTraits {
  readonly acks: ProducerConfig['acks']
  readonly isAnswered: boolean
  readonly isLearned: boolean
  readonly fallback: string
}

/**
 * How a stream learns what became of its writes. If the brokers of a stream are in different modes, the stream is in the mode that is
 * further down in this table. A closed set, since it is a metric label.
 * `acks`: what the writes ask for. `isAnswered`: the leader answers each write. `isLearned`: the producer learns what became of each write.
 * `fallback`: the mode of a broker that has to answer each write, since it does not tell where its log ends.
 */
const confirmationTraits = {
  /** No broker answers a write (acks=0). Barriers find out what all in-sync replicas have. */
  log_end: { acks: 0, isAnswered: false, isLearned: true, fallback: 'acks_1' },
  /**
   * The leader answers each write, and barriers find out what all in-sync replicas have. This is the mode with `acks: 1`, and with a
   * broker that does not tell where its log ends.
   */
  acks_1: { acks: 1, isAnswered: true, isLearned: true, fallback: 'acks_1' },
  /** The leader answers each write when all in-sync replicas have it. */
  acks_all: { acks: -1, isAnswered: true, isLearned: true, fallback: 'acks_all' },
  /** With `confirm: off` the producer does not learn what became of its writes. */
  off: { acks: 0, isAnswered: false, isLearned: false, fallback: 'off' },
} as const satisfies Record<string, ConfirmationTraits>

/** See {@link confirmationTraits}. */
export type ConfirmationMode = keyof typeof confirmationTraits

/** All modes, in the order of {@link confirmationTraits}. */
export const confirmationModes = Object.keys(confirmationTraits) as ConfirmationMode[]

/** Whether a leader answers each write of a stream in this mode. At-least-once streams are only in such modes. */
export function isAnswered(mode: ConfirmationMode): boolean {
  return confirmationTraits[mode].isAnswered
}

/** Whether a stream in this mode learns what became of each write. */
export function isLearned(mode: ConfirmationMode): boolean {
  return confirmationTraits[mode].isLearned
}

/** See {@link confirmationTraits}. */
export function acksOf(mode: ConfirmationMode): ProducerConfig['acks'] {
  return confirmationTraits[mode].acks
}

/** See {@link confirmationTraits}. */
export function fallbackOf(mode: ConfirmationMode): ConfirmationMode {
  return confirmationTraits[mode].fallback
}

/** The mode of a stream whose brokers all tell what Kafka's brokers tell. */
export function configuredMode({
  acks,
  confirmIntervalMs,
}: Pick<ProducerConfig, 'acks' | 'confirmIntervalMs'>): ConfirmationMode {
  switch (acks) {
    case -1:
      return 'acks_all'
    case 1:
      return 'acks_1'
    case 0:
      return confirmIntervalMs === null ? 'off' : 'log_end'
  }
}

/** The mode of a stream whose brokers are in different modes: the one that is further down in {@link confirmationTraits}. */
export function commonMode(one: ConfirmationMode, other: ConfirmationMode): ConfirmationMode {
  return confirmationModes[Math.max(confirmationModes.indexOf(one), confirmationModes.indexOf(other))]!
}
