import { countOf, keptOutcomes, outcomeTraits } from '../producer/outcome.ts'
import type { ProducerStats } from '../producer/producer.ts'
import type { TopicAudit } from './topic-audit.ts'

/** The part of a stream's account that an audit is compared with. */
export type StreamAccount = Pick<
  ProducerStats,
  | 'stream'
  | 'topic'
  | 'recovered'
  | 'confirmed'
  | 'acked'
  | 'sent'
  | 'suspectedLost'
  | 'deadLettered'
  | 'buffered'
  | 'inFlight'
  | 'audit'
>

/** The account of one stream, compared with the records in its topic. */
export interface Comparison {
  readonly stream: string
  /** Records that have a number: all accepted ones, except those that were dropped as `buffer_full` and those that are still on disk. */
  readonly stamped: number
  /** Records that the gateway found on disk at its start. Records that were in flight when the earlier run ended keep their old numbers. */
  readonly recovered: number
  /** Numbered records that are not in the topic. */
  readonly missing: number
  /** Numbered records that nobody can judge: they may have been in a part of the log that is gone. */
  readonly unseen: number
  /** Numbered records that the topic cannot have, by the account: dropped ones and dead letters. These have to be missing. */
  readonly dropped: number
  /** Records that are suspected lost, that were `sent` without confirmation, or that have no outcome yet. These may be missing. */
  readonly doubtful: number
  readonly suspectedLost: number
  /** Suspected records that are in the topic; null if other records are in doubt, too, or may have been in a part of the log that is gone. */
  readonly suspectsLanded: number | null
  /** `agrees`: dropped ≤ missing ≤ dropped + doubtful. What may have been in a part of the log that is gone counts as missing or not, as it fits. */
  readonly verdict: 'agrees' | 'more_missing_than_told' | 'less_missing_than_told'
  /** The number of records by which the account and the topic differ; 0 if they agree. */
  readonly difference: number
}

const nothingNumbered: Omit<Comparison, 'stream' | 'recovered'> = {
  stamped: 0,
  missing: 0,
  unseen: 0,
  dropped: 0,
  doubtful: 0,
  suspectedLost: 0,
  suspectsLanded: null,
  verdict: 'agrees',
  difference: 0,
}

/**
 * Compares a stream's account with the findings in its topic. The account was taken before the topic was read to its end. Records that arrived
 * by the account have to be in the topic. Records that were dropped must not be there. Records in doubt may be there or not. If the stream
 * has numbered no record, there is nothing to compare, and `stamped` is 0.
 * @returns null for a stream of another topic.
 */
export function compareAccount(account: StreamAccount, audit: TopicAudit): Comparison | null {
  const { stream, recovered, suspectedLost, buffered, inFlight } = account
  if (account.topic !== audit.topic) return null
  const stamped = account.audit.reduce((sum, each) => sum + each.stamped, 0)
  if (stamped === 0) return { ...nothingNumbered, stream, recovered }
  let missing = 0
  let unseen = 0
  for (const { instance, partition, first, stamped: count } of account.audit) {
    const found = audit.missingOf(instance, partition, count, first)
    missing += found.missing
    unseen += found.unseen
  }
  let arrived = 0
  let doubtful = buffered + inFlight
  for (const outcome of keptOutcomes) {
    const { inTopic } = outcomeTraits[outcome]
    if (inTopic === 'yes') arrived += countOf(account, outcome)
    else if (inTopic === 'maybe') doubtful += countOf(account, outcome)
  }
  const dropped = Math.max(0, stamped - arrived - doubtful)
  const lostSuspects = missing - dropped
  const verdict =
    lostSuspects + unseen < 0
      ? 'less_missing_than_told'
      : lostSuspects > doubtful
        ? 'more_missing_than_told'
        : 'agrees'
  return {
    stream,
    stamped,
    recovered,
    missing,
    unseen,
    dropped,
    doubtful,
    suspectedLost,
    suspectsLanded:
      verdict === 'agrees' && unseen === 0 && doubtful === suspectedLost
        ? suspectedLost - lostSuspects
        : null,
    verdict,
    difference: Math.max(0, -lostSuspects - unseen, lostSuspects - doubtful),
  }
}
