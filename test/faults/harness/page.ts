import { readFileSync, writeFileSync } from 'node:fs'
import { rounded } from './bar.ts'
import type { Figures, Result } from './results.ts'

const page = new URL('../../../docs/reliability.md', import.meta.url)
const [begin, end] = ['<!-- figures: written by npm run faults -->', '<!-- end of figures -->']

/** Writes the figures of docs/reliability.md anew; the text around them is left alone. */
export function writeFigures(results: readonly Result[]): void {
  const text = readFileSync(page, 'utf8')
  const [before, after] = [text.indexOf(begin), text.indexOf(end)]
  if (before < 0 || after < before) throw new Error('docs/reliability.md has lost the marks of its figures')
  const parts = [text.slice(0, before + begin.length), figures(results), text.slice(after)]
  writeFileSync(page, parts.join('\n'))
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
