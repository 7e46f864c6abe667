import {
  commonMode,
  confirmationModes,
  countOf,
  keptOutcomes,
  outcomeTraits,
  type KeptOutcome,
} from './outcome.ts'
import type { PartitionProgress, ProducerStats, SpoolStats } from './producer.ts'

/**
 * The fields of a stream's stats that are derived from its sums. Only this file derives them, so that one rule holds for one producer and
 * for the sum over several: a ratio is never the mean of ratios.
 */
type Ratios = Pick<ProducerStats, 'recordErrorRate' | 'batchSizeAvg' | 'lossRatio'>

/** A stream's stats without the derived fields. Each field can be added up, or picked, over producers. */
export type ProducerSums = Omit<ProducerStats, keyof Ratios>

/** Completes a stream's stats. The ratios are set in `sums` itself, since a copy costs more than reading all of its numbers. */
export function withRatios(sums: ProducerSums): ProducerStats {
  const { recent } = sums
  const stats = sums as { -readonly [K in keyof ProducerStats]: ProducerStats[K] }
  stats.recordErrorRate = errorRateOf(recent)
  stats.batchSizeAvg = ratio(recent.batchBytes, recent.batches)
  stats.lossRatio = {
    producer: ratio(sums.localErrorTotal, sums.recordSendTotal),
    barrier: ratio(sumOf(sums, lostOutcomes), sumOf(sums, judgedOutcomes)),
    broker: brokerLossOf(sums.logEndOffsets),
  }
  return stats
}

/** The outcomes of records that were written and asked about: all of them, and those of the lost ones. */
const judgedOutcomes = keptOutcomes.filter((outcome) => outcomeTraits[outcome].isJudged)
const lostOutcomes = judgedOutcomes.filter((outcome) => outcomeTraits[outcome].isLoss)

function sumOf(counts: ProducerSums, outcomes: readonly KeptOutcome[]): number {
  return outcomes.reduce((total, outcome) => total + countOf(counts, outcome), 0)
}

/** Errors as a part of attempts, 0 to 1. An error can be seen after its attempt has left the window. */
export function errorRateOf({ attempts, errors }: { attempts: number; errors: number }): number {
  return ratio(errors, Math.max(errors, attempts))
}

/** Records that did not arrive ÷ records written, 0 to 1. null until the log was looked at after a write. */
export function brokerLossOf(partitions: readonly PartitionProgress[]): number | null {
  let written = 0
  let missing = 0
  for (const partition of partitions) {
    written += partition.written
    missing += Math.max(0, partition.written - (partition.logEndOffset - partition.baseOffset))
  }
  return written === 0 ? null : missing / written
}

function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole
}

/** What becomes of a field when the stats of several processes are added up, and when the process behind the stats has ended. */
interface Rule<T> {
  readonly merge: (one: T, other: T) => T
  readonly retire: (value: T, stats: ProducerStats) => T
}
type Rules = { readonly [K in keyof ProducerSums]: Rule<ProducerSums[K]> }

/** A count of what has happened. The count stays when its process has ended, so that no sum goes back. */
const counter: Rule<number> = { merge: sum, retire: kept }
/** A count of what a process has at the moment. */
const gauge: Rule<number> = { merge: sum, retire: () => 0 }

