import type { ProducerStats } from '../kafka/producer/producer.ts'

/**
 * One stream's account as the log states it: accepted + recovered = the sum of the others. Reasons without a drop are left
 * out, and of a stream without a spool what only a spool has.
 */
export function accountOf(stats: readonly ProducerStats[]): Record<string, object> {
  return Object.fromEntries(
    stats.map((stream) => [
      stream.stream,
      {
        accepted: stream.accepted,
        ...(stream.spool !== null && { recovered: stream.recovered, spooled: stream.spooled }),
        confirmed: stream.confirmed,
        acked: stream.acked,
        sent: stream.sent,
        suspectedLost: stream.suspectedLost,
        deadLettered: stream.deadLettered,
        dropped: Object.fromEntries(Object.entries(stream.dropped).filter(([, count]) => count > 0)),
        buffered: stream.buffered,
        inFlight: stream.inFlight,
      },
    ]),
  )
}

/** Accepted records that are on disk and go to Kafka after the next start, over all streams. */
export function spooledOf(stats: readonly ProducerStats[]): number {
  return stats.reduce((sum, { spooled }) => sum + spooled, 0)
}

/** Accepted records that were dropped or are suspected lost, over all streams. */
export function lossesOf(stats: readonly ProducerStats[]): number {
  return stats.reduce(
    (sum, { dropped, suspectedLost }) =>
      sum + suspectedLost + Object.values(dropped).reduce((total, count) => total + count, 0),
    0,
  )
}
