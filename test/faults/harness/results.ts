import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { describeEnvironment } from '../../../bench/environment.ts'
import { kafkaVersion } from '../../../src/local-kafka/kafka-jars.ts'
import type { Bar } from './bar.ts'
import type { Incident } from './chaos-faults.ts'

/** What is kept of a fault: named numbers, in the order in which the page shows them. Null: not known. */
export type Figures = Readonly<Record<string, number | null>>

/** One fault of a full run, and where it was run. */
export interface Result {
  readonly name: string
  readonly where: string
  readonly figures: Figures
  readonly bars: readonly Bar[]
  /** Of a run of chaos: what happened, and when. */
  readonly timeline?: readonly Incident[]
}

const folder = new URL('../results/', import.meta.url)

/** Keeps a result in a file of its own. */
export function keep(result: Omit<Result, 'where'>): void {
  const { machine, node, commit, date } = describeEnvironment('npm run faults')
  const where = `${date}, commit ${commit}; ${machine}; Node ${node}, Apache Kafka ${kafkaVersion}`
  mkdirSync(folder, { recursive: true })
  const file = result.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  writeFileSync(new URL(`${file}.json`, folder), `${JSON.stringify({ where, ...result }, null, 2)}\n`)
}

/** All results that are kept, in the order of the alphabet. */
export function kept(): Result[] {
  return readdirSync(folder)
    .toSorted()
    .map((file) => JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Result)
}

/** Forgets all results: a run of everything begins. */
export function forget(): void {
  rmSync(folder, { recursive: true, force: true })
}
