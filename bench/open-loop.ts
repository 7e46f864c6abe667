import { fileURLToPath } from 'node:url'
import { runWith, type LoadRequest } from './load.ts'

/** A load of so many requests a second, whether or not the server keeps up. */
export interface OpenLoopOptions extends LoadRequest {
  readonly url: string
  readonly ratePerSecond: number
  readonly seconds: number
  readonly connections: number
  readonly headers?: Readonly<Record<string, string>>
}

/** What the client saw. Latencies count from when a request was due. */
export interface OpenLoopResult {
  readonly sent: number
  /** Got no reply within 5 s of the end. */
  readonly unanswered: number
  /** Replies by status; `closed` are connections that ended with a request under way. */
  readonly statuses: Readonly<Record<string, number>>
  readonly p50Ms: number
  readonly p90Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
}

/** Runs `open-loop-client.ts`, a small client of our own, since wrk2 is in no distribution; in its own process. */
export async function openLoop(options: OpenLoopOptions): Promise<OpenLoopResult> {
  const client = fileURLToPath(new URL('open-loop-client.ts', import.meta.url))
  const stdout = await runWith(['--import', 'tsx', client], JSON.stringify(options))
  return JSON.parse(stdout) as OpenLoopResult
}

/** Replies that were not 2xx, and requests without one. */
export function failuresOf({ statuses, unanswered }: OpenLoopResult): number {
  let failed = unanswered
  for (const [status, count] of Object.entries(statuses)) if (!status.startsWith('2')) failed += count
  return failed
}
