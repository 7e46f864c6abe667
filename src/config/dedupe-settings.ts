import type { ConfigProblem } from './config-error.ts'
import type { DedupeConfig, Delivery, StreamConfig } from './config.ts'
import type { StreamUnderTest } from './stream-contradictions.ts'
import type { StreamValues } from './stream-schema.ts'

/** What decides about duplicates beside the stream itself. */
export interface DedupeContext {
  readonly delivery: Delivery
  /** `WORKERS`: above 1, each process would know only what it accepted itself, unless there is a shared store. */
  readonly workers: number
  readonly hasSharedDedupe: boolean
}

/** Whether a stream tells duplicates, and how: an at-least-once stream does unless it says otherwise. */
export function resolveDedupe(
  values: StreamValues,
  { delivery, workers, hasSharedDedupe }: DedupeContext,
): DedupeConfig | null {
  const isOn = values.dedupe ?? (delivery === 'at-least-once' && (workers === 1 || hasSharedDedupe))
  if (!isOn) return null
  return {
    windowMs: values['dedupe.window.ms'] ?? defaultWindowMs,
    maxEntries: values['dedupe.max.entries'] ?? defaultMaxEntries,
  }
}

/** Finds de-duplication that cannot keep what it says, and settings that nothing goes by. */
export function refuseDedupeContradictions(
  { path, dedupe, written, workers, hasSharedDedupe }: StreamUnderTest,
  problems: ConfigProblem[],
): void {
  if (written.dedupe === true && workers > 1 && !hasSharedDedupe) {
    problems.push({
      path: `${path}.dedupe`,
      problem: `is on with WORKERS ${workers}: each process knows only what it accepted itself, and a retry can reach another`,
      remedy: 'Set WORKERS to 1, or leave it out; or set CHUTE_DEDUPE_REDIS_URL, a store for all of them.',
    })
  }
  for (const key of ['dedupe.window.ms', 'dedupe.max.entries'] as const) {
    if (written[key] === undefined || dedupe !== null) continue
    problems.push({
      path: `${path}.${key}`,
      problem: 'is set for a stream that does not tell duplicates',
      remedy: 'Set dedupe: on, or leave it out.',
    })
  }
}

/** A store that nothing is kept in is a mistake: whoever set it expects duplicates to be told. */
export function refuseUnusedDedupeStore(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  if (streams.length === 0 || streams.some(({ dedupe }) => dedupe !== null)) return
  problems.push({
    path: 'CHUTE_DEDUPE_REDIS_URL',
    problem: 'is set, and no stream tells duplicates',
    remedy: 'Set dedupe: on for a stream, or leave it out.',
  })
}

/** 10 minutes: longer than clients go on to retry. */
const defaultWindowMs = 600_000

/** Some 200 bytes each, with a UUID as id: 100 MB, when they are all in use. */
const defaultMaxEntries = 500_000
