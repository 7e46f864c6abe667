import { mergeStats, retireStats } from '../kafka/producer/merge-stats.ts'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import { collectEdgeMetrics, mergeRefused, type EdgeTotals } from './edge-counters.ts'
import { contentTypes, writeExposition, type CollectedFamily, type MergeableFamily } from './exposition.ts'
import { mergeHistograms, toFamily, type HistogramReading } from './histogram.ts'
import { mergeFamilies } from './merge-families.ts'
import { negotiateFormat } from './negotiate-format.ts'
import { collectProducerMetrics } from './producer-metrics.ts'

/**
 * All numbers of a gateway at one instant: plain, so that they can be sent from one process to another and added up. Text
 * comes last: label sets are the same for one process and for many.
 */
export interface MetricsSnapshot {
  readonly edge: EdgeTotals
  readonly streams: readonly ProducerStats[]
  readonly histograms: readonly HistogramReading[]
  /** What is neither of the edge nor of the accounts: what tells duplicates, and the process. */
  readonly families: readonly MergeableFamily[]
}

/** A text that is written line by line, as it is read: it can be long, and nobody is to be held up by it. */
export interface LinesOfText {
  readonly contentType: string
  /** To be read once. */
  readonly lines: Iterable<string>
}

/**
 * A snapshot as text, in the format that an `Accept` header asks for.
 * @param snapshot is called when the first line is read.
 */
export function writeSnapshot(snapshot: () => MetricsSnapshot, accept: string | undefined): LinesOfText {
  const format = negotiateFormat(accept)
  return { contentType: contentTypes[format], lines: writeExposition(familiesOf(snapshot), format) }
}

function* familiesOf(snapshot: () => MetricsSnapshot): Generator<CollectedFamily> {
  const { edge, streams, histograms, families } = snapshot()
  yield* collectEdgeMetrics(edge)
  yield* collectProducerMetrics(streams)
  yield* histograms.map(toFamily)
  yield* families
}

/** Adds up the snapshots of several gateways: as if one had seen all that they saw. At least one. */
export function mergeSnapshots(snapshots: readonly MetricsSnapshot[]): MetricsSnapshot {
  return {
    edge: snapshots.map(({ edge }) => edge).reduce(mergeEdge),
    streams: mergeStats(snapshots.map(({ streams }) => streams)),
    histograms: mergeHistograms(snapshots.map(({ histograms }) => histograms)),
    families: mergeFamilies(snapshots.map(({ families }) => families)),
  }
}

/** What remains of a gateway that has ended, so that no sum ever goes back: its counters. See {@link retireStats}. */
export function retireSnapshot({ edge, streams, histograms, families }: MetricsSnapshot): MetricsSnapshot {
  return {
    edge,
    streams: streams.map(retireStats),
    histograms,
    families: families.filter(({ type }) => type !== 'gauge'),
  }
}

function mergeEdge(one: EdgeTotals, other: EdgeTotals): EdgeTotals {
  return {
    accepted: addEach(one.accepted, other.accepted),
    rejected: addEach(one.rejected, other.rejected),
    duplicates: addEach(one.duplicates, other.duplicates),
    rejectedByCode: addEach(one.rejectedByCode, other.rejectedByCode),
    refused: mergeRefused(one.refused, other.refused),
  }
}

function addEach<K extends string>(
  one: Readonly<Record<K, number>>,
  other: Readonly<Record<K, number>>,
): Record<K, number> {
  const sums: Record<K, number> = { ...one }
  for (const key of Object.keys(one) as K[]) sums[key] += other[key]
  return sums
}
