import { auditHeaderKey, readAuditHeader, type AuditInstance } from '../protocol/audit-header.ts'
import type { ConsumedRecord } from '../consumer/consumer.ts'
import { SequenceTrack, type MissingRange } from './sequence-track.ts'
import { Timeline, type TimelineBucket } from './timeline.ts'

/** The findings about one writer in one partition. */
export interface WriterFindings {
  readonly instance: AuditInstance
  readonly partition: number
  readonly first: number
  readonly last: number
  readonly records: number
  /** Sequences up to the last one that was seen that are not in the topic, without the unseen ones. */
  readonly lost: number
  /** Sequences before the first one that was seen, if the log's beginning has been deleted. It is not known whether they were lost. */
  readonly unseen: number
  readonly duplicated: number
  /** Records that came behind a record with a higher sequence. */
  readonly reordered: number
  readonly firstAtMs: number
  readonly lastAtMs: number
  /** The longest gaps, at most ten. */
  readonly gaps: readonly MissingRange[]
}

/** The findings in a topic. */
export interface AuditFindings {
  readonly topic: string
  readonly writers: readonly WriterFindings[]
  readonly partitions: readonly PartitionFindings[]
  readonly timeline: { readonly widthMs: number; readonly buckets: readonly TimelineBucket[] }
}

/** The findings in one partition. */
export interface PartitionFindings {
  readonly partition: number
  /** Offset of the first record that the log still had when reading began. */
  readonly low: number
  /** Records with and without a mark (`protocol/audit-header.ts`). */
  readonly records: number
  /** Records without a mark: records of other writers, or of a stream without `audit: true`. */
  readonly unmarked: number
}

/**
 * Takes every record of a topic, and finds which records of each writer are missing. Read this file of the folder first. It relies on the
 * topic alone: it shares the format of the header with the gateway, and nothing else. `compare-account.ts` compares the findings with the
 * account of a gateway.
 */
export class TopicAudit {
  readonly topic: string
  readonly #tracks = new Map<string, Track>()
  readonly #partitions = new Map<number, { low: number; records: number; unmarked: number }>()
  readonly #timeline = new Timeline()

  /** @param lows offset of the first record that the log still has, by partition. */
  constructor(topic: string, lows: ReadonlyMap<number, number>) {
    this.topic = topic
    for (const [partition, low] of lows) this.#partitions.set(partition, { low, records: 0, unmarked: 0 })
  }

  /** Takes the next record of its partition. */
  take({
    partition,
    timestampMs,
    headers,
  }: Pick<ConsumedRecord, 'partition' | 'timestampMs' | 'headers'>): void {
    const found = this.#partition(partition)
    found.records++
    const header = headers[auditHeaderKey]
    const mark = Buffer.isBuffer(header) ? readAuditHeader(header) : null
    if (mark === null) {
      found.unmarked++
      return
    }
    const { track } = this.#trackOf(mark.instance, partition)
    const before = track.last
    const missedAtMs = track.missedAtMs(mark.sequence)
    const sighting = track.see(mark.sequence, timestampMs)
    switch (sighting) {
      case 'gap':
        this.#timeline.add(timestampMs, 1, this.#lostIn(before, mark.sequence, found.low))
        return
      case 'reordered':
        this.#timeline.add(timestampMs, 1, 0)
        if (missedAtMs !== null) this.#timeline.add(missedAtMs, 0, -1)
        return
      case 'next':
      case 'duplicate':
        this.#timeline.add(timestampMs, 1, 0)
        return
      default:
        sighting satisfies never
    }
  }

  get findings(): AuditFindings {
    const writers = [...this.#tracks.values()].map((each) => this.#findingsOf(each))
    return {
      topic: this.topic,
      writers: writers.toSorted(
        (one, other) => one.firstAtMs - other.firstAtMs || one.partition - other.partition,
      ),
      partitions: Array.from(this.#partitions, ([partition, found]) => ({ partition, ...found })).toSorted(
        (one, other) => one.partition - other.partition,
      ),
      timeline: { widthMs: this.#timeline.widthMs, buckets: this.#timeline.buckets },
    }
  }

  /**
   * How many of `stamped` records of a writer are not in a partition. `unseen` ones may have been in a part of the log that has been deleted, and may as
   * well be lost. They are not among the `missing` ones.
   * @param first the sequence of the first of these records.
   */
  missingOf(
    instance: AuditInstance,
    partition: number,
    stamped: number,
    first = 0,
  ): { missing: number; unseen: number } {
    const track = this.#tracks.get(`${instance}/${partition}`)?.track
    if (track === undefined)
      return this.#partition(partition).low === 0
        ? { missing: stamped, unseen: 0 }
        : { missing: 0, unseen: stamped }
    const end = first + stamped
    // Sequences below the first one that is there can be in a part of the log that is gone.
    const unseen = Math.max(0, Math.min(this.#unseenOf(track, partition), end) - first)
    return { missing: track.missingBelow(end) - track.missingBelow(first) - unseen, unseen }
  }

  #findingsOf({ instance, partition, track }: Track): WriterFindings {
    const { first, last, records, duplicated, reordered, firstAtMs, lastAtMs } = track
    const unseen = this.#unseenOf(track, partition)
    const gaps = track.missing.filter(({ from }) => unseen === 0 || from > 0)
    return {
      instance,
      partition,
      first,
      last,
      records,
      lost: track.missingBelow(last + 1) - unseen,
      unseen,
      duplicated,
      reordered,
      firstAtMs,
      lastAtMs,
      gaps: gaps.toSorted((one, other) => other.to - other.from - (one.to - one.from)).slice(0, maxGaps),
    }
  }

  #unseenOf({ missing }: SequenceTrack, partition: number): number {
    const head = missing[0]
    return this.#partition(partition).low > 0 && head?.from === 0 ? head.to + 1 : 0
  }

  #lostIn(before: number, sequence: number, low: number): number {
    return before === -1 && low > 0 ? 0 : sequence - before - 1
  }

  #trackOf(instance: AuditInstance, partition: number): Track {
    const key = `${instance}/${partition}`
    const known = this.#tracks.get(key)
    if (known !== undefined) return known
    const track = { instance, partition, track: new SequenceTrack() }
    this.#tracks.set(key, track)
    return track
  }

  #partition(partition: number): { low: number; records: number; unmarked: number } {
    const known = this.#partitions.get(partition)
    if (known !== undefined) return known
    // The partition was added to the topic after reading began.
    const found = { low: 0, records: 0, unmarked: 0 }
    this.#partitions.set(partition, found)
    return found
  }
}

interface Track {
  readonly instance: AuditInstance
  readonly partition: number
  readonly track: SequenceTrack
}

const maxGaps = 10
