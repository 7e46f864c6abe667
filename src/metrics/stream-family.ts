import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { CollectedFamily, Family, Labels, Sample } from './exposition.ts'

/** Further label names and values of one sample, beside `stream` and `topic`, and its value. */
export type Reading = readonly [labels: Labels, value: number]

/** A metric of a stream and how it is read from the stream's account. */
export interface StreamFamily extends Family {
  /**
   * Always the same label sets of a stream, whatever the numbers are, so that each series exists from the first scrape on;
   * but partitions come when they are known, and Kafka's error names when they were seen. What cannot occur with the
   * delivery of the stream has no series.
   */
  readonly read: (stats: ProducerStats) => readonly Reading[]
}

/** Families of every stream. Samples are made while they are read, of accounts that are of one instant. */
export function collectFamilies(
  families: readonly StreamFamily[],
  streams: readonly ProducerStats[],
): CollectedFamily[] {
  return families.map(({ name, help, type, read }) => ({
    name,
    help,
    type,
    samples: samplesOf(read, streams),
  }))
}

function* samplesOf(read: StreamFamily['read'], streams: readonly ProducerStats[]): Generator<Sample> {
  for (const stats of streams) {
    const { stream, topic } = stats
    for (const [labels, value] of read(stats))
      yield { suffix: '', labels: { stream, topic, ...labels }, value }
  }
}
