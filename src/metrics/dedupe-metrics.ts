import type { MergeableFamily } from './exposition.ts'

/** What tells duplicates of one stream, at one moment. */
export interface DedupeStats {
  readonly stream: string
  /** Keys that are known. */
  readonly entries: number
  /** Keys that were forgotten before their time. */
  readonly forgotten: number
}

/** How full the memory of each stream is that tells duplicates. */
export function collectDedupeMetrics(all: readonly DedupeStats[]): MergeableFamily[] {
  return [
    {
      name: 'chute_dedupe_entries',
      help: 'Idempotency-Keys and event ids that are known, at most dedupe.max.entries.',
      type: 'gauge',
      merge: 'sum',
      samples: all.map(({ stream, entries }) => ({ suffix: '', labels: { stream }, value: entries })),
    },
    {
      name: 'chute_dedupe_forgotten_total',
      help: 'Keys and ids that were forgotten before dedupe.window.ms was over, since there was no room: raise dedupe.max.entries.',
      type: 'counter',
      samples: all.map(({ stream, forgotten }) => ({ suffix: '', labels: { stream }, value: forgotten })),
    },
  ]
}