/** The rules of all fields. A field without a rule does not compile. */
const rules: Rules = {
  stream: { merge: first, retire: kept },
  topic: { merge: first, retire: kept },
  delivery: { merge: first, retire: kept },
  accepted: counter,
  recovered: { merge: sum, retire: (recovered, stats) => recovered - leftOnDisk(stats) },
  spooled: gauge,
  buffered: gauge,
  inFlight: gauge,
  confirmed: counter,
  sent: counter,
  suspectedLost: { merge: sum, retire: (suspectedLost, stats) => suspectedLost + lostWithMemory(stats) },
  acked: counter,
  deadLettered: counter,
  dropped: { merge: sumEach, retire: kept },
  refused: { merge: sumEach, retire: kept },
  possiblyRepeated: counter,
  recordSendTotal: {
    merge: sum,
    retire: (recordSendTotal, stats) => recordSendTotal + (isOnDisk(stats) ? 0 : stats.buffered),
  },
  recordErrorTotal: {
    merge: sum,
    retire: (recordErrorTotal, stats) => recordErrorTotal + lostWithMemory(stats),
  },
  localErrorTotal: counter,
  recent: { merge: sumEach, retire: () => ({ attempts: 0, errors: 0, batches: 0, batchBytes: 0 }) },
  bufferTotalBytes: gauge,
  bufferAvailableBytes: gauge,
  // Of two workers the worse one counts: an operator has to see a worker that has lost its broker.
  connected: { merge: both, retire: () => true },
  circuitOpen: { merge: either, retire: () => false },
  available: { merge: both, retire: () => true },
  topicKnown: { merge: either, retire: kept },
  confirmation: { merge: commonMode, retire: () => confirmationModes[0]! },
  lacking: { merge: (one, other) => [...new Set([...one, ...other])], retire: () => [] },
  logEndOffsets: { merge: mergePartitions, retire: kept },
  // Each producer numbers its records by itself, under its own name.
  audit: { merge: (one, other) => [...one, ...other], retire: kept },
  spool: { merge: mergeSpools, retire: retireSpool },
}

const fields = Object.keys(rules) as (keyof ProducerSums)[]

/**
 * Adds up the stats that several gateways have of the same streams. An equation that holds in the stats of each gateway holds in the
 * sum: accepted = pending + outcomes.
 * @param gateways the stats of each gateway, a member a stream. The sum has the streams in the order in which they are first met.
 */
export function mergeStats(gateways: readonly (readonly ProducerStats[])[]): ProducerStats[] {
  const byStream = new Map<string, ProducerSums>()
  for (const stats of gateways.flat()) {
    // A stream that is removed and added again can have another topic. Metrics have both in their labels.
    const key = `${stats.stream} ${stats.topic}`
    const known = byStream.get(key)
    byStream.set(key, known === undefined ? stats : mergeSums(known, stats))
  }
  return Array.from(byStream.values(), withRatios)
}

/**
 * The stats of a gateway that has ended, in the form in which they are added to the stats of the others: its counters. The records that
 * the gateway still held went with its memory. Nobody knows whether they were written and arrived, so they are suspected lost. The records
 * of a durable stream are on disk. The process that opens the spool next counts them as recovered.
 */
export function retireStats(stats: ProducerStats): ProducerStats {
  const retired: Record<string, unknown> = {}
  for (const key of fields) retired[key] = retireField(key, stats)
  return withRatios(retired as unknown as ProducerSums)
}

/**
 * The stats of a durable stream whose process has ended, as long as no other process has opened its spool: its counters, and the records
 * on disk.
 */
export function leaveOnDisk(stats: ProducerStats): ProducerStats {
  const { recovered, spool } = stats
  return { ...retireStats(stats), recovered, spooled: leftOnDisk(stats), spool }
}

/**
 * The stats of {@link leaveOnDisk} once the next process has opened the spool and found `recovered` records. Records that it did not find had
 * got their outcome after the last report of the process before. They count as acknowledged, which is the usual outcome: `recovered` over
 * both processes is a counter, and may not go back.
 */
export function succeedStats(left: ProducerStats, recovered: number): ProducerStats {
  const done = Math.max(0, left.spooled - recovered)
  const { spool, ...retired } = retireStats(left)
  return withRatios({
    ...retired,
    recovered: retired.recovered + done,
    acked: retired.acked + done,
    recordSendTotal: retired.recordSendTotal + done,
    spool: spool === null ? null : { ...spool, drained: spool.drained + done },
  })
}

