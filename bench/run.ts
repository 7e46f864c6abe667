import { execFileSync } from 'node:child_process'
import { startKafka } from '../src/local-kafka/local-kafka.ts'
import { describeEnvironment } from './environment.ts'
import { benchIdle } from './idle-bench.ts'
import { benchIngest } from './ingest-bench.ts'
import { keep } from './report.ts'

/** `npm run bench [-- NAME …]`: runs the benches of the given names, or all, against a Kafka of its own, and keeps the results. */
const benches = {
  ingest: async (kafka: Awaited<ReturnType<typeof startKafka>>) => {
    const rows = await benchIngest(kafka, { rounds: 5, seconds: 5 })
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
  idle: async (kafka: Awaited<ReturnType<typeof startKafka>>) => {
    const shareOfCore = await benchIdle(kafka, 20)
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
const kafka = await startKafka({ onProgress: (text) => process.stderr.write(`${text}\n`) })
try {
  for (const name of names) await benches[name as keyof typeof benches](kafka)
} finally {
  await kafka.stop()
}
