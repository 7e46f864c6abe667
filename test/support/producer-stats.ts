import {
  countOf,
  keptOutcomes,
  outcomeTraits,
  type DropReason,
  type OutcomeCounts,
} from '../../src/kafka/producer/outcome.ts'
import type { ProducerStats } from '../../src/kafka/producer/producer.ts'

/** An account of a stream that has seen nothing yet, with what the test says otherwise. */
export function producerStats(changes: Partial<ProducerStats> = {}): ProducerStats {
  return {
    stream: 'metrics-realtime',
    topic: 'realtime-topic',
    delivery: 'at-most-once',
    accepted: 0,
    recovered: 0,
    spooled: 0,
    buffered: 0,
    inFlight: 0,
    confirmed: 0,
    sent: 0,
    suspectedLost: 0,
    acked: 0,
    deadLettered: 0,
    dropped: droppedRecords(),
    refused: {},
    possiblyRepeated: 0,
    recordSendTotal: 0,
    recordErrorTotal: 0,
    localErrorTotal: 0,
    recent: { attempts: 0, errors: 0, batches: 0, batchBytes: 0 },
    recordErrorRate: 0,
    bufferTotalBytes: 67_108_864,
    bufferAvailableBytes: 67_108_864,
    batchSizeAvg: 0,
    connected: true,
    circuitOpen: false,
    available: true,
    topicKnown: true,
    confirmation: 'log_end',
    lacking: [],
    lossRatio: { producer: 0, barrier: 0, broker: null },
    logEndOffsets: [],
    audit: [],
    spool: null,
    ...changes,
  }
}

/** Dropped records by reason, 0 unless given. */
export function droppedRecords(
  changes: Partial<Record<DropReason, number>> = {},
): Record<DropReason, number> {
  return {
    expired: 0,
    buffer_full: 0,
    shutdown: 0,
    broker_rejected: 0,
    message_too_large: 0,
    unknown_topic: 0,
    not_authorized: 0,
    invalid_timestamp: 0,
    invalid_record: 0,
    corrupt_message: 0,
    unsupported_compression_type: 0,
    policy_violation: 0,
    not_enough_replicas: 0,
    not_leader_or_follower: 0,
    spool_damaged: 0,
    encoding: 0,
    ...changes,
  }
}

/** The counts of the outcomes, as an account or its line in the log has them. */
export type Counts = Omit<OutcomeCounts, 'dropped'> & { readonly dropped: Readonly<Record<string, number>> }

/** Everything that became of records, added up. */
export function sumOfOutcomes(counts: Counts): number {
  return keptOutcomes.reduce((sum, outcome) => sum + countOf(counts, outcome), sumOfDrops(counts))
}

/** Records that the gateway says were, or may have been, lost. */
export function flaggedOf(counts: Counts): number {
  const lost = keptOutcomes.filter((outcome) => outcomeTraits[outcome].isLoss)
  return lost.reduce((sum, outcome) => sum + countOf(counts, outcome), sumOfDrops(counts))
}

/** The dropped records, for whatever reason. */
export function sumOfDrops({ dropped }: { readonly dropped: Readonly<Record<string, number>> }): number {
  return Object.values(dropped).reduce((sum, count) => sum + count, 0)
}
