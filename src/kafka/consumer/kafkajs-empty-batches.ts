import response, { type FetchedPartition } from 'kafkajs/src/protocol/requests/fetch/v11/response.js'

/**
 * Takes kafkajs past batches without records. The log cleaner keeps the last batch of a producer when it has removed all of the batch's records. A fetch can
 * get such a batch alone: as the last one of a segment, or before a batch for which the fetch has no room. kafkajs sees an empty response then, and
 * fetches from the same offset for ever. So the last offset of such a batch becomes a control record, which kafkajs skips and hands to nobody.
 *
 * Brokers from Kafka 2.3 on answer with this version of the response.
 */
export function readPastEmptyBatches(): void {
  response.decode = async (payload) => {
    const decoded = await decode(payload)
    const partitions = decoded.responses.flatMap((topic) => topic.partitions)
    if (!partitions.some(({ messages }) => messages.length === 0)) return decoded
    let at = 0
    eachRecordSet(payload, (records) => {
      const { messages } = partitions[at++]!
      const lastOffset = messages.length === 0 ? lastOffsetIn(records) : null
      if (lastOffset !== null) messages.push(controlRecord(lastOffset))
    })
    return decoded
  }
}

const { decode } = response

/** Calls `onRecords` with the batches of each partition, in the order of the response. */
function eachRecordSet(payload: Buffer, onRecords: (records: Buffer) => void): void {
  // throttle_time_ms, error_code, session_id
  let at = 4 + 2 + 4
  const count = (): number => {
    const value = payload.readInt32BE(at)
    at += 4
    return value
  }
  for (let topics = count(); topics > 0; topics--) {
    at += 2 + payload.readInt16BE(at)
    for (let partitions = count(); partitions > 0; partitions--) {
      // partition, error_code, high_watermark, last_stable_offset, log_start_offset
      at += 4 + 2 + 8 + 8 + 8
      const aborted = count()
      // preferred_read_replica
      at += Math.max(0, aborted) * 16 + 4
      const size = Math.max(0, count())
      onRecords(payload.subarray(at, at + size))
      at += size
    }
  }
}

/** The last offset of the last whole batch; null if there is none. All of the batches are without records. */
function lastOffsetIn(records: Buffer): bigint | null {
  let lastOffset: bigint | null = null
  for (let at = 0; at + batchHeaderBytes <= records.length;) {
    const end = at + 12 + records.readInt32BE(at + 8)
    if (end > records.length || records[at + 16] !== 2) break
    lastOffset = records.readBigInt64BE(at) + BigInt(records.readInt32BE(at + 23))
    at = end
  }
  return lastOffset
}

function controlRecord(offset: bigint): FetchedPartition['messages'][number] {
  return {
    offset: String(offset),
    isControlRecord: true,
    key: null,
    batchContext: { inTransaction: false, producerId: '-1' },
  }
}

/** A batch up to its records. */
const batchHeaderBytes = 61
