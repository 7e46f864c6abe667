import type { PartitionProgress, ProducerStats } from './producer.ts'

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
