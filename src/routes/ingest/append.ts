import type { EventBatch } from '../../events/event-batch.ts'
import { outcomeTraits, type DropReason, type Outcome } from '../../kafka/producer/outcome.ts'
import type { PendingBatch, Producer, Settlement } from '../../kafka/producer/producer.ts'
import { RecordBytes } from '../../kafka/protocol/record-bytes.ts'

/** What became of one event, as a reply to `Prefer: wait` tells it. */
export interface EventOutcome {
  readonly index: number
  /** `duplicate`: it was accepted before, and was not written again. */
  readonly outcome: Outcome | 'duplicate'
  readonly reason: DropReason | null
  readonly topic: string
  readonly partition: number | null
  /** A string, since offsets have 64 bits; null where the broker did not tell it. */
  readonly offset: string | null
}

/** The events of one request in a batch of the producer: which, and at which place each. */
interface Share {
  readonly events: number[]
  readonly places: number[]
}

/** Appends the good events of a request, for which room is reserved. */
export function append(producer: Producer, batch: EventBatch): void {
  record.timestampMs = Date.now()
  const count = batch.good
  for (let good = 0; good < count; good++) producer.append(recordOf(batch, good))
}

/**
 * Appends the good events of a request, for which room is reserved, and waits for what becomes of them.
 * @param options.done is called once: with an outcome for each good event in order, or with null when `waitMs` ran out or
 * the gateway ends before the outcomes are known.
 */
export function appendAndWait(
  producer: Producer,
  batch: EventBatch,
  { waitMs, done }: { waitMs: number; done: (outcomes: EventOutcome[] | null) => void },
): void {
  const shares = appendToShares(producer, batch)
  const outcomes: Omit<EventOutcome, 'index'>[] = []
  let open = batch.good
  let finished = false
  const finish = (result: EventOutcome[] | null): void => {
    if (finished) return
    finished = true
    clearTimeout(timer)
    done(result)
  }
  const timer = setTimeout(() => finish(null), waitMs)
  for (const [pending, share] of shares) {
    pending.onSettled((settlement) => {
      const { outcome } = settlement
      if (outcome === 'pending') return finish(null)
      share.events.forEach((good, nth) => {
        const place = share.places[nth]! - settlement.firstPlace
        if (place < 0 || place >= settlement.recordCount) return
        outcomes[good] = outcomeOf(producer.stream.topic, { ...settlement, outcome }, place)
        open--
      })
      if (open > 0) return
      finish(outcomes.map((each, good) => ({ index: batch.indexOf(good), ...each })))
    })
    pending.hurry()
  }
}

/** The outcome of events that were dropped on the spot. */
export function droppedOutcomes(producer: Producer, batch: EventBatch): EventOutcome[] {
  return Array.from({ length: batch.good }, (_, good) => ({
    index: batch.indexOf(good),
    outcome: 'dropped',
    reason: 'buffer_full',
    topic: producer.stream.topic,
    partition: null,
    offset: null,
  }))
}

/** The outcomes of all accepted events, in their order: of those that were accepted before, only that is known. */
export function withDuplicates(
  { producer }: { readonly producer: Producer },
  batch: EventBatch,
  outcomes: readonly EventOutcome[],
): readonly EventOutcome[] {
  if (batch.duplicates.length === 0) return outcomes
  const place = { reason: null, topic: producer.stream.topic, partition: null, offset: null }
  const duplicates = batch.duplicates.map((index): EventOutcome => ({
    index,
    outcome: 'duplicate',
    ...place,
  }))
  return [...outcomes, ...duplicates].toSorted((one, other) => one.index - other.index)
}

/** Whether an outcome is one that the client hoped for. `sent` is all that there is to know with confirmation off. */
export function isDelivered(outcome: EventOutcome['outcome']): boolean {
  return outcome === 'duplicate' || outcomeTraits[outcome].isDelivered
}

/** Whether sending an event again makes no second one. */
export function isGone(outcome: EventOutcome['outcome']): boolean {
  return outcome !== 'duplicate' && outcomeTraits[outcome].isGone
}

function appendToShares(producer: Producer, batch: EventBatch): Map<PendingBatch, Share> {
  const shares = new Map<PendingBatch, Share>()
  record.timestampMs = Date.now()
  for (let good = 0; good < batch.good; good++) {
    const pending = producer.append(recordOf(batch, good))
    const share = shares.get(pending) ?? { events: [], places: [] }
    share.events.push(good)
    // An appended record is the last of its batch.
    share.places.push(pending.recordCount - 1)
    shares.set(pending, share)
  }
  return shares
}

/** Moves {@link record} to a good event. */
function recordOf({ body, ranges }: EventBatch, good: number): RecordBytes {
  record.value(body, ranges.start(good), ranges.end(good))
  return record.keyed(ranges.key(good, body), ranges.keyStart(good), ranges.keyEnd(good))
}

/** One for all events: a producer copies the bytes before `append` returns. */
const record = new RecordBytes()

function outcomeOf(
  topic: string,
  settlement: Settlement & { readonly outcome: Outcome },
  place: number,
): Omit<EventOutcome, 'index'> {
  const { outcome, reason, partition, baseOffset } = settlement
  const offset = baseOffset === null ? null : String(baseOffset + BigInt(place))
  // A record without a key that was never written has no partition.
  return { outcome, reason, topic, partition: partition < 0 ? null : partition, offset }
}
