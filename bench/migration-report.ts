import { readFileSync, writeFileSync } from 'node:fs'
import type { BenchEnvironment } from './environment.ts'
import type { MigrationRow } from './migration-bench.ts'

/** Writes what was measured into docs/migration.md, between its two marks. */
export function writeMigrationTable({
  environment,
  rows,
}: {
  environment: BenchEnvironment
  rows: readonly MigrationRow[]
}): void {
  const path = new URL('../docs/migration.md', import.meta.url)
  const [before, rest] = readFileSync(path, 'utf8').split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined)
    throw new Error(`docs/migration.md has lost its marks ${begin} and ${end}`)
  const { machine, node, kafka, load, command, commit, date } = environment
  const source = `\`${command}\` on ${date}, commit ${commit}. ${machine}; Node ${node}, ${kafka}; ${load}.`
  writeFileSync(path, `${before}${begin}\n${source}\n\n${table(rows)}${end}${after}`)
}

function table(rows: readonly MigrationRow[]): string {
  const head =
    '| step | 202: p50, p99 ms | outcome known: p50, p99 ms | single events/s | CPU µs an event |\n|---|---|---|---|---|\n'
  return (
    head +
    rows
      .map(
        (row) =>
          `| ${row.step} | ${row.acceptedP50Ms.toFixed(1)}, ${row.acceptedP99Ms.toFixed(1)} | ${row.settledP50Ms.toFixed(1)}, ${row.settledP99Ms.toFixed(1)} | ${Math.round(row.eventsPerSecond)} | ${row.cpuMicrosPerEvent.toFixed(0)} |\n`,
      )
      .join('')
  )
}

const begin = '<!-- measured: npm run bench -- migration -->'
const end = '<!-- /measured -->'