/** The stats of a producer that shares its memory, and its room on disk, with another producer of the stream: those count once. */
export function withoutCeilings(stats: ProducerStats): ProducerStats {
  const { spool } = stats
  return {
    ...stats,
    bufferTotalBytes: 0,
    bufferAvailableBytes: 0,
    spool: spool === null ? null : { ...spool, maxBytes: 0 },
  }
}

/**
 * Whether the records of a stream are on disk. A stream that was durable, went and came back without its disk keeps the counters of its spool,
 * and what it holds now goes with its memory.
 */
export function isOnDisk({ spool }: Pick<ProducerStats, 'spool'>): boolean {
  return spool !== null && spool.maxBytes > 0
}

/** Records that went with the memory of a process. */
function lostWithMemory(stats: ProducerStats): number {
  return isOnDisk(stats) ? 0 : stats.buffered + stats.inFlight
}

/** Records that a process left on disk. */
function leftOnDisk(stats: ProducerStats): number {
  return isOnDisk(stats) ? stats.buffered + stats.inFlight + stats.spooled : 0
}

function mergeSpools(one: SpoolStats | null, other: SpoolStats | null): SpoolStats | null {
  if (one === null || other === null) return one ?? other
  return {
    records: one.records + other.records,
    bytes: one.bytes + other.bytes,
    maxBytes: one.maxBytes + other.maxBytes,
    oldestAgeSeconds: Math.max(one.oldestAgeSeconds, other.oldestAgeSeconds),
    drained: one.drained + other.drained,
    writeFailures: one.writeFailures + other.writeFailures,
    readFailures: one.readFailures + other.readFailures,
    available: one.available && other.available,
  }
}

function retireSpool(spool: SpoolStats | null): SpoolStats | null {
  if (spool === null) return null
  const { drained, writeFailures, readFailures } = spool
  return {
    records: 0,
    bytes: 0,
    maxBytes: 0,
    oldestAgeSeconds: 0,
    drained,
    writeFailures,
    readFailures,
    available: true,
  }
}

function mergeSums(one: ProducerSums, other: ProducerSums): ProducerSums {
  const merged: Record<string, unknown> = {}
  for (const key of fields) merged[key] = mergeField(key, one, other)
  return merged as unknown as ProducerSums
}

function mergeField<K extends keyof ProducerSums>(
  key: K,
  one: ProducerSums,
  other: ProducerSums,
): ProducerSums[K] {
  return rules[key].merge(one[key], other[key])
}

function retireField<K extends keyof ProducerSums>(key: K, stats: ProducerStats): ProducerSums[K] {
  return rules[key].retire(stats[key], stats)
}

/** Each producer saw the log at moments of its own. The merged progress is from the first look of all to the last look of all. */
function mergePartitions(
  one: readonly PartitionProgress[],
  other: readonly PartitionProgress[],
): PartitionProgress[] {
  const merged = new Map(one.map((partition) => [partition.partition, partition]))
  for (const theirs of other) {
    const ours = merged.get(theirs.partition) ?? { ...theirs, written: 0 }
    merged.set(theirs.partition, {
      partition: theirs.partition,
      baseOffset: Math.min(ours.baseOffset, theirs.baseOffset),
      logEndOffset: Math.max(ours.logEndOffset, theirs.logEndOffset),
      written: ours.written + theirs.written,
    })
  }
  return [...merged.values()].toSorted((a, b) => a.partition - b.partition)
}

function first<T>(one: T): T {
  return one
}

function kept<T>(value: T): T {
  return value
}

function sum(one: number, other: number): number {
  return one + other
}

function both(one: boolean, other: boolean): boolean {
  return one && other
}

function either(one: boolean, other: boolean): boolean {
  return one || other
}

function sumEach<T extends Readonly<Record<string, number>>>(one: T, other: T): T {
  const sums: Record<string, number> = { ...one }
  for (const [key, count] of Object.entries(other)) sums[key] = (sums[key] ?? 0) + count
  return sums as T
}
