import { countOf, keptOutcomes, outcomeTraits } from '../producer/outcome.ts'
import type { ProducerStats } from '../producer/producer.ts'
import type { TopicAudit } from './topic-audit.ts'

/** What of a stream's account an audit can be held against. */
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

/** The account of one stream against what its topic has. */
export interface Comparison {
  readonly stream: string
  /** Records that have a number: the accepted ones, less those that were dropped because the buffer was full, less those that are still on disk. */
  readonly stamped: number
  /** Found on disk at start. Those that were in flight when the run before ended keep the numbers that they had. */
  readonly recovered: number
  /** Numbered records that are not in the topic. */
  readonly missing: number
  /** Neither in the topic nor in doubt, by the account: dropped, or in the dead letters. These have to be missing. */
  readonly dropped: number
  /** Suspected lost, `sent` without confirmation, or without an outcome yet: these may be missing. */
  readonly doubtful: number
  readonly suspectedLost: number
  /** Suspects that are in the topic after all; null while there are other records in doubt. */
  readonly suspectsLanded: number | null
  /** `agrees`: dropped ≤ missing ≤ dropped + doubtful. */
  readonly verdict: 'agrees' | 'more_missing_than_told' | 'less_missing_than_told'
  /** By how many records the account and the topic differ; 0 where they agree. */
  readonly difference: number
}

const nothingNumbered: Omit<Comparison, 'stream' | 'recovered'> = {
  stamped: 0,
  missing: 0,
  dropped: 0,
  doubtful: 0,
  suspectedLost: 0,
  suspectsLanded: null,
  verdict: 'agrees',
  difference: 0,
}

/**
 * Holds a stream's account, taken before the topic was read to its end, against what was found there. What the account
 * says arrived has to be there; what it says was dropped must not be; suspects may be either. Of a stream that has
 * numbered nothing (yet, or at all) there is nothing to compare, and the comparison says so with 0.
 * @returns null for a stream of another topic.
 */
export function compareAccount(account: StreamAccount, audit: TopicAudit): Comparison | null {
  const { stream, recovered, suspectedLost, buffered, inFlight } = account
  if (account.topic !== audit.topic) return null
  const stamped = account.audit.reduce((sum, each) => sum + each.stamped, 0)
  if (stamped === 0) return { ...nothingNumbered, stream, recovered }
  const missing = account.audit.reduce(
    (sum, { instance, partition, first = 0, stamped: count }) =>
      sum + audit.missingOf(instance, partition, count, first),
    0,
  )
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
    lostSuspects < 0
      ? 'less_missing_than_told'
      : lostSuspects > doubtful
        ? 'more_missing_than_told'
        : 'agrees'
  return {
    stream,
    stamped,
    recovered,
    missing,
    dropped,
    doubtful,
    suspectedLost,
    suspectsLanded: verdict === 'agrees' && doubtful === suspectedLost ? suspectedLost - lostSuspects : null,
    verdict,
    difference: Math.max(0, -lostSuspects, lostSuspects - doubtful),
  }
}
