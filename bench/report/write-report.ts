import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { BenchEnvironment } from '../environment.ts'
import { writeMigrationTable } from '../migration-report.ts'
import { performancePage } from './page.ts'
import { plotsOf } from './plots.ts'
import { scalingPage } from './scaling.ts'
import { readResults, resultsFolder, type BenchResults, type KeptResults } from './results.ts'

/** Keeps a result, and writes docs/performance.md and its plots anew from all that are kept. */
export function keep<Name extends keyof BenchResults>(
  name: Name,
  environment: BenchEnvironment,
  result: BenchResults[Name],
): void {
  mkdirSync(resultsFolder, { recursive: true })
  writeFileSync(
    new URL(`${name}.json`, resultsFolder),
    `${JSON.stringify({ environment, ...result }, null, 2)}\n`,
  )
  writeReport(readResults())
}

/** Writes the page, the plots, and the tables of docs/migration.md and docs/scaling.md. */
function writeReport(results: KeptResults): void {
  if (results.migration !== undefined) writeMigrationTable(results.migration)
  mkdirSync(new URL('plots/', docs), { recursive: true })
  for (const [name, svg] of Object.entries(plotsOf(results))) {
    writeFileSync(new URL(`plots/${name}.svg`, docs), svg)
  }
  writeFileSync(new URL('performance.md', docs), performancePage(results))
  const scaling = new URL('scaling.md', docs)
  writeFileSync(scaling, scalingPage(readFileSync(scaling, 'utf8'), results))
}

const docs = new URL('../../docs/', import.meta.url)
