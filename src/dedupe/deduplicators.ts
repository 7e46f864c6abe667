import type { Producer } from '../kafka/producer/producer.ts'
import { Deduplicator } from './deduplicator.ts'
import { MemoryDedupeStore } from './memory-dedupe-store.ts'

/**
 * One for each stream that tells duplicates, by the stream's name. Where the stream is durable, keys are on disk with the
 * records that they stand for, and those of an earlier process are known again. To be called before anything is accepted.
 */
export function openDeduplicators(producers: Iterable<Producer>): Map<string, Deduplicator> {
  const byStream = new Map<string, Deduplicator>()
  for (const { stream, durability } of producers) {
    if (stream.dedupe === null) continue
    const { windowMs, maxEntries } = stream.dedupe
    const store = new MemoryDedupeStore(maxEntries)
    byStream.set(stream.name, new Deduplicator({ store, windowMs, journal: durability }))
  }
  return byStream
}
