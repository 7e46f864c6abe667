import { execFileSync } from 'node:child_process'
import { startKafka, type LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { describeEnvironment } from './environment.ts'
import { benchIdle } from './idle-bench.ts'
import { benchIngest } from './ingest-bench.ts'
import { benchMicro } from './micro-bench.ts'
import { benchMigration } from './migration-bench.ts'
import { writeMigrationTable } from './migration-report.ts'
import { keep } from './report.ts'
import { benchWorkers } from './workers-bench.ts'

/** `npm run bench [-- NAME …]`: runs the benches of the given names, or all, against a Kafka of its own, and keeps the results. */
const benches = {
  micro: async () => {
    const rows = await benchMicro({ rounds: 7, eventsPerRound: 50_000 })
    keep('micro', { environment: describeEnvironment('npm run bench -- micro'), rows })
    console.table(rows)
  },
  ingest: async () => {
    const rows = await benchIngest(await kafka(), { rounds: 5, seconds: 5 })
    keep('ingest', { environment: describeEnvironment('npm run bench -- ingest'), rows })
    console.table(
      rows.map(({ server, request, ratioToBare, eventsPerSecond, cpuMicrosPerEvent, p99Ms, landed }) => ({
        server,
        request,
        '÷ bare': ratioToBare?.toFixed(2),
        'events/s': Math.round(eventsPerSecond),
        'CPU µs/event': cpuMicrosPerEvent.toFixed(1),
        'p99 ms': p99Ms.toFixed(1),
        landed,
      })),
    )
  },
  workers: async () => {
    const rows = await benchWorkers(await kafka(), { rounds: 5, seconds: 4 })
    keep('workers', { environment: describeEnvironment('npm run bench -- workers'), rows })
    console.table(rows)
  },
  migration: async () => {
    const rows = await benchMigration(await kafka(), { rounds: 3, seconds: 4, requests: 300 })
    const environment = describeEnvironment('npm run bench -- migration')
    keep('migration', { environment, rows })
    writeMigrationTable({ environment, rows })
    console.table(rows)
  },
  idle: async () => {
    const shareOfCore = await benchIdle(await kafka(), 20)
    keep('idle', { environment: describeEnvironment('npm run bench -- idle'), shareOfCore })
    process.stdout.write(`idle, connected: ${(shareOfCore * 100).toFixed(2)} % of a core\n`)
  },
}

const names = process.argv.slice(2).length > 0 ? process.argv.slice(2) : Object.keys(benches)
const unknown = names.find((name) => !(name in benches))
if (unknown !== undefined) {
  process.stderr.write(`there is no bench ${unknown}; there are ${Object.keys(benches).join(', ')}\n`)
  process.exit(2)
}
execFileSync('npm', ['run', 'build'], { stdio: 'ignore' })
const started: LocalKafka[] = []
try {
  for (const name of names) await benches[name as keyof typeof benches]()
} finally {
  await started[0]?.stop()
}

/** The broker that all benches of a run share, started for the first one that needs it. */
async function kafka(): Promise<LocalKafka> {
  started[0] ??= await startKafka({ onProgress: (text) => process.stderr.write(`${text}\n`) })
  return started[0]
}
