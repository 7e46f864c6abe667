import type { ProducerStats } from './producer.ts'

/**
 * The accounts as log lines state them, by stream. In each, accepted + recovered = the sum of all other counts. A drop
 * reason with no drops is left out. A stream without a spool has neither `recovered` nor `spooled`.
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

/** Accepted records of all streams that are on disk. The next start of the gateway sends them to Kafka. */
export function spooledOf(stats: readonly ProducerStats[]): number {
  return stats.reduce((sum, { spooled }) => sum + spooled, 0)
}

/** Accepted records of all streams that were dropped or are suspected lost. */
export function lossesOf(stats: readonly ProducerStats[]): number {
  return stats.reduce(
    (sum, { dropped, suspectedLost }) =>
      sum + suspectedLost + Object.values(dropped).reduce((total, count) => total + count, 0),
    0,
  )
}
