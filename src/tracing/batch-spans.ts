import {
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Link,
  type Span,
} from '@opentelemetry/api'
import { outcomeTraits } from '../kafka/producer/outcome.ts'
import {
  topicOf,
  type PendingBatch,
  type Producer,
  type SettledBatch,
  type Settlement,
} from '../kafka/producer/producer.ts'
import type { Sdk } from './sdk.ts'

/** Records of one request that got their outcome together. */
export interface SettledRecords extends Pick<Settlement, 'outcome' | 'reason' | 'partition' | 'baseOffset'> {
  /** Has the span of the append. */
  readonly request: Context
  readonly topic: string
  /** By `performance.now()`. */
  readonly appendedAtMs: number
  count: number
}

/**
 * Writes the spans of batches and of outcomes, once the outcome is known: nothing of a span is kept before. A batch that no followed request
 * has a record in has no span.
 *
 * The span of a batch is linked to the appends of all requests in it, up to {@link mostLinks}. Its parent is the first of them, so that a
 * sampler that goes by the parent takes the batch whenever it took a request. Each request has a span for the outcome in its own trace, which
 * is linked to the batch.
 */
export class BatchSpans {
  readonly #sdk: Sdk
  readonly #mostFollowed: number
  #followed = 0
  /** What was settled in this turn, by batch and request. */
  readonly #settled = new Map<SettledBatch, Map<Context, SettledRecords>>()
  /** What was settled in this turn and was in no batch, by request. */
  readonly #unbatched = new Map<Context, SettledRecords[]>()

  /** @param mostFollowed see {@link mostFollowed}. */
  constructor(sdk: Sdk, limit = mostFollowed) {
    this.#sdk = sdk
    this.#mostFollowed = limit
  }

  /** What is followed at the moment: a request in a batch of a stream in memory, or a record of a durable stream. */
  get followed(): number {
    return this.#followed
  }

  /** Takes a place for something to follow. @returns false: all places are taken. */
  takePlace(): boolean {
    if (this.#followed >= this.#mostFollowed) return false
    this.#followed++
    return true
  }

  /** Gives a place back. */
  leavePlace(): void {
    this.#followed--
  }

  /**
   * Records of a request have their outcome. A durable stream tells it record by record.
   * @param batch null: the records were in no batch.
   */
  settled(records: SettledRecords, batch: SettledBatch | null): void {
    if (this.#sdk.isOff) return
    if (this.#settled.size + this.#unbatched.size === 0) setImmediate(() => this.flush())
    if (batch === null) return this.#addUnbatched(records)
    let requests = this.#settled.get(batch)
    if (requests === undefined) this.#settled.set(batch, (requests = new Map()))
    const before = requests.get(records.request)
    if (before === undefined) requests.set(records.request, records)
    else before.count += records.count
  }

  #addUnbatched(records: SettledRecords): void {
    const { request, topic, outcome, reason } = records
    const own = this.#unbatched.get(request)
    const before = own?.find(
      (other) => other.topic === topic && other.outcome === outcome && other.reason === reason,
    )
    if (before !== undefined) before.count += records.count
    else if (own === undefined) this.#unbatched.set(request, [records])
    else own.push(records)
  }

  /** Writes the spans of what was settled. */
  flush(): void {
    const settled = [...this.#settled]
    const unbatched = [...this.#unbatched.values()]
    this.#settled.clear()
    this.#unbatched.clear()
    this.#sdk.safely(() => {
      for (const [batch, byRequest] of settled) {
        const requests = [...byRequest.values()]
        const span = this.#batchSpan(batch, requests)
        for (const records of requests) this.#outcomeSpan(records, span)
      }
      for (const own of unbatched) for (const records of own) this.#outcomeSpan(records, null)
    })
  }

  #batchSpan(batch: SettledBatch, requests: readonly SettledRecords[]): Span {
    const { createdAtMs, writtenAtMs, attempts, recordCount, sizeBytes } = batch
    const first = requests[0]!
    const links = requests.slice(0, mostLinks).flatMap(({ request }) => linkTo(trace.getSpan(request)))
    const span = this.#sdk.tracer.startSpan(
      `send ${first.topic}`,
      {
        kind: SpanKind.CLIENT,
        startTime: timeOf(createdAtMs),
        links,
        attributes: {
          ...attributesOf(first),
          'messaging.operation.type': 'send',
          'messaging.operation.name': 'send',
          'messaging.batch.message_count': recordCount,
          'chute.batch.size_bytes': sizeBytes,
          'chute.batch.attempts': writtenAtMs === 0 ? 0 : Math.max(1, attempts),
          'chute.batch.traced_requests': requests.length,
        },
      },
      first.request,
    )
    if (writtenAtMs > 0) span.addEvent('written', timeOf(writtenAtMs))
    end(span, first)
    return span
  }

