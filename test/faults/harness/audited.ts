import { totalsOf } from '../../../src/kafka/audit/audit-report.ts'
import { compareAccount, type StreamAccount } from '../../../src/kafka/audit/compare-account.ts'
import type { TopicAudit } from '../../../src/kafka/audit/topic-audit.ts'
import { countOf, keptOutcomes, outcomeTraits } from '../../../src/kafka/producer/outcome.ts'
import type { LoggedAccount } from './subject.ts'

/** What the numbers in a topic say, as `chute audit` reads them, and whether the account agrees. */
export interface Audited {
  /** Different records that have a number. */
  readonly found: number
  readonly unmarked: number
  readonly duplicated: number
  readonly reordered: number
  /** Numbered by the log's last line, and not in the topic. */
  readonly missing: number
  /** By how many records the log's last line differs: what it says was dropped has to be missing, suspects may be. */
  readonly difference: number
  /** The same by partition and number, as `chute audit --gateway` has it; null where `/live.json` was not asked at the end. */
  readonly liveDifference: number | null
}

/**
 * Holds the numbers of a topic against a stream's last word.
 * @param live what `/live.json` said when everything had its outcome.
 */
export function auditedOf(audit: TopicAudit, account: LoggedAccount, live: StreamAccount | null): Audited {
  const { records, unmarked, duplicated, reordered } = totalsOf(audit.findings)
  const found = records - unmarked - duplicated
  const { buffer_full: unnumbered = 0, ...reasons } = account.dropped
  const dropped = Object.values(reasons).reduce((sum, count) => sum + count, 0)
  const inDoubt = keptOutcomes.filter((outcome) => outcomeTraits[outcome].inTopic === 'maybe')
  const doubtful = inDoubt.reduce(
    (sum, outcome) => sum + countOf(account, outcome),
    account.buffered + account.inFlight,
  )
  const numbered = account.accepted - unnumbered
  const missing = numbered - found
  return {
    found,
    unmarked,
    duplicated,
    reordered,
    missing,
    difference: Math.max(0, dropped - missing, missing - dropped - doubtful),
    liveDifference: live === null ? null : liveDifferenceOf(audit, live, numbered),
  }
}

function liveDifferenceOf(audit: TopicAudit, live: StreamAccount, numbered: number): number {
  const comparison = compareAccount(live, audit)
  // A stream that is not compared differs by all that it has.
  if (comparison === null) return numbered
  return comparison.difference + Math.abs(comparison.stamped - numbered)
}
