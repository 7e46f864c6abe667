import { inParts, type Step } from '../../dedupe/steps.ts'
import { lastStep, manyEvents } from './part-steps.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import { outcomeTraits, type DropReason, type Outcome } from '../../kafka/producer/outcome.ts'
import { topicOf, type PendingBatch, type Producer, type Settlement } from '../../kafka/producer/producer.ts'
import { RecordBytes } from '../../kafka/protocol/record-bytes.ts'

/** The outcome of one event, in a reply to `Prefer: wait`. */
export interface EventOutcome {
  readonly index: number
  /** `duplicate`: the event was accepted before, and was not written again. */
  readonly outcome: Outcome | 'duplicate'
  readonly reason: DropReason | null
  readonly topic: string
  readonly partition: number | null
  /** A string, since offsets have 64 bits; null if the broker did not tell it. */
  readonly offset: string | null
}

/**
 * The outcomes of the good events of one request, in their order. An outcome becomes an object when it is asked for: the objects of 10,000 events,
 * all alive at the same time, make V8's collections of the young generation take tens of milliseconds.
 */
export interface Outcomes {
  readonly count: number
  /** Every outcome is a success for the client. */
  readonly isDelivered: boolean
  /** Makes those of the events at [from, to). */
  slice(from: number, to: number): EventOutcome[]
}

/** The events of one request that are in one batch of the producer. */
interface Share {
  /** Place among the shares of the request. */
  readonly nth: number
  readonly topic: string
  count: number
  /** The places of the first and of the last of the events in the batch. */
  readonly firstPlace: number
  lastPlace: number
  /** One, unless the batch was split, or its records moved to other batches. */
  readonly settlements: Settled[]
}

type Settled = Settlement & { readonly outcome: Outcome }

/** Takes records: a producer, or the commit of a large request. */
export type Appender = Pick<Producer, 'append'>

/** Appends the good events at [from, to) of a request, for which room is reserved. */
export function append(producer: Appender, batch: EventBatch, from = 0, to = batch.good): void {
  record.timestampMs = Date.now()
  record.headed(batch.headers)
  for (let good = from; good < to; good++) producer.append(recordOf(batch, good))
}

/** Appends the good events of a request, for which room is reserved, and waits for what becomes of them. */
export class AwaitedAppend implements Outcomes {
  readonly count: number
  isDelivered = true
  readonly #producer: Producer
  readonly #appender: Appender
  readonly #batch: EventBatch
  readonly #done: (outcomes: Outcomes | null) => void
  readonly #timer: NodeJS.Timeout
  readonly #shares: Share[] = []
  /** By the producer's batch. */
  readonly #shareOfBatch = new Map<PendingBatch, Share>()
  /** Of each event: the place of its share, and its own place in the producer's batch. */
  readonly #shareOfEvent: Int32Array
  readonly #places: Int32Array
  #appended = 0
  #open: number
  #isFinished = false

  /**
   * @param options.done is called once: with the outcomes, or with null when `waitMs` ran out or the gateway ends before the outcomes are
   * known.
   * @param options.appender takes the records.
   */
  constructor(
    producer: Producer,
    batch: EventBatch,
    {
      waitMs,
      done,
      appender,
    }: { waitMs: number; done: (outcomes: Outcomes | null) => void; appender: Appender },
  ) {
    this.#producer = producer
    this.#appender = appender
    this.#batch = batch
    this.#done = done
    this.count = this.#open = batch.good
    this.#shareOfEvent = new Int32Array(batch.good)
    this.#places = new Int32Array(batch.good)
    this.#timer = setTimeout(() => this.#finish(null), waitMs)
  }

