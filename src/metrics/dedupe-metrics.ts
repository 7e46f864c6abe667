import type { DedupeStats } from '../dedupe/deduplicators.ts'
import type { MergeableFamily, Sample } from './family.ts'

/** How full the memory of each stream with `dedupe: on` is, and how the store works that gateways share. */
export function collectDedupeMetrics({ isStoreUp, streams }: DedupeStats): MergeableFamily[] {
  const known: MergeableFamily[] = [
    {
      name: 'chute_dedupe_entries',
      help: 'Idempotency-Keys and event ids that are known, at most dedupe.max.entries; nothing of those that are in Redis.',
      type: 'gauge',
      merge: 'sum',
      samples: streams.flatMap(({ stream, entries }) => sampleOf(stream, entries)),
    },
    {
      name: 'chute_dedupe_forgotten_total',
      help: 'Keys and ids that were forgotten before dedupe.window.ms was over, since there was no room: raise dedupe.max.entries.',
      type: 'counter',
      samples: streams.flatMap(({ stream, forgotten }) => sampleOf(stream, forgotten)),
    },
  ]
  return isStoreUp === null ? known : [...known, ...collectStoreMetrics(isStoreUp, streams)]
}

function collectStoreMetrics(isUp: boolean, streams: DedupeStats['streams']): MergeableFamily[] {
  return [
    {
      name: 'chute_dedupe_store_up',
      help: '1 while Redis answers; otherwise requests with a key or ids are answered with 503.',
      type: 'gauge',
      merge: 'min',
      samples: [{ suffix: '', labels: {}, value: isUp ? 1 : 0 }],
    },
    {
      name: 'chute_dedupe_store_failures_total',
      help: 'Keys and ids that Redis could not be asked for (claim: 503) or told of (keep, release: told when it is back).',
      type: 'counter',
      samples: streams.flatMap(({ stream, failures }) =>
        Object.entries(failures ?? {}).map(([operation, value]) => ({
          suffix: '',
          labels: { stream, operation },
          value,
        })),
      ),
    },
    {
      name: 'chute_dedupe_store_waiting',
      help: 'Keys and ids that Redis was not told of yet, at most dedupe.max.entries: until then another gateway does not know them.',
      type: 'gauge',
      merge: 'sum',
      samples: streams.flatMap(({ stream, waiting }) => sampleOf(stream, waiting)),
    },
  ]
}

function sampleOf(stream: string, value: number | null): Sample[] {
  return value === null ? [] : [{ suffix: '', labels: { stream }, value }]
}
