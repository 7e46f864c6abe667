import type { ProducerStats } from '../kafka/producer/producer.ts'

/** One stream's account as the log states it: accepted = the sum of the others. Reasons without a drop are left out. */
export function accountOf(stats: readonly ProducerStats[]): Record<string, object> {
  return Object.fromEntries(
    stats.map((stream) => [
      stream.stream,
      {
        accepted: stream.accepted,
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

/** Accepted records that were dropped or are suspected lost, over all streams. */
export function lossesOf(stats: readonly ProducerStats[]): number {
  return stats.reduce(
    (sum, { dropped, suspectedLost }) =>
      sum + suspectedLost + Object.values(dropped).reduce((total, count) => total + count, 0),
    0,
  )
}
