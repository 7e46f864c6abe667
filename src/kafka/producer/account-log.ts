import { countOf, keptOutcomes, outcomeTraits, type OutcomeCounts } from './outcome.ts'
import type { ProducerStats } from './producer.ts'

/**
 * The accounts as log lines state them, by stream, or by `STREAM/TOPIC` where a stream has several topics. In each account, accepted + recovered = the sum of all other counts. A drop
 * reason with no drops is left out. A stream without a spool has neither `recovered` nor `spooled`.
 */
export function accountOf(stats: readonly ProducerStats[]): Record<string, object> {
  return Object.fromEntries(
    stats.map((stream) => [
      stats.some((other) => other !== stream && other.stream === stream.stream)
        ? `${stream.stream}/${stream.topic}`
        : stream.stream,
      {
        accepted: stream.accepted,
        ...(stream.spool !== null && { recovered: stream.recovered, spooled: stream.spooled }),
        ...outcomesOf(stream),
        buffered: stream.buffered,
        inFlight: stream.inFlight,
      },
    ]),
  )
}

/** The counts of a stream's outcomes, in the order of the log line. */
function outcomesOf(stream: ProducerStats): Readonly<Record<keyof OutcomeCounts, unknown>> {
  return {
    confirmed: stream.confirmed,
    acked: stream.acked,
    sent: stream.sent,
    suspectedLost: stream.suspectedLost,
    deadLettered: stream.deadLettered,
    dropped: Object.fromEntries(Object.entries(stream.dropped).filter(([, count]) => count > 0)),
  }
}

/** Accepted records of all streams that are on disk. The next start of the gateway sends them to Kafka. */
export function spooledOf(stats: readonly ProducerStats[]): number {
  return stats.reduce((sum, { spooled }) => sum + spooled, 0)
}

/** Accepted records of all streams that are lost, as far as can be known (`isLoss` in `outcome.ts`). */
export function lossesOf(stats: readonly ProducerStats[]): number {
  let losses = 0
  for (const stream of stats) {
    for (const outcome of lostOutcomes) losses += countOf(stream, outcome)
    for (const count of Object.values(stream.dropped)) losses += count
  }
  return losses
}

const lostOutcomes = keptOutcomes.filter((outcome) => outcomeTraits[outcome].isLoss)
