import type { ConfigProblem } from './config-error.ts'
import type { DedupeConfig, Delivery } from './config.ts'
import type { StreamUnderTest } from './stream-contradictions.ts'
import type { StreamValues } from './stream-schema.ts'

/** What decides about duplicates beside the stream itself. */
export interface DedupeContext {
  readonly delivery: Delivery
  /** `WORKERS`: above 1, each process would know only what it accepted itself. */
  readonly workers: number
}

/** Whether a stream tells duplicates, and how: an at-least-once stream does unless it says otherwise. */
export function resolveDedupe(
  values: StreamValues,
  { delivery, workers }: DedupeContext,
): DedupeConfig | null {
  const isOn = values.dedupe ?? (delivery === 'at-least-once' && workers === 1)
  if (!isOn) return null
  return {
    windowMs: values['dedupe.window.ms'] ?? defaultWindowMs,
    maxEntries: values['dedupe.max.entries'] ?? defaultMaxEntries,
  }
}

/** Finds de-duplication that cannot keep what it says, and settings that nothing goes by. */
export function refuseDedupeContradictions(
  { path, dedupe, written, workers }: StreamUnderTest,
  problems: ConfigProblem[],
): void {
  if (written.dedupe === true && workers > 1) {
    problems.push({
      path: `${path}.dedupe`,
      problem: `is on with WORKERS ${workers}: each process knows only what it accepted itself, and a retry can reach another`,
      remedy: 'Set WORKERS to 1, or leave it out.',
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

/** 10 minutes: longer than clients go on to retry. */
const defaultWindowMs = 600_000

/** Some 200 bytes each at most: 100 MB, when they are all in use. */
const defaultMaxEntries = 500_000
