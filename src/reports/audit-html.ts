import { apart, describeComparison, gatewaysApart, type AuditReport } from '../kafka/audit/audit-report.ts'
import type { TimelineBucket } from '../kafka/audit/timeline.ts'

/** The report as one page that loads nothing: it has no script, and no font or picture from elsewhere. */
export function auditHtml(report: AuditReport): string {
  const { topic, totals, writers, gateways, comparisons, unknownWriters, readAtMs } = report
  const ratio = totals.lossRatio === null ? 'no marks' : `${(totals.lossRatio * 100).toFixed(4)} %`
  const figures: readonly [string, string | number][] = [
    ['records', totals.records],
    ['lost', totals.lost],
    ['loss', ratio],
    ['duplicated', totals.duplicated],
    ['reordered', totals.reordered],
    ['without a mark', totals.unmarked],
    ['not to be judged', totals.unseen],
  ]
  const accounts = comparisons.map(
    (each) =>
      `<li class="${each.verdict === 'agrees' ? 'good' : 'bad'}"><b>${escape(each.stream)}</b> on ${escape(each.gateway)} ${escape(describeComparison(each))}.</li>`,
  )
  for (const gateway of gatewaysApart(report)) accounts.push(`<li>${escape(gateway)} ${apart}.</li>`)
  const unknown =
    gateways.length > 0 && unknownWriters.length > 0
      ? `<p>Writers that they do not know (an earlier run, or another gateway): ${escape(unknownWriters.join(', '))}.</p>`
      : ''
  const rows = writers.map(
    (each) =>
      `<tr${each.lost + each.duplicated + each.reordered > 0 ? ' class="bad"' : ''}><td>${each.instance}</td>${[each.partition, each.first, each.last, each.records, each.lost, each.unseen, each.duplicated, each.reordered].map((value) => `<td>${value}</td>`).join('')}<td>${escape(each.gaps.map(({ from, to }) => (from === to ? from : `${from}–${to}`)).join(', '))}</td></tr>`,
  )
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit of ${escape(topic)}</title>
<style>${style}</style>
</head>
<body>
<h1>Audit of ${escape(topic)}</h1>
<p>Read at ${new Date(readAtMs).toISOString()}, from the topic alone: each writer numbers its records in each partition.</p>
<dl>${figures.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join('')}</dl>
<h2>Over time</h2>
${plot(report.timeline.buckets, report.timeline.widthMs)}
${accounts.length === 0 ? '' : `<h2>Against the gateways' accounts</h2>\n<ul>${accounts.join('\n')}</ul>\n${unknown}`}
<h2>Writers</h2>
<table>
<thead><tr><th>writer</th><th>partition</th><th>first</th><th>last</th><th>records</th><th>lost</th><th>unseen</th><th>duplicated</th><th>reordered</th><th>longest gaps</th></tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>
</body>
</html>
`
}

/** A plot over time of an audit's page: bars of the records above the axis, and bars of the lost records in red under it. Each has a scale of its own. */
export function plot(buckets: readonly TimelineBucket[], widthMs: number): string {
  if (buckets.length === 0) return '<p>There is nothing to show.</p>'
  const most = Math.max(...buckets.map(({ records }) => records), 1)
  const mostLost = Math.max(...buckets.map(({ lost }) => lost), 1)
  const step = plotWidth / buckets.length
  const bars = buckets.map(({ fromMs, records, lost }, nth) => {
    const x = (nth * step).toFixed(2)
    const width = Math.max(0.5, step * 0.9).toFixed(2)
    const height = (records / most) * recordsHeight
    const lostHeight = (Math.max(0, lost) / mostLost) * lostHeightLimit
    const title = `<title>${timeText(fromMs)}: ${records} records, ${lost} lost</title>`
    const found = `<rect class="found" x="${x}" y="${(recordsHeight - height).toFixed(2)}" width="${width}" height="${height.toFixed(2)}"/>`
    const missing =
      lost > 0
        ? `<rect class="lost" x="${x}" y="${recordsHeight + 1}" width="${width}" height="${lostHeight.toFixed(2)}"/>`
        : ''
    return `<g>${title}${found}${missing}</g>`
  })
  const [start, end] = [buckets[0]!.fromMs, buckets.at(-1)!.fromMs + widthMs].map(timeText)
  const lostSum = buckets.reduce((sum, { lost }) => sum + lost, 0)
  return `<figure>
<svg viewBox="0 0 ${plotWidth} ${recordsHeight + lostHeightLimit + 2}" role="img" aria-label="Records and losses over time">
<line x1="0" y1="${recordsHeight + 0.5}" x2="${plotWidth}" y2="${recordsHeight + 0.5}"/>
${bars.join('\n')}
</svg>
<figcaption><span>${start}</span><span>${widthMs / 1000} s a bar; up to ${most} records${lostSum > 0 ? `, <b class="bad">up to ${mostLost} lost</b>` : ', none lost'}</span><span>${end}</span></figcaption>
</figure>`
}

/** Text as HTML shows it. */
export function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

const plotWidth = 960
const recordsHeight = 160
const lostHeightLimit = 60

/** The style of an audit's page. */
export const style = `
:root { color-scheme: light dark; --found: #3b82c4; --lost: #c53030; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: flex; flex-wrap: wrap; gap: 1.5rem; } dl div { min-width: 6rem; }
dt { opacity: .7; } dd { margin: 0; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
figure { margin: 0; } svg { width: 100%; height: auto; } line { stroke: var(--line); }
.found { fill: var(--found); } .lost { fill: var(--lost); }
figcaption { display: flex; justify-content: space-between; flex-wrap: wrap; gap: 1rem; opacity: .8; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; font-family: ui-monospace, monospace; }
.bad { color: var(--lost); } .good { color: inherit; }
`

/** A record may have any number as its timestamp, and a date has bounds. */
function timeText(ms: number): string {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? 'none' : date.toISOString()
}
