import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { summaryOfProfiles, type ProfileSummary } from './cpu-profile.ts'
import { ndjsonOf100, singleEvent } from './events.ts'
import { loadMany, type AddressedRequest } from './load.ts'
import { startChute } from './server-process.ts'
import { eventTo, manyStreams, streamsFile } from './streams.ts'

/** Where the time of a request goes. */
export interface ProfileRow extends ProfileSummary {
  readonly request: string
  readonly cpuMicrosPerRequest: number
}

/** Runs a gateway under Node's own CPU profiler (`--cpu-prof`), once for each kind of request. */
export async function benchProfile(
  kafka: LocalKafka,
  options: { seconds: number },
): Promise<{ rows: ProfileRow[] }> {
  const path = '/v1/streams/metrics-realtime'
  const kinds: [string, AddressedRequest[], readonly string[]][] = [
    ['single event', [{ ...singleEvent, path }], []],
    ['single event, 50 streams', manyStreams.map((name) => eventTo(name)), manyStreams],
    ['NDJSON of 100', [{ ...ndjsonOf100, path }], []],
  ]
  const rows: ProfileRow[] = []
  for (const [request, requests, streams] of kinds)
    rows.push({ request, ...(await profile(kafka, requests, streams, options.seconds)) })
  return { rows }
}

async function profile(
  kafka: LocalKafka,
  requests: readonly AddressedRequest[],
  streams: readonly string[],
  seconds: number,
): Promise<Omit<ProfileRow, 'request'>> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  const profiles = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  try {
    const env = streams.length === 0 ? {} : { CHUTE_CONFIG: streamsFile(folder, streams) }
    const flags = ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', profiles]
    const chute = await startChute(kafka.brokers[0]!, env, { flags })
    const before = chute.usage().cpuMicros
    const { requests: done } = await loadMany(chute.url, requests, seconds)
    const cpuMicrosPerRequest = (chute.usage().cpuMicros - before) / done
    await chute.stop()
    return { cpuMicrosPerRequest, ...summaryOfProfiles(profiles) }
  } finally {
    rmSync(folder, { recursive: true })
    rmSync(profiles, { recursive: true })
  }
}
