import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { BenchEnvironment } from './environment.ts'
import type { IngestRow } from './ingest-bench.ts'
import type { MigrationRow } from './migration-bench.ts'
import type { MicroRow } from './micro-bench.ts'
import type { WorkersRow } from './workers-bench.ts'

/** Results by bench, as they are kept in bench/results/. */
export interface BenchResults {
  ingest: { environment: BenchEnvironment; rows: IngestRow[] }
  workers: { environment: BenchEnvironment; rows: WorkersRow[] }
  idle: { environment: BenchEnvironment; shareOfCore: number }
  migration: { environment: BenchEnvironment; rows: MigrationRow[] }
  micro: { environment: BenchEnvironment; rows: MicroRow[] }
}

const folder = new URL('results/', import.meta.url)

/** Keeps a result, and writes the tables of docs/performance.md anew from all that are kept. */
export function keep<Name extends keyof BenchResults>(name: Name, result: BenchResults[Name]): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify(result, null, 2)}\n`)
  const kept = Object.fromEntries(
    readdirSync(folder).map((file) => [
      file.replace('.json', ''),
      JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as unknown,
    ]),
  ) as Partial<BenchResults>
  writeFileSync(new URL('../docs/performance.md', import.meta.url), page(kept))
}

function page({ ingest, workers, idle, micro }: Partial<BenchResults>): string {
  const parts = [
    '# Performance\n\nWritten by `npm run bench` from bench/results/; do not edit. Machines are noisy: quote the ratios.\n',
  ]
  if (ingest !== undefined)
    parts.push('## Taking events in\n', source(ingest.environment), ingestTable(ingest.rows))
  if (workers !== undefined) {
    parts.push('## One worker and two\n', source(workers.environment))
    parts.push(
      'The load and Kafka have the same cores as the gateway; `cores` is what was left for it. Efficiency: CPU of an event with one worker ÷ with these, which is what n workers make of n cores of their own.\n',
      workersTable(workers.rows),
    )
  }
  if (idle !== undefined) {
    parts.push('## Idle, connected\n', source(idle.environment))
    parts.push(`${(idle.shareOfCore * 100).toFixed(2)} % of a core.\n`)
  }
  if (micro !== undefined) {
    parts.push('## Our own part of an event\n', source(micro.environment))
    parts.push(
      'From the route’s handler to the connection to Kafka, without sockets, HTTP and Kafka. A test fails when the garbage of an event grows by half.\n',
      microTable(micro.rows),
    )
  }
  return parts.join('\n')
}

function source({ machine, node, kafka, load, command, commit, date }: BenchEnvironment): string {
  return `\`${command}\` on ${date}, commit ${commit}. ${machine}; Node ${node}, ${kafka}; ${load}.\n`
}

function ingestTable(rows: readonly IngestRow[]): string {
  const head =
    '| server | request | ÷ bare Fastify | requests/s | events/s | CPU µs a request | CPU µs an event | p50 ms | p99 ms | landed ÷ accepted |'
  const cells = rows.map((row) =>
    [
      row.server,
      row.request,
      row.ratioToBare?.toFixed(2) ?? '–',
      Math.round(row.requestsPerSecond),
      Math.round(row.eventsPerSecond),
      row.cpuMicrosPerRequest.toFixed(1),
      row.cpuMicrosPerEvent.toFixed(1),
      row.p50Ms.toFixed(2),
      row.p99Ms.toFixed(2),
      row.landed?.toFixed(4) ?? '–',
    ].join(' | '),
  )
  return `${head}\n|${'---|'.repeat(10)}\n${cells.map((cell) => `| ${cell} |`).join('\n')}\n`
}

function microTable(rows: readonly MicroRow[]): string {
  const cells = rows.map(
    ({ request, cpuMicrosPerEvent, allocatedPerEvent }) =>
      `| ${request} | ${cpuMicrosPerEvent.toFixed(2)} | ${Math.round(allocatedPerEvent)} |\n`,
  )
  return `| request | CPU µs an event | bytes of garbage an event |\n|---|---|---|\n${cells.join('')}`
}

function workersTable(rows: readonly WorkersRow[]): string {
  const head =
    '| workers | request | events/s | ÷ one worker | CPU µs an event | cores | efficiency | p99 ms | landed ÷ accepted |'
  const cells = rows.map((row) =>
    [
      row.workers,
      row.request,
      Math.round(row.eventsPerSecond),
      row.ratioToOne.toFixed(2),
      row.cpuMicrosPerEvent.toFixed(1),
      row.cores.toFixed(2),
      row.efficiency.toFixed(2),
      row.p99Ms.toFixed(2),
      row.landed.toFixed(4),
    ].join(' | '),
  )
  return `${head}\n|${'---|'.repeat(9)}\n${cells.map((cell) => `| ${cell} |`).join('\n')}\n`
}
