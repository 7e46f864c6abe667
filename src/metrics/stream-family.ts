import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { CollectedFamily, Family, Labels, Sample } from './exposition.ts'

/** Further label names and values of one sample, beside `stream` and `topic`, and its value. */
export type Reading = readonly [labels: Labels, value: number]

/** A metric of a stream and how it is read from the stream's account. */
export interface StreamFamily extends Family {
  /**
   * Always the same label sets of a stream, whatever the numbers are, so that each series exists from the first scrape on;
   * but partitions come when they are known, and Kafka's error names when they were seen.
   */
  readonly read: (stats: ProducerStats) => readonly Reading[]
}

/** Reads families of every stream, in one turn. */
export function collectFamilies(
  families: readonly StreamFamily[],
  streams: readonly ProducerStats[],
): CollectedFamily[] {
  return families.map(({ name, help, type, read }) => ({
    name,
    help,
    type,
    samples: streams.flatMap((stats) => {
      const owner = { stream: stats.stream, topic: stats.topic }
      return read(stats).map(([labels, value]): Sample => ({
        suffix: '',
        labels: { ...owner, ...labels },
        value,
      }))
    }),
  }))
}
