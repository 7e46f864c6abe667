import { commonMode } from './outcome.ts'
import type { PartitionProgress, ProducerStats, SpoolStats } from './producer.ts'

/**
 * What is derived from the sums of a stream's stats. It is derived here only, so that one producer and the sum over
 * several go by the same rule: a ratio is never the mean of ratios.
 */
type Ratios = Pick<ProducerStats, 'recordErrorRate' | 'batchSizeAvg' | 'lossRatio'>

/** A stream's stats without what can be derived from them: each of these can be added up, or picked, over producers. */
export type ProducerSums = Omit<ProducerStats, keyof Ratios>

/** Completes a stream's stats: the ratios are set in `sums` itself, since a copy costs more than all that is read for it. */
export function withRatios(sums: ProducerSums): ProducerStats {
  const { recent, confirmed, acked, deadLettered, suspectedLost } = sums
  const stats = sums as { -readonly [K in keyof ProducerStats]: ProducerStats[K] }
  stats.recordErrorRate = errorRateOf(recent)
  stats.batchSizeAvg = ratio(recent.batchBytes, recent.batches)
  stats.lossRatio = {
    producer: ratio(sums.localErrorTotal, sums.recordSendTotal),
    barrier: ratio(suspectedLost, confirmed + acked + deadLettered + suspectedLost),
    broker: brokerLossOf(sums.logEndOffsets),
  }
  return stats
}

/** Errors as a part of attempts, 0 to 1. An error can be seen after its attempt has left the window. */
export function errorRateOf({ attempts, errors }: { attempts: number; errors: number }): number {
  return ratio(errors, Math.max(errors, attempts))
}

/** Records that did not arrive ÷ records written, 0 to 1; null until something was written and looked at. */
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

type Rule<T> = (one: T, other: T) => T
type Rules = { readonly [K in keyof ProducerSums]: Rule<ProducerSums[K]> }

/** How the accounts of one stream in several processes become one. A field without a rule does not compile. */
const rules: Rules = {
  stream: first,
  topic: first,
  delivery: first,
  accepted: sum,
  recovered: sum,
  spooled: sum,
  buffered: sum,
  inFlight: sum,
  confirmed: sum,
  sent: sum,
  suspectedLost: sum,
  acked: sum,
  deadLettered: sum,
  dropped: sumEach,
  refused: sumEach,
  possiblyRepeated: sum,
  recordSendTotal: sum,
  recordErrorTotal: sum,
  localErrorTotal: sum,
  recent: sumEach,
  bufferTotalBytes: sum,
  bufferAvailableBytes: sum,
  // The worse of the two: an operator has to see a worker that has lost its broker.
  connected: both,
  circuitOpen: either,
  topicKnown: both,
  confirmation: commonMode,
  lacking: (one, other) => [...new Set([...one, ...other])],
  logEndOffsets: mergePartitions,
  // Each producer numbers by itself, under its own name.
  audit: (one, other) => [...one, ...other],
  spool: mergeSpools,
}

const fields = Object.keys(rules) as (keyof ProducerSums)[]

/**
 * Adds up what several gateways say of the same streams. Sums stay true: what holds for each (accepted = pending +
 * outcomes) holds for the whole.
 * @param gateways each with its streams; the order is that of the first who has a stream.
 */
export function mergeStats(gateways: readonly (readonly ProducerStats[])[]): ProducerStats[] {
  const byStream = new Map<string, ProducerSums>()
  for (const stats of gateways.flat()) {
    const known = byStream.get(stats.stream)
    byStream.set(stats.stream, known === undefined ? stats : mergeSums(known, stats))
  }
  return Array.from(byStream.values(), withRatios)
}

/**
 * What remains of the stats of a gateway that has ended, to be added to those of the others: its counters. What it still
 * held is gone with its memory: whether it was written, and arrived, nobody can say, so it is suspected lost. What a durable
 * stream held is on disk: whoever opens its spool next counts it as recovered.
 */
export function retireStats(stats: ProducerStats): ProducerStats {
  const held = stats.buffered + stats.inFlight
  const lost = stats.spool === null ? held : 0
  return withRatios({
    ...stats,
    recovered: stats.recovered - (stats.spool === null ? 0 : held + stats.spooled),
    spooled: 0,
    spool: stats.spool === null ? null : retireSpool(stats.spool),
    buffered: 0,
    inFlight: 0,
    suspectedLost: stats.suspectedLost + lost,
    recordSendTotal: stats.recordSendTotal + stats.buffered,
    recordErrorTotal: stats.recordErrorTotal + lost,
    recent: { attempts: 0, errors: 0, batches: 0, batchBytes: 0 },
    bufferTotalBytes: 0,
    bufferAvailableBytes: 0,
    connected: true,
    circuitOpen: false,
    topicKnown: true,
    confirmation: 'log_end',
    lacking: [],
  })
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

function retireSpool(spool: SpoolStats): SpoolStats {
  return { ...spool, records: 0, bytes: 0, maxBytes: 0, oldestAgeSeconds: 0, available: true }
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
  return rules[key](one[key], other[key])
}

/** Each of them saw the log at moments of its own: from the first look of all to the last of all. */
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
