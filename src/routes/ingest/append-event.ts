import type { EventBatch } from '../../events/event-batch.ts'
import type { PendingBatch, Producer } from '../../kafka/producer/producer.ts'
import { RecordBytes } from '../../kafka/protocol/record-bytes.ts'

/** Appends one good event of a request, for which room is reserved. */
export function appendEvent(
  producer: Producer,
  { body, ranges }: EventBatch,
  good: number,
  nowMs: number,
): PendingBatch {
  record.value(body, ranges.start(good), ranges.end(good))
  record.keyed(ranges.key(good, body), ranges.keyStart(good), ranges.keyEnd(good))
  record.timestampMs = nowMs
  return producer.append(record)
}

/** One for all events: a producer copies the bytes before `append` returns. */
const record = new RecordBytes()
