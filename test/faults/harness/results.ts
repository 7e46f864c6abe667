import { mkdirSync, writeFileSync } from 'node:fs'
import type { Bar } from './bar.ts'

/** What is kept of a fault: named numbers, in the order in which the page shows them. Null: not known. */
export type Figures = Readonly<Record<string, number | null>>

/** One fault of a full run. */
export interface Result {
  readonly name: string
  readonly figures: Figures
  readonly bars: readonly Bar[]
}

/** Where the last full run is kept. */
export const resultsFolder = new URL('../results/', import.meta.url)

/** Keeps a result in a file of its own. */
export function keep(result: Result): void {
  mkdirSync(resultsFolder, { recursive: true })
  const file = result.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  writeFileSync(new URL(`${file}.json`, resultsFolder), `${JSON.stringify(result, null, 2)}\n`)
}