  #outcomeSpan(records: SettledRecords, batch: Span | null): void {
    const { request, topic, appendedAtMs, count } = records
    const span = this.#sdk.tracer.startSpan(
      `outcome ${topic}`,
      {
        kind: SpanKind.INTERNAL,
        startTime: timeOf(appendedAtMs),
        links: linkTo(batch),
        attributes: { ...attributesOf(records), 'messaging.batch.message_count': count },
      },
      request,
    )
    end(span, records)
  }
}

/** Follows the records of one request to their outcomes, as far as there are places ({@link BatchSpans.takePlace}). */
export class RecordsOfRequest {
  readonly #batches: BatchSpans
  readonly #request: Context
  readonly #producer: Producer
  readonly #appendedAtMs = performance.now()
  /** The request's records in each batch, until they have their outcome. */
  readonly #shares = new Map<PendingBatch, Share>()
  /** Records that are not followed: there was no place. */
  unfollowed = 0

  /** @param request has the span of the append. */
  constructor(batches: BatchSpans, request: Context, producer: Producer) {
    this.#batches = batches
    this.#request = request
    this.#producer = producer
  }

  /** The last record of `pending` is one of the request. @param topic its place in the list of the stream's topics. */
  appended(pending: PendingBatch, topic: number): void {
    const share = this.#shares.get(pending) ?? this.#follow(pending, topic)
    if (share === null) this.unfollowed++
    else {
      share.places.push(pending.recordCount - 1)
      share.open++
    }
  }

  /** The records were not accepted. Nobody tells their outcome. */
  forget(): void {
    for (const _share of this.#shares) this.#batches.leavePlace()
    this.#shares.clear()
  }

  /** @returns null: there is no place. */
  #follow(pending: PendingBatch, topic: number): Share | null {
    if (!this.#batches.takePlace()) return null
    const share: Share = { pending, topic, places: [], open: 0 }
    this.#shares.set(pending, share)
    pending.onSettled((settlement, batch) => this.#settled(share, settlement, batch ?? null))
    return share
  }

  #settled(share: Share, settlement: Settlement, batch: SettledBatch | null): void {
    const { pending, topic, places } = share
    if (this.#shares.get(pending) !== share) return
    const { outcome, reason, partition, baseOffset, firstPlace, recordCount } = settlement
    const own = places.filter((place) => place >= firstPlace && place < firstPlace + recordCount)
    if (own.length === 0) return
    share.open -= own.length
    if (share.open === 0) {
      this.#shares.delete(pending)
      this.#batches.leavePlace()
    }
    this.#batches.settled(
      {
        outcome,
        reason,
        partition,
        baseOffset: baseOffset === null ? null : baseOffset + BigInt(own[0]! - firstPlace),
        request: this.#request,
        topic: topicOf(this.#producer, topic),
        appendedAtMs: this.#appendedAtMs,
        count: own.length,
      },
      batch,
    )
  }
}

/** The records of a request in one batch. */
interface Share {
  readonly pending: PendingBatch
  /** Its place in the list of the stream's topics. */
  readonly topic: number
  /** The places of the records in the batch. */
  readonly places: number[]
  /** Records without an outcome. */
  open: number
}

/** The time of the machine at a time by `performance.now()`, in epoch milliseconds. An SDK reads the same clock when a span begins. */
function timeOf(atMs: number): number {
  return Date.now() - performance.now() + atMs
}

function end(span: Span, { outcome, reason }: SettledRecords): void {
  if (outcome !== 'pending' && outcomeTraits[outcome].isError) {
    span.setAttribute('error.type', reason ?? outcome)
    span.setStatus({ code: SpanStatusCode.ERROR })
  }
  span.end()
}

function attributesOf({ topic, outcome, reason, partition, baseOffset }: SettledRecords): Attributes {
  return {
    'messaging.system': 'kafka',
    'messaging.destination.name': topic,
    ...(partition >= 0 && { 'messaging.destination.partition.id': String(partition) }),
    ...(baseOffset !== null && { 'messaging.kafka.offset': Number(baseOffset) }),
    'chute.outcome': outcome,
    ...(reason !== null && { 'chute.reason': reason }),
  }
}

function linkTo(span: Span | null | undefined): Link[] {
  return span === null || span === undefined ? [] : [{ context: span.spanContext() }]
}

/**
 * What is followed at most, in a process. `buffer.memory` does not count what is followed, and a durable stream can have a backlog that is
 * much larger than memory. Each place holds some 2 KB.
 */
const mostFollowed = 10_000

/** What an SDK keeps by default (`OTEL_SPAN_LINK_COUNT_LIMIT`). */
const mostLinks = 128
