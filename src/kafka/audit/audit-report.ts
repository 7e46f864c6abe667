import type { Comparison } from './compare-account.ts'
import type { AuditFindings } from './topic-audit.ts'

/** The report of `chute audit`: the findings in the topic, and their comparison with the accounts of the gateways that were asked. */
export interface AuditReport extends AuditFindings {
  readonly readAtMs: number
  readonly totals: AuditTotals
  /** Each gateway that was asked, and how many records it has numbered in this topic. */
  readonly gateways: readonly { readonly gateway: string; readonly stamped: number }[]
  /** One for each stream that writes to the topic, of each gateway that was asked. */
  readonly comparisons: readonly (Comparison & { readonly gateway: string })[]
  /** Writers that none of these gateways knows: earlier runs of them, or other gateways. */
  readonly unknownWriters: readonly string[]
}

/** Sums over all writers and partitions. */
export interface AuditTotals {
  readonly records: number
  readonly unmarked: number
  readonly lost: number
  readonly unseen: number
  readonly duplicated: number
  readonly reordered: number
  /** Lost ÷ (lost + found), 0 to 1; null if no record has a mark. */
  readonly lossRatio: number | null
}

/** Adds up the findings. */
export function totalsOf({ writers, partitions }: AuditFindings): AuditTotals {
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
  const lost = sum(writers.map((writer) => writer.lost))
  const duplicated = sum(writers.map((writer) => writer.duplicated))
  const found = sum(writers.map((writer) => writer.records)) - duplicated
  return {
    records: sum(partitions.map(({ records }) => records)),
    unmarked: sum(partitions.map(({ unmarked }) => unmarked)),
    lost,
    unseen: sum(writers.map((writer) => writer.unseen)),
    duplicated,
    reordered: sum(writers.map((writer) => writer.reordered)),
    lossRatio: lost + found === 0 ? null : lost / (lost + found),
  }
}

/** The gateways that were asked and of which no stream writes to the topic. They have no comparison. */
export function gatewaysApart({ gateways, comparisons }: AuditReport): readonly string[] {
  const compared = new Set(comparisons.map(({ gateway }) => gateway))
  return gateways.filter(({ gateway }) => !compared.has(gateway)).map(({ gateway }) => gateway)
}

/** The words of a report for each of {@link gatewaysApart}. */
export const apart = 'has numbered 0 records here: none of its streams writes to this topic'

/** A comparison in words. */
export function describeComparison(comparison: Comparison): string {
  if (comparison.stamped === 0)
    return 'has numbered 0 records since its start, so nothing can be compared: it took no event yet, or its stream is without audit: true'
  const { verdict, difference, missing, unseen, dropped, doubtful } = comparison
  const { suspectedLost, suspectsLanded, recovered } = comparison
  const told = `the account says ${dropped} were dropped and ${doubtful} are in doubt`
  switch (verdict) {
    case 'agrees': {
      const landed =
        suspectsLanded === null || suspectedLost === 0
          ? ''
          : `; ${suspectsLanded} of ${suspectedLost} suspects are there after all`
      const found = recovered === 0 ? '' : `; its start found ${recovered} on disk`
      const gone = unseen === 0 ? '' : `; ${unseen} cannot be judged, since the beginning of the log is gone`
      return `agrees: ${missing} are missing, ${told}${landed}${found}${gone}`
    }
    case 'more_missing_than_told':
      return `differs by ${difference}: ${missing} are missing, ${told}. Compaction, retention and deleted records look like this too`
    case 'less_missing_than_told':
      return `differs by ${difference}: only ${missing} are missing, ${told}`
  }
}
