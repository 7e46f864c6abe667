import { execFileSync } from 'node:child_process'
import { startKafka, type LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { benchAudit } from './audit-bench.ts'
import { benchDelivery } from './delivery-bench.ts'
import { benchDoor } from './door-bench.ts'
import { benchDurable } from './durable-bench.ts'
import { describeEnvironment } from './environment.ts'
import { benchFleet, brokers as fleetBrokers } from './fleet-bench.ts'
import { benchGrowth } from './growth-bench.ts'
import { benchHostile } from './hostile-bench.ts'
import { benchIdle } from './idle-bench.ts'
import { benchIngest } from './ingest-bench.ts'
import { benchLatency } from './latency-bench.ts'
import { benchMicro } from './micro-bench.ts'
import { benchMigration } from './migration-bench.ts'
import { benchOutage } from './outage-bench.ts'
import { benchProfile } from './profile-bench.ts'
import { keep } from './report/write-report.ts'
import type { BenchResults } from './report/results.ts'
import { say } from './rounds.ts'
import { benchScrape } from './scrape-bench.ts'
import { benchSender } from './sender-bench.ts'
import { benchPauses, benchSoak } from './soak-bench.ts'
import { benchWorkers } from './workers-bench.ts'

/**
 * `npm run bench [-- NAME …]`: runs the benches of the given names, or all but `soak` and `migration`, each against a Kafka of its own, and
 * keeps the results. `SOAK_MINUTES` (10) is how long `soak` takes. `BENCH_ROUNDS` and `BENCH_SECONDS` make a run shorter, to
 * see that it works: what it keeps then says little. With `HOSTILE_SHAPES` (see `hostile-bench.ts`) nothing is kept.
 */
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3)
const secondsOf = (usual: number): number => Number(process.env['BENCH_SECONDS'] ?? usual)
const minutes = Number(process.env['SOAK_MINUTES'] ?? 10)

const benches: { [Name in keyof BenchResults]: (kafka: Kafka) => Promise<BenchResults[Name]> } = {
  micro: async () => ({ rows: await benchMicro({ rounds: 7, eventsPerRound: 50_000 }) }),
  ingest: async (kafka) => ({
    rows: await benchIngest(await kafka(), { rounds: rounds + 2, seconds: secondsOf(3) }),
  }),
  latency: async (kafka) => await benchLatency(await kafka(), { rounds, seconds: secondsOf(4) }),
  workers: async (kafka) => ({ rows: await benchWorkers(await kafka(), { rounds, seconds: secondsOf(2) }) }),
  migration: async (kafka) => ({
    rows: await benchMigration(await kafka(), { rounds, seconds: secondsOf(4), requests: 300 }),
  }),
  delivery: async (kafka) => await benchDelivery(await kafka(), { rounds, seconds: secondsOf(5) }),
  durable: async (kafka) => ({ rows: await benchDurable(await kafka(), { rounds, seconds: secondsOf(4) }) }),
  audit: async (kafka) => ({
    rows: await benchAudit(await kafka(), { rounds: rounds + 2, seconds: secondsOf(4) }),
  }),
  door: async (kafka) => await benchDoor(await kafka(), { rounds: rounds + 1, seconds: secondsOf(2) }),
  outage: async (kafka) => await benchOutage(await kafka(), { rounds, seconds: secondsOf(5) }),
  growth: async (kafka) => await benchGrowth(await kafka(), { rounds: rounds + 2, seconds: secondsOf(3) }),
  fleet: async () => await benchFleet({ seconds: secondsOf(10) }),
  pauses: async (kafka) => await benchPauses(await kafka(), { seconds: secondsOf(10) }),
  hostile: async (kafka) => await benchHostile(await kafka(), { seconds: secondsOf(3) }),
  scrape: async (kafka) => await benchScrape(await kafka(), { scrapes: 40 }),
  profile: async (kafka) => await benchProfile(await kafka(), { seconds: secondsOf(6) }),
  sender: async () => ({ rows: await benchSender({ rounds: rounds + 2 }) }),
  soak: async (kafka) => await benchSoak(await kafka(), { minutes }),
  idle: async (kafka) => await benchIdle(await kafka(), secondsOf(20)),
}

type Kafka = () => Promise<LocalKafka>

const known = Object.keys(benches) as (keyof BenchResults)[]
const asked = process.argv.slice(2)
const unknown = asked.find((name) => !Object.hasOwn(benches, name))
if (unknown !== undefined) {
  say(`there is no bench ${unknown}; there are ${known.join(', ')}`)
  process.exit(2)
}
/** They take many minutes. */
const onlyNamed: ReadonlySet<string> = new Set(['soak', 'migration'])
const names = asked.length > 0 ? (asked as typeof known) : known.filter((name) => !onlyNamed.has(name))
execFileSync('npm', ['run', 'build'], { stdio: 'ignore' })
let failed = 0
for (const name of names) {
  try {
    await run(name)
  } catch (error) {
    // What the others measure is worth keeping.
    failed++
    say(`${name} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  }
}
process.exit(failed === 0 ? 0 : 1)

/** Each bench has a Kafka of its own, so that none meets the topics, or the full page cache, of another. */
async function run(name: keyof BenchResults): Promise<void> {
  const started: LocalKafka[] = []
  const startedAtMs = performance.now()
  try {
    const result = await benches[name](async () => (started[0] ??= await startKafka()))
    // A part of the hostile shapes says nothing about the others.
    if (process.env['HOSTILE_SHAPES'] === undefined)
      keep(name, describeEnvironment(`npm run bench -- ${name}`, name === 'fleet' ? fleetBrokers : 1), result)
  } finally {
    await started[0]?.stop()
  }
  say(
    `${name}: done after ${Math.round((performance.now() - startedAtMs) / 1_000)} s; see docs/performance.md`,
  )
}
