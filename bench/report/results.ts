import { readdirSync, readFileSync } from 'node:fs'
import type { AuditRow } from '../audit-bench.ts'
import type { DoorRow, FloodRow } from '../door-bench.ts'
import type { FrontDoorRow } from '../delivery-bench.ts'
import type { ProducerRow } from '../delivery-at-producer.ts'
import type { DurableRow } from '../durable-bench.ts'
import type { BenchEnvironment } from '../environment.ts'
import type { FleetResult } from '../fleet-bench.ts'
import type { GrowthRow } from '../growth-bench.ts'
import type { HostileRow } from '../hostile-bench.ts'
import type { IdleRow } from '../idle-bench.ts'
import type { IngestRow } from '../ingest-bench.ts'
import type { Landed } from '../landed.ts'
import type { LatencyRow } from '../latency-bench.ts'
import type { MicroRow } from '../micro-bench.ts'
import type { MigrationRow } from '../migration-bench.ts'
import type { OutageResult } from '../outage-bench.ts'
import type { ProfileRow } from '../profile-bench.ts'
import type { ScrapeRow } from '../scrape-bench.ts'
import type { SenderRow } from '../sender-bench.ts'
import type { PauseRow, SoakResult } from '../soak-bench.ts'
import type { WorkersRow } from '../workers-bench.ts'

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
  door: { rows: DoorRow[]; flood: FloodRow[] }
  outage: OutageResult
  growth: { rows: GrowthRow[]; landed: Landed }
  fleet: FleetResult
  pauses: { rows: PauseRow[]; landed: Landed }
  hostile: { rows: HostileRow[] }
  scrape: { rows: ScrapeRow[] }
  profile: { rows: ProfileRow[] }
  sender: { rows: SenderRow[] }
  soak: SoakResult
  idle: { rows: IdleRow[] }
}

/** What is kept: each result with where it comes from. */
export type KeptResults = {
  readonly [Name in keyof BenchResults]?: BenchResults[Name] & { readonly environment: BenchEnvironment }
}

/** Where results are kept. */
export const resultsFolder = new URL('../results/', import.meta.url)

/** All results that are kept. */
export function readResults(): KeptResults {
  const files = readdirSync(resultsFolder).map((file) => [
    file.replace('.json', ''),
    JSON.parse(readFileSync(new URL(file, resultsFolder), 'utf8')) as unknown,
  ])
  return Object.fromEntries(files) as KeptResults
}
