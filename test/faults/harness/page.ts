import { readFileSync, writeFileSync } from 'node:fs'
import { rounded } from './bar.ts'
import type { Figures, Result } from './results.ts'

const page = new URL('../../../docs/reliability.md', import.meta.url)

/** Writes the figures of docs/reliability.md anew, those of single faults and those of chaos; the text around them is left alone. */
export function writeFigures(results: readonly Result[]): void {
  const [chaos, faults] = [results.filter(isChaos), results.filter((result) => !isChaos(result))]
  let text = readFileSync(page, 'utf8')
  if (faults.length > 0)
    text = writeBetween(
      text,
      '<!-- figures: written by npm run faults -->',
      '<!-- end of figures -->',
      figures(faults),
    )
  if (chaos.length > 0)
    text = writeBetween(
      text,
      '<!-- chaos: written by npm run faults -->',
      '<!-- end of chaos -->',
      chaosFigures(chaos),
    )
  writeFileSync(page, text)
}

function writeBetween(text: string, begin: string, end: string, figuresBetween: string): string {
  const [before, after] = [text.indexOf(begin), text.indexOf(end)]
  if (before < 0 || after < before) throw new Error('docs/reliability.md has lost the marks of its figures')
  return [text.slice(0, before + begin.length), figuresBetween, text.slice(after)].join('\n')
}

function isChaos({ timeline }: Result): boolean {
  return timeline !== undefined
}

/** A row for each stream of each run, and what was inflicted. */
function chaosFigures(results: readonly Result[]): string {
  const places = [...new Set(results.map(({ where }) => where))]
  const counts = ['accepted', 'refused', 'unanswered', 'landed', 'lost', 'twice']
  const rows = results.flatMap((result) =>
    streamsOf(result).map((stream) => [
      result.name,
      stream,
      ...counts.map((count) => number(result.figures[`${stream}: ${count}`])),
    ]),
  )
  const figuresBeside = results.flatMap(({ name, figures: f, bars }) => [
    ...Object.entries(f).flatMap(([figure, value]) =>
      counts.some((count) => figure.endsWith(`: ${count}`)) ? [] : [[name, figure, number(value)]],
    ),
    [name, 'bars that hold', `${bars.filter(({ holds }) => holds).length} of ${bars.length}`],
  ])
  return [
    `\`npm run faults -- chaos\` on ${places.join('; and on ')}.\n`,
    table(['run', 'stream', ...counts], rows),
    ...brokenBars(results),
    '\nWhat was inflicted, and what else was counted:\n',
    table(['run', 'figure', 'value'], figuresBeside),
    '',
  ].join('\n')
}

function streamsOf({ figures: f }: Result): string[] {
  return Object.keys(f).flatMap((figure) => /^(\w+): landed$/.exec(figure)?.[1] ?? [])
}

function figures(results: readonly Result[]): string {
  const places = [...new Set(results.map(({ where }) => where))]
  return [
    `\`npm run faults\` on ${places.join('; and on ')}.\n`,
    table(
      columns.map(({ head }) => head),
      results.map((result) => columns.map(({ cell }) => cell(result))),
    ),
    ...brokenBars(results),
    '\nWhat else was measured:\n',
    table(['fault', 'figure', 'value'], results.flatMap(others)),
    '',
  ].join('\n')
}

function brokenBars(results: readonly Result[]): string[] {
  const rows = results.flatMap(({ name, bars }) =>
    bars.filter(({ holds }) => !holds).map((bar) => [name, bar.name, number(bar.measured), bar.limit]),
  )
  if (rows.length === 0) return []
  return ['\nBars that did not hold in this run:\n', table(['fault', 'bar', 'measured', 'should be'], rows)]
}

interface Column {
  readonly head: string
  readonly cell: (result: Result) => string
}

const columns: readonly Column[] = [
  { head: 'fault', cell: ({ name }) => name },
  ...[
    'accepted',
    'lost',
    'flagged',
    'duplicates',
    'reordered',
    'ghosts',
    'audit: missing',
    'audit: differs by',
    'log end offsets: missing',
  ].map((name) => plain(name)),
  { head: 'sums open, of scrapes', cell: ({ figures: f }) => joined(f, ['sums open', 'scrapes'], ' of ') },
  {
    head: 'reply p50 → during, ms',
    cell: ({ figures: f }) => joined(f, ['reply p50 before, ms', 'reply p50 during, ms'], ' → '),
  },
  {
    head: 'p99 → during, ms',
    cell: ({ figures: f }) => joined(f, ['reply p99 before, ms', 'reply p99 during, ms'], ' → '),
  },
  {
    head: 'memory → at most, MB',
    cell: ({ figures: f }) => joined(f, ['memory before, MB', 'memory at most, MB'], ' → '),
  },
  plain('noticed after, ms'),
  plain('resumed after, ms'),
  plain('SIGTERM: exit after, ms'),
  {
    head: 'bars that hold',
    cell: ({ bars }) => `${bars.filter(({ holds }) => holds).length} of ${bars.length}`,
  },
]

function plain(name: string): Column {
  return { head: name, cell: ({ figures: f }) => number(f[name]) }
}

/** Figures that have no column. */
const inColumns = new Set([
  'landed',
  'sums open',
  'scrapes',
  'reply p50 before, ms',
  'reply p50 during, ms',
  'reply p99 before, ms',
  'reply p99 during, ms',
  'memory before, MB',
  'memory at most, MB',
  ...columns.map(({ head }) => head),
])

function others({ name, figures: f }: Result): string[][] {
  return Object.entries(f)
    .filter(([figure, value]) => !inColumns.has(figure) && value !== null)
    .map(([figure, value]) => [name, figure, number(value)])
}

function joined(f: Figures, names: readonly string[], between: string): string {
  return names.map((name) => number(f[name])).join(between)
}

/** As people read it: few digits, and a dash for what is not known. */
function number(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  if (Number.isInteger(value)) return String(value)
  return String(Math.abs(value) >= 100 ? Math.round(value) : rounded(Number(value.toPrecision(3))))
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}