  /** Appends the events at [from, to), which follow those of the call before. The last ones make the producer hurry. */
  append(from = 0, to = this.#batch.good): void {
    record.timestampMs = Date.now()
    record.headed(this.#batch.headers)
    for (let good = from; good < to; good++) {
      const pending = this.#appender.append(recordOf(this.#batch, good))
      // An appended record is the last of its batch.
      const place = pending.recordCount - 1
      const share = this.#shareOfBatch.get(pending) ?? this.#shareIn(pending, place)
      share.count++
      share.lastPlace = place
      this.#shareOfEvent[good] = share.nth
      this.#places[good] = place
      this.#appended = good + 1
    }
    if (to === this.#batch.good) for (const pending of this.#shareOfBatch.keys()) pending.hurry()
  }

  /** @inheritdoc */
  slice(from: number, to: number): EventOutcome[] {
    const outcomes: EventOutcome[] = []
    for (let good = from; good < to; good++) outcomes.push(this.#outcomeOf(good))
    return outcomes
  }

  #shareIn(pending: PendingBatch, firstPlace: number): Share {
    const topic = topicOf(this.#producer, record.topic)
    const nth = this.#shares.length
    const share: Share = { nth, topic, count: 0, firstPlace, lastPlace: firstPlace, settlements: [] }
    this.#shares.push(share)
    this.#shareOfBatch.set(pending, share)
    // The batch may be full, and have its outcome, before the last event is appended.
    pending.onSettled((settlement) => this.#settled(share, settlement))
    return share
  }

  #settled(share: Share, settlement: Settlement): void {
    const { outcome } = settlement
    if (outcome === 'pending') return this.#finish(null)
    const count = this.#countIn(share, settlement)
    if (count === 0) return
    share.settlements.push({ ...settlement, outcome })
    this.isDelivered &&= isDelivered(outcome)
    this.#open -= count
    if (this.#open === 0) this.#finish(this)
  }

  /** How many of the events have their outcome by a settlement of their batch. */
  #countIn(share: Share, settlement: Settlement): number {
    if (hasPlace(settlement, share.firstPlace) && hasPlace(settlement, share.lastPlace)) return share.count
    let count = 0
    for (let good = 0; good < this.#appended; good++) {
      if (this.#shareOfEvent[good] === share.nth && hasPlace(settlement, this.#places[good]!)) count++
    }
    return count
  }

  #outcomeOf(good: number): EventOutcome {
    const { topic, settlements } = this.#shares[this.#shareOfEvent[good]!]!
    const place = this.#places[good]!
    let nth = 0
    while (!hasPlace(settlements[nth]!, place)) nth++
    const settlement = settlements[nth]!
    return outcomeOf(this.#batch.indexOf(good), topic, settlement, place - settlement.firstPlace)
  }

  #finish(outcomes: Outcomes | null): void {
    if (this.#isFinished) return
    this.#isFinished = true
    clearTimeout(this.#timer)
    this.#done(outcomes)
  }
}

/** Whether a settlement is that of the record at a place of the batch. */
function hasPlace({ firstPlace, recordCount }: Settlement, place: number): boolean {
  return place >= firstPlace && place < firstPlace + recordCount
}

/** The outcomes of events that were dropped since the buffer is full. */
export function droppedOutcomes(producer: Producer, batch: EventBatch): Outcomes {
  const outcomeAt = (good: number): EventOutcome => ({
    index: batch.indexOf(good),
    outcome: 'dropped',
    reason: 'buffer_full',
    topic: topicOf(producer, batch.ranges.topic(good)),
    partition: null,
    offset: null,
  })
  const slice = (from: number, to: number): EventOutcome[] =>
    Array.from({ length: to - from }, (_, nth) => outcomeAt(from + nth))
  return { count: batch.good, isDelivered: false, slice }
}

/** The outcomes of all accepted events, in their order. An event that was accepted before has the outcome `duplicate`. */
export function withDuplicates(
  { producer }: { readonly producer: Producer },
  batch: EventBatch,
  outcomes: Outcomes,
): Pick<Outcomes, 'count' | 'slice'> {
  if (batch.duplicates.length === 0) return outcomes
  const duplicates = batch.duplicates.map((index, nth): EventOutcome => ({
    index,
    outcome: 'duplicate',
    reason: null,
    topic: topicOf(producer, batch.duplicateTopics[nth]!),
    partition: null,
    offset: null,
  }))
  const all = [...outcomes.slice(0, outcomes.count), ...duplicates]
  all.sort((one, other) => one.index - other.index)
  return { count: all.length, slice: (from, to) => all.slice(from, to) }
}

/** Writes the outcomes of many events as the elements of a JSON array, a part a step. @param done gets them without the brackets. */
export function writingOutcomes(
  outcomes: Pick<Outcomes, 'count' | 'slice'>,
  done: (json: Buffer) => void,
): Step {
  const parts: Buffer[] = []
  const write = (from: number, to: number): void => {
    const text = JSON.stringify(outcomes.slice(from, to)).slice(1, -1)
    parts.push(Buffer.from(from === 0 ? text : `,${text}`))
  }
  const end = lastStep(() => done(Buffer.concat(parts)))
  return inParts(outcomes.count, manyEvents, write, end)
}

/** Whether an outcome is a success for the client. `sent` is one, since nothing more is known with `confirm: off`. */
export function isDelivered(outcome: EventOutcome['outcome']): boolean {
  return outcome === 'duplicate' || outcomeTraits[outcome].isDelivered
}

/** Whether the client can send an event again without making a second one. */
export function isGone(outcome: EventOutcome['outcome']): boolean {
  return outcome !== 'duplicate' && outcomeTraits[outcome].isGone
}

/** Moves {@link record} to a good event. */
function recordOf({ body, ranges }: EventBatch, good: number): RecordBytes {
  record.topic = ranges.topic(good)
  record.value(body, ranges.start(good), ranges.end(good))
  return record.keyed(ranges.key(good, body), ranges.keyStart(good), ranges.keyEnd(good))
}

/** One for all events: a producer copies the bytes before `append` returns. */
const record = new RecordBytes()

function outcomeOf(index: number, topic: string, settlement: Settled, place: number): EventOutcome {
  const { outcome, reason, partition, baseOffset } = settlement
  const offset = baseOffset === null ? null : offsetAt(baseOffset, place)
  // A record without a key that was never written has no partition.
  return { index, outcome, reason, topic, partition: partition < 0 ? null : partition, offset }
}

/** Additions of bigints are slow, and an offset that needs one is rare. */
function offsetAt(baseOffset: bigint, place: number): string {
  const sum = Number(baseOffset) + place
  return String(Number.isSafeInteger(sum) ? sum : baseOffset + BigInt(place))
}
