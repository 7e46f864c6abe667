import type { EventBatch } from '../../src/events/event-batch.ts'

/** A good event of a batch, spelled out. */
export interface GoodEvent {
  readonly index: number
  readonly start: number
  readonly end: number
  readonly key: string | null
}

/** The good events of a batch, in their order. */
export function goodEvents(batch: EventBatch): GoodEvent[] {
  const { body, ranges } = batch
  return Array.from({ length: batch.good }, (_, good) => ({
    index: batch.indexOf(good),
    start: ranges.start(good),
    end: ranges.end(good),
    key: ranges.key(good, body)?.toString('utf8', ranges.keyStart(good), ranges.keyEnd(good)) ?? null,
  }))
}
