import type { DropReason } from '../kafka/producer/outcome.ts'
import type { ProducerStats, SpoolStats } from '../kafka/producer/producer.ts'
import { withRatios } from '../kafka/producer/producer-stats.ts'

/** What a spool knows beside the producer behind it. */
export interface SpoolAccount {
  /** Records that were committed, or dropped on the spot. */
  readonly accepted: number
  readonly recovered: number
  /** Records that were on disk and never get to the producer. */
  readonly dropped: Readonly<Partial<Record<DropReason, number>>>
  /** Suspected lost before the end began: these are outcomes. What comes later is on disk. Null: it has not begun. */
  readonly suspectedBefore: number | null
  /** Records that go again though Kafka may have them, beside those that the producer knows of. */
  readonly possiblyRepeated: number
  readonly spool: SpoolStats
}

/**
 * The account of a durable stream, from the producer's and the spool's. What the producer gives up when the process ends
 * is no loss: it is on disk, and goes with the next one.
 */
export function accountWithSpool(inner: ProducerStats, own: SpoolAccount): ProducerStats {
  const dropped = { ...inner.dropped }
  let droppedHere = 0
  for (const [reason, count] of Object.entries(own.dropped)) {
    dropped[reason as DropReason] += count
    droppedHere += count
  }
  const suspectedLost = own.suspectedBefore ?? inner.suspectedLost
  const dropsLeft = dropped.shutdown
  const left = dropsLeft + inner.suspectedLost - suspectedLost
  dropped.shutdown = 0
  return withRatios({
    ...inner,
    accepted: own.accepted,
    recovered: own.recovered,
    spooled: own.accepted + own.recovered - inner.accepted - droppedHere + left,
    suspectedLost,
    possiblyRepeated: inner.possiblyRepeated + own.possiblyRepeated,
    dropped,
    recordSendTotal: inner.recordSendTotal + droppedHere,
    recordErrorTotal: inner.recordErrorTotal + droppedHere - left,
    localErrorTotal: inner.localErrorTotal + droppedHere - dropsLeft,
    spool: own.spool,
  })
}
