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
  /** The broker answered a batch with an error, and it is not to be sent again. */
  'broker_rejected',
  /** The topic, or this batch, is larger than the broker takes. */
  'message_too_large',
  /** The topic is gone. */
  'unknown_topic',
  /** The credentials may not write to the topic. */
  'not_authorized',
  /** It was on disk, and can't be read any more. */
  'spool_damaged',
  /** A bug or a codec failure made the batch impossible to encode. */
  'encoding',
] as const

/** See {@link dropReasons}. */
export type DropReason = (typeof dropReasons)[number]
