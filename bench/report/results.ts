import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { AuditRow } from '../audit-bench.ts'
import type { FrontDoorRow } from '../delivery-bench.ts'
import type { ProducerRow } from '../delivery-at-producer.ts'
import type { DurableRow } from '../durable-bench.ts'
import type { BenchEnvironment } from '../environment.ts'
import type { GrowthRow } from '../growth-bench.ts'
import type { HostileRow } from '../hostile-bench.ts'
import type { IngestRow } from '../ingest-bench.ts'
import type { Landed } from '../landed.ts'
import type { LatencyRow } from '../latency-bench.ts'
import type { MicroRow } from '../micro-bench.ts'
import { writeMigrationTable } from '../migration-report.ts'
import type { MigrationRow } from '../migration-bench.ts'
import type { OutageResult } from '../outage-bench.ts'
import type { ProfileRow } from '../profile-bench.ts'
import type { ScrapeRow } from '../scrape-bench.ts'
import type { SenderRow } from '../sender-bench.ts'
import type { PauseRow, SoakResult } from '../soak-bench.ts'
import type { WorkersRow } from '../workers-bench.ts'
import { performancePage } from './page.ts'
import { plotsOf } from './plots.ts'

/** Results by bench, as they are kept in bench/results/. */
export interface BenchResults {
  micro: { rows: MicroRow[] }
  ingest: { rows: IngestRow[] }
  latency: { rows: LatencyRow[]; landed: Landed }
  workers: { rows: WorkersRow[] }
  migration: { rows: MigrationRow[] }
  delivery: { frontDoor: FrontDoorRow[]; producer: ProducerRow[] }
  durable: { rows: DurableRow[] }
  audit: { rows: AuditRow[] }
  outage: OutageResult
  growth: { rows: GrowthRow[]; landed: Landed }
  pauses: { rows: PauseRow[]; landed: Landed }
  hostile: { rows: HostileRow[] }
  scrape: { rows: ScrapeRow[] }
  profile: { rows: ProfileRow[] }
  sender: { rows: SenderRow[] }
  soak: SoakResult
  idle: { shareOfCore: number }
}

/** What is kept: each result with where it comes from. */
export type KeptResults = {
  readonly [Name in keyof BenchResults]?: BenchResults[Name] & { readonly environment: BenchEnvironment }
}

const folder = new URL('../results/', import.meta.url)
const docs = new URL('../../docs/', import.meta.url)

/** Keeps a result, and writes docs/performance.md and its plots anew from all that are kept. */
export function keep<Name extends keyof BenchResults>(
  name: Name,
  environment: BenchEnvironment,
  result: BenchResults[Name],
): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify({ environment, ...result }, null, 2)}\n`)
  writeReport(readResults())
}

/** All results that are kept. */
export function readResults(): KeptResults {
  const files = readdirSync(folder).map((file) => [
    file.replace('.json', ''),
    JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as unknown,
  ])
  return Object.fromEntries(files) as KeptResults
}

/** Writes the page, the plots and the table of docs/migration.md. */
export function writeReport(results: KeptResults): void {
  if (results.migration !== undefined) writeMigrationTable(results.migration)
  mkdirSync(new URL('plots/', docs), { recursive: true })
  for (const [name, svg] of Object.entries(plotsOf(results))) {
    writeFileSync(new URL(`plots/${name}.svg`, docs), svg)
  }
  writeFileSync(new URL('performance.md', docs), performancePage(results))
}
