import type { ClientGroup, ClientReport } from '../kafka/audit/session-book.ts'
import { escape, plot, style } from './audit-html.ts'
import { alignTable } from './text-table.ts'

const columns = [
  ['sessions', 'sessions'],
  ['ends told', 'endsTold'],
  ['open', 'open'],
  ['seen', 'seen'],
  ['missing', 'missing'],
  ['at the end', 'missingAtEnd'],
  ['still open', 'missingOpen'],
  ['unseen', 'unseen'],
  ['duplicated', 'duplicated'],
  ['reordered', 'reordered'],
  ['late', 'late'],
] as const

function tablesOf(report: ClientReport): readonly (readonly [string, readonly ClientGroup[]])[] {
  return [
    ['key', report.byKey],
    ['browser', report.byBrowser],
    ['day', report.byDay],
  ]
}

/** What the report cannot say, in words. */
function notesOf({ untraced, forgotten, totals }: ClientReport): string[] {
  const notes = []
  if (totals.open > 0)
    notes.push(
      `${totals.open} sessions are open. ${totals.missingOpen} of their events are not there, and may still come.`,
    )
  if (untraced > 0)
    notes.push(`${untraced} sessions are known by the word of another one only. Their records may be gone.`)
  if (forgotten > 0)
    notes.push(
      `${forgotten} sessions were forgotten for want of room. Late events of these count as sessions of their own: see --max-sessions.`,
    )
  return notes
}

function summaryOf({ totals, lossRatio }: ClientReport): string {
  if (lossRatio === null) return 'Nothing can be said of loss: no record is an event of the browser client.'
  const lost = totals.missing + totals.missingAtEnd
  return `Lost ${lost} (${(lossRatio * 100).toFixed(4)} %): ${totals.missing} inside sessions, ${totals.missingAtEnd} at the ends that are told (${totals.endsTold} of ${totals.sessions} sessions).`
}

/** The report of `chute audit --clients` as text for a terminal. */
export function clientAuditText(report: ClientReport): string {
  const { topic, records, unmarked } = report
  const lines = [
    `Topic ${topic}: ${records} records, ${unmarked} of them no events of the browser client.`,
    summaryOf(report),
    ...notesOf(report),
  ]
  for (const [by, groups] of tablesOf(report)) {
    if (groups.length === 0) continue
    const rows = [...groups, { name: 'all', ...report.totals }].map((each) => [
      // A name may come from a client, and a terminal obeys control characters.
      each.name.replaceAll(/\p{C}/gu, '?'),
      ...columns.map(([, column]) => String(each[column])),
    ])
    lines.push('', ...alignTable([[by, ...columns.map(([head]) => head)], ...rows]))
  }
  return `${lines.join('\n')}\n`
}

/** The report of `chute audit --clients` as one page that loads nothing: it has no script, and no font or picture from elsewhere. */
export function clientAuditHtml(report: ClientReport): string {
  const { topic, readAtMs, timeline } = report
  const tables = tablesOf(report).map(([by, groups]) => {
    const rows = groups.map(
      (each) =>
        `<tr${each.missing + each.missingAtEnd > 0 ? ' class="bad"' : ''}><td>${escape(each.name)}</td>${columns.map(([, column]) => `<td>${each[column]}</td>`).join('')}</tr>`,
    )
    return `<h2>By ${by}</h2>
<table>
<thead><tr><th>${by}</th>${columns.map(([head]) => `<th>${head}</th>`).join('')}</tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>`
  })
  const figures: readonly (readonly [string, number])[] = [
    ...columns.map(([head, column]) => [head, report.totals[column]] as const),
    ['other records', report.unmarked],
  ]
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>From the page to ${escape(topic)}</title>
<style>${style}</style>
</head>
<body>
<h1>From the page to ${escape(topic)}</h1>
<p>Read at ${new Date(readAtMs).toISOString()}, from the topic alone: the browser client numbers the events of each session.</p>
<p>${[summaryOf(report), ...notesOf(report)].map(escape).join('<br>')}</p>
<dl>${figures.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join('')}</dl>
<h2>Over time</h2>
${plot(timeline.buckets, timeline.widthMs)}
${tables.join('\n')}
</body>
</html>
`
}
