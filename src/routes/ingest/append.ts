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

/** The events of one request that are in one batch of the producer, and their places in that batch. */
interface Share {
  readonly topic: string
  readonly events: number[]
  readonly places: number[]
}

/** Takes records: a producer, or the commit of a large request. */
export type Appender = Pick<Producer, 'append'>

/** Appends the good events at [from, to) of a request, for which room is reserved. */
export function append(producer: Appender, batch: EventBatch, from = 0, to = batch.good): void {
  record.timestampMs = Date.now()
  record.headed(batch.headers)
  for (let good = from; good < to; good++) producer.append(recordOf(batch, good))
}

/** Appends the good events of a request, for which room is reserved, and waits for what becomes of them. */
export class AwaitedAppend {
  readonly #producer: Producer
  readonly #appender: Appender
  readonly #batch: EventBatch
  readonly #done: (outcomes: EventOutcome[] | null) => void
  readonly #timer: NodeJS.Timeout
  /** By the producer's batch. */
  readonly #shares = new Map<PendingBatch, Share>()
  readonly #outcomes: EventOutcome[] = []
  #open: number
  #isFinished = false

  /**
   * @param options.done is called once: with an outcome for each good event in order, or with null when `waitMs` ran out or
   * the gateway ends before the outcomes are known.
   * @param options.appender takes the records.
   */
  constructor(
    producer: Producer,
    batch: EventBatch,
    {
      waitMs,
      done,
      appender,
    }: { waitMs: number; done: (outcomes: EventOutcome[] | null) => void; appender: Appender },
  ) {
    this.#producer = producer
    this.#appender = appender
    this.#batch = batch
    this.#done = done
    this.#open = batch.good
    // Batches get their outcomes in any order, and an array with large holes is slow.
    this.#outcomes.length = batch.good
    this.#timer = setTimeout(() => this.#finish(null), waitMs)
  }

  /** Appends the events at [from, to). The last ones make the producer hurry. */
  append(from = 0, to = this.#batch.good): void {
    record.timestampMs = Date.now()
    record.headed(this.#batch.headers)
    for (let good = from; good < to; good++) {
      const pending = this.#appender.append(recordOf(this.#batch, good))
      const share = this.#shares.get(pending) ?? this.#shareIn(pending, topicOf(this.#producer, record.topic))
      share.events.push(good)
      // An appended record is the last of its batch.
      share.places.push(pending.recordCount - 1)
    }
    if (to === this.#batch.good) for (const pending of this.#shares.keys()) pending.hurry()
  }

  #shareIn(pending: PendingBatch, topic: string): Share {
    const share: Share = { topic, events: [], places: [] }
    this.#shares.set(pending, share)
    // The batch may be full, and have its outcome, before the last event is appended.
    pending.onSettled((settlement) => this.#settled(share, settlement))
    return share
  }

  #settled({ topic, events, places }: Share, settlement: Settlement): void {
    const { outcome } = settlement
    if (outcome === 'pending') return this.#finish(null)
    const settled = { ...settlement, outcome }
    for (let nth = 0; nth < events.length; nth++) {
      const place = places[nth]! - settled.firstPlace
      if (place < 0 || place >= settled.recordCount) continue
      const good = events[nth]!
      this.#outcomes[good] = outcomeOf(this.#batch.indexOf(good), topic, settled, place)
      this.#open--
    }
    if (this.#open === 0) this.#finish(this.#outcomes)
  }

  #finish(outcomes: EventOutcome[] | null): void {
    if (this.#isFinished) return
    this.#isFinished = true
    clearTimeout(this.#timer)
    this.#done(outcomes)
  }
}

/** The outcomes of events that were dropped since the buffer is full. */
export function droppedOutcomes(producer: Producer, batch: EventBatch): EventOutcome[] {
  return Array.from({ length: batch.good }, (_, good) => ({
    index: batch.indexOf(good),
    outcome: 'dropped',
    reason: 'buffer_full',
    topic: topicOf(producer, batch.ranges.topic(good)),
    partition: null,
    offset: null,
  }))
}

/** The outcomes of all accepted events, in their order. An event that was accepted before has the outcome `duplicate`. */
export function withDuplicates(
  { producer }: { readonly producer: Producer },
  batch: EventBatch,
  outcomes: readonly EventOutcome[],
): readonly EventOutcome[] {
  if (batch.duplicates.length === 0) return outcomes
  const duplicates = batch.duplicates.map((index, nth): EventOutcome => ({
    index,
    outcome: 'duplicate',
    reason: null,
    topic: topicOf(producer, batch.duplicateTopics[nth]!),
    partition: null,
    offset: null,
  }))
  return [...outcomes, ...duplicates].toSorted((one, other) => one.index - other.index)
}

/** Writes the outcomes of many events as the elements of a JSON array, a part a step. @param done gets them without the brackets. */
export function writingOutcomes(outcomes: readonly EventOutcome[], done: (json: Buffer) => void): Step {
  const parts: Buffer[] = []
  const write = (from: number, to: number): void => {
    const text = JSON.stringify(outcomes.slice(from, to)).slice(1, -1)
    parts.push(Buffer.from(from === 0 ? text : `,${text}`))
  }
  const end = lastStep(() => done(Buffer.concat(parts)))
  return inParts(outcomes.length, manyEvents, write, end)
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

function outcomeOf(
  index: number,
  topic: string,
  settlement: Settlement & { readonly outcome: Outcome },
  place: number,
): EventOutcome {
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
