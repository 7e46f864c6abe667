import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { singleEvent } from './events.ts'
import { landedOf, type Landed } from './landed.ts'
import { load } from './load.ts'
import { openLoop, type OpenLoopResult } from './open-loop.ts'
import { median, ratioOf, say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/** Replies while Kafka is in one state; medians. */
export interface OutageRow {
  readonly state: 'well' | 'stalled' | 'away'
  readonly p50Ms: number
  readonly p99Ms: number
  /** Of `well`, round by round. */
  readonly p50Ratio: number
  readonly p99Ratio: number
  readonly accepted: number
  readonly refused: number
}

/** What happened once the buffer was full. */
export interface FullBuffer {
  readonly refusedP50Ms: number
  readonly refused: number
  readonly accepted: number
  /** Had neither a 202 nor a 503. */
  readonly other: number
}

/** The result of the bench `outage`. */
export interface OutageResult {
  readonly ratePerSecond: number
  readonly rows: OutageRow[]
  readonly full: FullBuffer
  readonly landed: Landed
  readonly suspectedLost: number
}

const ratePerSecond = 1_500

/** The same rate with Kafka well, stopped (SIGSTOP) and killed; then on until the buffer is full. */
export async function benchOutage(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<OutageResult> {
  const node = kafka.nodes[0]!
  const broker = kafka.brokers[0]!
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  const config = join(folder, 'streams.json')
  // Holds the rounds of an outage and then some, so that it fills in seconds and not in minutes.
  const streams = {
    [stream]: {
      delivery: 'at-most-once',
      producer: { 'buffer.memory': 16 << 20, 'delivery.timeout.ms': 600_000 },
    },
  }
  writeFileSync(config, JSON.stringify({ streams }))
  const chute = await startChute(broker, { CHUTE_CONFIG: config })
  try {
    // For the compiler.
    await load(`${chute.url}/v1/streams/${stream}`, singleEvent, 3)
    await untilDrained(chute)
    const rounds: Record<OutageRow['state'], OpenLoopResult[]> = { well: [], stalled: [], away: [] }
    for (let round = 1; round <= options.rounds; round++) {
      rounds.well.push(await measure(chute, options.seconds))
      await node.kill('SIGSTOP')
      rounds.stalled.push(await measure(chute, options.seconds))
      await node.kill('SIGCONT')
      await untilDrained(chute)
      await node.kill('SIGKILL')
      rounds.away.push(await measure(chute, options.seconds))
      if (round < options.rounds) {
        node.start()
        await node.waitUntilReady()
        await untilDrained(chute)
      }
      const p99s = Object.entries(rounds).map(([state, of]) => `${state} ${of.at(-1)!.p99Ms.toFixed(2)}`)
      say(`outage, round ${round} of ${options.rounds}: p99 ms ${p99s.join(', ')}`)
    }
    const full = await fillUp(chute)
    node.start()
    await node.waitUntilReady()
    await untilDrained(chute)
    const [account] = await chute.stats()
    const rows = (['well', 'stalled', 'away'] as const).map((state) => row(state, rounds[state], rounds.well))
    return {
      ratePerSecond,
      rows,
      full,
      landed: await landedOf(chute, broker),
      suspectedLost: account!.suspectedLost,
    }
  } finally {
    await chute.stop()
    rmSync(folder, { recursive: true })
  }
}

const stream = 'bench-outage'

async function measure(chute: ChuteProcess, seconds: number): Promise<OpenLoopResult> {
  const url = `${chute.url}/v1/streams/${stream}`
  return await openLoop({ ...singleEvent, url, ratePerSecond, seconds, connections: 64 })
}

/** Kafka is away: the rate goes on until most requests are refused. */
async function fillUp(chute: ChuteProcess): Promise<FullBuffer> {
  for (;;) {
    const { statuses, p50Ms, unanswered } = await measure(chute, 4)
    const { '202': accepted = 0, '503': refused = 0 } = statuses
    say(`outage, filling the buffer: ${accepted} accepted, ${refused} refused`)
    if (refused <= accepted) continue
    const all = Object.values(statuses).reduce((sum, count) => sum + count, unanswered)
    return { refusedP50Ms: p50Ms, refused, accepted, other: all - accepted - refused }
  }
}

async function untilDrained(chute: ChuteProcess): Promise<void> {
  for (;;) {
    const [account] = await chute.stats()
    if (account!.connected && account!.buffered + account!.inFlight === 0) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function row(
  state: OutageRow['state'],
  rounds: readonly OpenLoopResult[],
  well: readonly OpenLoopResult[],
): OutageRow {
  const sum = (status: string): number =>
    rounds.reduce((total, { statuses }) => total + (statuses[status] ?? 0), 0)
  return {
    state,
    p50Ms: median(rounds.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(rounds.map(({ p99Ms }) => p99Ms)),
    p50Ratio: ratioOf(rounds, well, ({ p50Ms }) => p50Ms),
    p99Ratio: ratioOf(rounds, well, ({ p99Ms }) => p99Ms),
    accepted: sum('202'),
    refused: sum('503'),
  }
}
