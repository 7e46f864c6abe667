import { apart, describeComparison, gatewaysApart, type AuditReport } from '../kafka/audit/audit-report.ts'
import { alignTable } from './text-table.ts'

/** The report as text for a terminal. Read this file of the folder first: each other one writes a report in another form. */
export function auditText(report: AuditReport): string {
  const { topic, totals, writers, gateways, comparisons, unknownWriters } = report
  const { records, unmarked, lossRatio } = totals
  const lines = [
    `Topic ${topic}: ${records} records, ${unmarked} of them without a mark.`,
    lossRatio === null
      ? `Nothing can be said of loss: ${records === 0 ? 'the topic is empty' : 'no record was written with audit: true'}.`
      : `Lost ${totals.lost} (${(lossRatio * 100).toFixed(4)} %), duplicated ${totals.duplicated}, reordered ${totals.reordered}${totals.unseen > 0 ? `; ${totals.unseen} at the beginnings cannot be judged` : ''}.`,
  ]
  if (writers.length > 0) {
    const head = [
      'writer',
      'partition',
      'first',
      'last',
      'records',
      'lost',
      'unseen',
      'duplicated',
      'reordered',
    ]
    const rows = writers.map((each) => [
      each.instance,
      String(each.partition),
      String(each.first),
      String(each.last),
      String(each.records),
      String(each.lost),
      String(each.unseen),
      String(each.duplicated),
      String(each.reordered),
    ])
    lines.push('', ...alignTable([head, ...rows]))
  }
  if (gateways.length > 0) lines.push('')
  for (const comparison of comparisons) {
    lines.push(`${comparison.gateway}, stream ${comparison.stream}: ${describeComparison(comparison)}.`)
  }
  for (const gateway of gatewaysApart(report)) lines.push(`${gateway} ${apart}.`)
  if (gateways.length > 0 && unknownWriters.length > 0) {
    lines.push(
      `Writers that it does not know (an earlier run, or another gateway): ${unknownWriters.join(', ')}.`,
    )
  }
  return `${lines.join('\n')}\n`
}
