import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { say } from './rounds.ts'
import { startChute } from './server-process.ts'
import { hundredsOfStreams, streamsFile } from './streams.ts'

/** What a connected gateway takes while nobody sends anything. */
export interface IdleRow {
  readonly streams: number
  /** Of one core, 0 to 1. */
  readonly shareOfCore: number
  readonly rssBytes: number
}

/** Gateways with the two default streams and with hundreds, one after the other. */
export async function benchIdle(kafka: LocalKafka, seconds: number): Promise<{ rows: IdleRow[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  try {
    const many = { CHUTE_CONFIG: streamsFile(folder, hundredsOfStreams, 'bench-idle') }
    const rows = [
      await measure(kafka, { streams: 2, env: {}, seconds }),
      await measure(kafka, { streams: hundredsOfStreams.length, env: many, seconds }),
    ]
    return { rows }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function measure(
  kafka: LocalKafka,
  { streams, env, seconds }: { streams: number; env: NodeJS.ProcessEnv; seconds: number },
): Promise<IdleRow> {
  const chute = await startChute(kafka.brokers[0]!, env)
  try {
    // What the start left to do (compiling, garbage) is not idling.
    await sleep(5_000)
    const before = chute.usage().cpuMicros
    await sleep(seconds * 1000)
    const { cpuMicros, rssBytes } = chute.usage()
    const shareOfCore = (cpuMicros - before) / (seconds * 1e6)
    say(
      `${streams} streams: ${(shareOfCore * 100).toFixed(2)} % of a core, ${Math.round(rssBytes / 1e6)} MB resident`,
    )
    return { streams, shareOfCore, rssBytes }
  } finally {
    await chute.stop()
  }
}
