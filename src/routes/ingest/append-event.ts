import type { EventBatch } from '../../events/event-batch.ts'
import type { PendingBatch, Producer } from '../../kafka/producer/producer.ts'

/** Appends one good event of a request, for which room is reserved. */
export function appendEvent(
  producer: Producer,
  { body, ranges }: EventBatch,
  good: number,
  nowMs: number,
): PendingBatch {
  return producer.append(
    body,
    ranges.start(good),
    ranges.end(good),
    ranges.key(good, body),
    ranges.keyStart(good),
    ranges.keyEnd(good),
    nowMs,
  )
}
