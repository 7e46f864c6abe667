import type { FastifyReply } from 'fastify'
import type { OnBufferFull, StreamConfig } from '../../config/config.ts'
import type { HttpLimits } from '../../config/limits.ts'
import type { Claim, Deduplicator, Verdict } from '../../dedupe/deduplicator.ts'
import { errorTable, type GatewayError } from '../../errors.ts'
import { recycleBody, type BodyListener, type BodySource } from '../../events/body-reader.ts'
import type { BodyKind } from '../../events/content-type.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import type { Logger } from '../../logger.ts'
import { admit, refuseInvalid, type Admission } from './admit.ts'
import {
  append,
  type Appender,
  AwaitedAppend,
  droppedOutcomes,
  withDuplicates,
  writingOutcomes,
  type Outcomes,
} from './append.ts'
import { bookDuplicates, bookRejected } from './booking.ts'
import { inParts } from '../../dedupe/steps.ts'
import { keepingParts, lastStep, manyEvents, releasingParts } from './part-steps.ts'
import { decodeInTurns, jobInTurns, largeBodyBytes, type BatchListener } from './decode-in-turns.ts'
import { appendDurably, type DurableRequest } from './durable-append.ts'
import type { EdgeTelemetry, EdgeTransport, HttpTimer } from '../../metrics/edge-telemetry.ts'
import type { Preferences } from './prefer.ts'
import { readInTurn } from './read-in-turn.ts'
import { replyProblem, toGatewayError } from '../http/problem.ts'
import type { Bounds } from '../http/bounds.ts'
import { tellProblem, type Refusals } from '../http/refusals.ts'
import type { RequestOfEvents, ShownEvents } from '../http/shown-events.ts'
import { addDelivered, leaveOutSeen, refuseUntold } from './duplicates.ts'
import { newBatch, type StreamTarget } from './stream-target.ts'
import type { RequestTrace } from '../../tracing/tracing.ts'

/** What the exchanges of one route share. */
export interface IngestRoute {
  readonly transport: EdgeTransport
  readonly telemetry: EdgeTelemetry
  readonly refusals: Refusals
  readonly shown: ShownEvents
  readonly timer: HttpTimer
  readonly limits: HttpLimits
  readonly bounds: Bounds
  readonly logger: Logger
  /** The stream's setting for this route. */
  onBufferFull(stream: StreamConfig): OnBufferFull
  /**
   * Answers a request whose events were accepted.
   * @param outcomes null where nobody asked for them, or where they were not known in time.
   * @param json the outcomes as JSON, where they are many: to write them in one go would take some milliseconds.
   * @returns the status, for the durations.
   */
  succeed(exchange: IngestExchange, batch: EventBatch, outcomes: Outcomes | null, json: Buffer | null): number
}

/**
 * One request with events and its reply: decode, validate, leave out what was accepted before, reserve for all, append
 * all, commit where the stream is durable, answer. Invariants: there is one reply; unless it is a success nothing was
 * accepted; every event that was decoded is booked at the edge once. `decode-in-turns.ts` decodes, `durable-append.ts` waits
 * for the commit. Read this file of the folder first: `ingest/` takes events from HTTP to a producer, and knows of Kafka only
 * the producer's interface.
 *
 * Callbacks instead of promises, and one object a request: this is the hottest path of the gateway.
 */
export class IngestExchange implements BatchListener, DurableRequest {
  readonly target: StreamTarget
  readonly reply: FastifyReply
  readonly preferences: Preferences
  readonly #route: IngestRoute
  readonly #kind: Exclude<BodyKind, 'unsupported'>
  readonly #startedAtMs = performance.now()
  readonly #key: string | null
  /** The spans of the request; null where there is no SDK for them. */
  readonly #trace: RequestTrace | null
  /** The body as it was received, until the request is answered. */
  #body: Buffer | null = null
  /** The events of the body, until the request is answered. */
  #batch: EventBatch | null = null
  /** What came of the body. */
  #readBytes = 0
  /** Who still reads the body: this request until it is answered, and whoever copies its invalid events. */
  #readers = 1
  /** The events, from when all of them are decoded until they are booked. */
  #unbooked: EventBatch | null = null
  /** The keys that this request has claimed, until it is known whether its events are accepted. */
  #claim: Claim | null = null
  /** All of it was accepted before. */
  isReplay = false

  constructor(
    route: IngestRoute,
    target: StreamTarget,
    options: {
      reply: FastifyReply
      kind: Exclude<BodyKind, 'unsupported'>
      preferences: Preferences
      key: string | null
    },
  ) {
    this.#route = route
    this.target = target
    this.reply = options.reply
    this.#kind = options.kind
    this.preferences = options.preferences
    this.#key = options.key
    this.#trace = options.reply.request.trace
    target.underWay.begin()
  }

  /** Reads the body and takes it, unless too many bodies are being read. */
  read(request: BodySource, listener: BodyListener = this.onBody): void {
    // A page cannot say that a beacon is compressed without a preflight. So gzip is known by its first bytes, which no JSON begins with.
    const mayBeGzip = this.#route.transport === 'beacon'
    readInTurn(this.#route, { reply: this.reply, source: request, mayBeGzip }, listener)
  }

  /** Takes what `readBody` tells. A client that is gone gets no reply, and nothing of its request is taken. */
  readonly onBody: BodyListener = (error, body, readBytes) => {
    this.#body = body
    this.#readBytes = readBytes
    if (error === null) this.#take(body)
    else if (error === 'aborted') {
      this.reply.request.charges?.chargeRefused(readBytes)
      this.target.underWay.end()
    } else this.fail(error)
  }

  /** Takes an event that is made of something else than a JSON body, in a turn of its own where that is large. */
  takeMade(source: Buffer, make: (source: Buffer) => Buffer, readBytes = source.length): void {
    this.#readBytes = readBytes
    const takeSource = (): undefined => {
      let body: Buffer
      try {
        body = make(source)
      } catch (error) {
        this.fail(error)
        return
      }
      this.#take(body)
    }
    if (source.length < largeBodyBytes) takeSource()
    else jobInTurns(this, takeSource)
  }

  /** Takes the whole body. The reply goes out at once, or when there is room, or when the outcomes are known. */
  #take(body: Buffer): void {
    this.#trace?.beginAppend(this.target.producer)
    const batch = newBatch(body, this.target, this.#route.limits, this.reply.request)
    this.#batch = batch
    decodeInTurns(batch, this.#kind, this)
  }

  /** @inheritdoc */
  decoded(batch: EventBatch): void {
    // Only now: of a body that cannot be decoded to its end, nobody knows how many events it has.
    this.#unbooked = batch
    const { charges } = this.reply.request
    if (charges === null) this.#takeNew(batch)
    else charges.chargeBody(batch.received, this.#readBytes, (problem) => this.#charged(batch, problem))
  }

  #charged(batch: EventBatch, problem: GatewayError | undefined): void {
    if (problem === undefined) this.#takeNew(batch)
    else this.fail(problem)
  }

  #takeNew(batch: EventBatch): void {
    try {
      if (this.target.dedupe === null) this.#admit(batch)
      else this.#claimNew(batch, this.target.dedupe)
    } catch (error) {
      this.fail(error)
    }
  }

  /** Asks which events are new. A request without a key and without ids is taken as it is. */
  #claimNew(batch: EventBatch, dedupe: Deduplicator): void {
    if (batch.rejected > 0) refuseInvalid(batch, this.preferences.strict)
    if (this.target.stream.exactlyOnce) refuseUntold(batch, this.#key)
    if (this.#key === null && batch.told === null) this.#admit(batch)
    else {
      const request = { key: this.#key, body: batch.body, events: batch.told }
      const isLarge = batch.good >= manyEvents
      dedupe.claim(
        request,
        (error, verdict) => this.#claimed(batch, error, verdict),
        isLarge ? (step) => jobInTurns(this, step) : null,
      )
    }
  }

  #claimed(batch: EventBatch, error: Error | null, verdict: Verdict | null): void {
    try {
      this.#claim = leaveOutSeen(batch, error, verdict)
      this.isReplay = this.#claim === null
      if (batch.rejected > 0) refuseInvalid(batch, this.preferences.strict)
      if (batch.good > 0) this.#step(batch, () => this.#admit(batch))
      else this.keep(batch, () => this.succeed(batch, null))
    } catch (problem) {
      this.fail(problem)
    }
  }

  /**
   * All new events come by here, and no repeated ones. `batch.ranges` has the place of each in `batch.body`. A rule by the clock belongs
   * here: CONTRIBUTING.md ("A rule by the clock").
   */
  #admit(batch: EventBatch): void {
    const { producer, stream } = this.target
    const admission = admit(batch, producer, {
      strict: this.preferences.strict,
      onBufferFull: this.#route.onBufferFull(stream),
      client: this.reply.raw,
    })
    if (typeof admission === 'string') this.#accept(batch, admission)
    else admission.then((later) => this.#accept(batch, later)).catch((error: unknown) => this.fail(error))
  }

  #accept(batch: EventBatch, admission: Admission): void {
    const { producer } = this.target
    if (admission === 'dropped') {
      // The client is told that the events are accepted. If it sends them again all the same, there may be room.
      // Booked in the turn of the drop, as in `#appendInMemory`.
      this.#trace?.dropped(producer, batch)
      this.#bookAccepted(batch, 'dropped')
      this.#released(() =>
        this.succeed(batch, this.preferences.waitSeconds === null ? null : droppedOutcomes(producer, batch)),
      )
    } else if (producer.durability === null) {
      if (batch.good >= manyEvents) this.#appendInParts(batch)
      else this.#appendInMemory(batch)
    } else {
      const claim = this.#claim
      appendDurably(this, batch, { durability: producer.durability, claim })
    }
  }

  #appendInMemory(batch: EventBatch): void {
    const { producer } = this.target
    // In the turn of the append, so that no scrape sees events that are accepted and no records.
    this.#bookAccepted(batch)
    this.#claim?.keep()
    const appender = this.followed(producer)
    const { waitSeconds } = this.preferences
    if (waitSeconds === null) {
      append(appender, batch)
      this.succeed(batch, null)
    } else {
      const done = (outcomes: Outcomes | null): void => this.succeed(batch, outcomes)
      new AwaitedAppend(producer, batch, { waitMs: waitSeconds * 1000, done, appender }).append()
    }
  }

  /**
   * Appends many events a part a turn. From the first part on the request is accepted. Each part is booked in the turn of its
   * append. The keys are kept behind the last record: until then a repetition finds them busy.
   */
  #appendInParts(batch: EventBatch): void {
    const { producer } = this.target
    const appender = this.followed(producer)
    const { waitSeconds } = this.preferences
    const { edge } = this.#route.telemetry
    let result: { readonly outcomes: Outcomes | null } | null = null
    let isKept = false
    const answer = (): void => {
      const outcomes = result?.outcomes ?? null
      if (isKept && result !== null) this.#step(batch, () => this.succeed(batch, outcomes))
    }
    const done = (outcomes: Outcomes | null): void => {
      result = { outcomes }
      answer()
    }
    const awaited =
      waitSeconds === null
        ? null
        : new AwaitedAppend(producer, batch, { waitMs: waitSeconds * 1000, done, appender })
    const kept = (): undefined => {
      isKept = true
      if (awaited === null) result = { outcomes: null }
      answer()
    }
    const appendPart = (from: number, to: number): void => {
      if (from === 0) this.#bookBesideGood(batch)
      edge.accepted(this.#route.transport, to - from)
      if (awaited === null) append(appender, batch, from, to)
      else awaited.append(from, to)
    }
    jobInTurns(
      this,
      inParts(batch.good, manyEvents, appendPart, () => keepingParts(this.#claim, kept)),
    )
  }

  /** Books what was committed, and calls `done`: in this turn, or in a later one where many events have to be kept. */
  keep(batch: EventBatch, done: () => void): void {
    this.#bookAccepted(batch)
    if (this.#claim === null || this.#claim.parts.length === 0) {
      this.#claim?.keep()
      done()
    } else {
      jobInTurns(this, keepingParts(this.#claim, lastStep(done)))
    }
  }

  /** @inheritdoc */
  followed(appender: Appender): Appender {
    return this.#trace === null ? appender : this.#trace.follow(appender, this.target.producer)
  }

  /** @inheritdoc */
  leaveClaim(): void {
    this.#claim = null
  }

  /** Does a step with all events of a request: in a turn of its own where they are many. */
  #step(batch: EventBatch, step: () => void): void {
    if (batch.good < manyEvents) step()
    else jobInTurns(this, lastStep(step))
  }

  /** Answers a request whose events were accepted. @param outcomes see {@link IngestRoute.succeed}. */
  succeed(batch: EventBatch, outcomes: Outcomes | null): void {
    if (outcomes === null || outcomes.count < manyEvents) this.#reply(batch, outcomes, null)
    else {
      const all = withDuplicates(this.target, batch, outcomes)
      jobInTurns(
        this,
        writingOutcomes(all, (json) => this.#reply(batch, outcomes, json)),
      )
    }
  }

  #reply(batch: EventBatch, outcomes: Outcomes | null, json: Buffer | null): void {
    try {
      this.#answered(this.#route.succeed(this, batch, outcomes, json))
    } catch (error) {
      // The client is told that its events were accepted and lost. If it sends the request again, these are written, and no event that Kafka has.
      const delivered = new Set<string>()
      const add = (from: number, to: number): void => addDelivered(delivered, batch, outcomes!, from, to)
      const end = (): void => this.#released(() => this.#replyProblem(this.#problemOf(error)), delivered)
      const count = outcomes === null ? 0 : outcomes.count
      if (count >= manyEvents) jobInTurns(this, inParts(count, manyEvents, add, lastStep(end)))
      else {
        if (count > 0) add(0, count)
        end()
      }
    }
  }

  /** Answers with a problem. The events of the request, where they are known, were all rejected. */
  fail(error: unknown): void {
    const problem = this.#problemOf(error)
    this.#released(() => this.#refuse(problem))
  }

  #problemOf(error: unknown): GatewayError {
    return toGatewayError(error, this.#route.logger, this.reply.request)
  }

  #refuse(problem: GatewayError): void {
    const batch = this.#unbooked
    if (batch === null) this.reply.request.charges?.chargeRefused(this.#readBytes)
    else {
      const { telemetry, transport } = this.#route
      bookRejected(this.#route, batch)
      if (errorTable[problem.code].tells === 'which') this.#keepInvalid(batch)
      if (batch.accepted > 0) telemetry.edge.rejected(transport, problem.code, batch.accepted)
    }
    this.#replyProblem(problem)
  }

  /**
   * Releases what was claimed, and then calls `next`: a retry that comes behind the answer finds no key of this request.
   * @param except names of keys that stay.
   */
  #released(next: () => void, except?: ReadonlySet<string>): void {
    const claim = this.#claim
    this.#claim = null
    if (claim === null || claim.parts.length === 0) {
      claim?.release(except)
      next()
    } else jobInTurns(this, releasingParts(claim, lastStep(next), except))
  }

  #bookAccepted(batch: EventBatch, fate: 'taken' | 'dropped' = 'taken'): void {
    this.#route.telemetry.edge.accepted(this.#route.transport, batch.good)
    this.#bookBesideGood(batch, fate)
  }

  /** Books what is not appended. From here on no error may say that nothing was accepted. */
  #bookBesideGood(batch: EventBatch, fate: 'taken' | 'dropped' = 'taken'): void {
    const { shown } = this.#route
    if (shown.isWatched) shown.taken(batch, this.#asRequest, fate)
    if (batch.rejected > 0) shown.rejected(batch, this.#asRequest, null)
    bookDuplicates(this.#route, batch)
    this.reply.request.accessKey?.counter.accepted(batch.accepted)
    bookRejected(this.#route, batch)
    if (!this.isReplay) this.#keepInvalid(batch)
    this.#trace?.accepted(batch)
    this.#unbooked = null
  }

  /** Hands the rejected events to the stream's `invalidTopic`, if there is one. The reply does not wait for it. */
  #keepInvalid(batch: EventBatch): void {
    const { invalid } = this.target
    if (invalid === null || batch.rejected === 0) return
    this.#readers++
    const keyName = this.reply.request.accessKey?.name ?? null
    invalid.take(batch, { transport: this.#route.transport, keyName }, () => this.#leaveBody())
  }

  #replyProblem(problem: GatewayError): void {
    const { refusals, transport } = this.#route
    // These events were accepted, and lost later.
    if (problem.code !== 'delivery_failed') this.reply.request.accessKey?.counter.refused()
    const batch = this.#unbooked
    this.#trace?.refused(problem.code)
    refusals.refused(problem, { ...this.#asRequest, batch, body: batch?.body ?? this.#body })
    if (transport !== 'http') tellProblem(this.reply.raw, problem)
    this.#answered(problem.status)
    replyProblem(this.reply, problem)
  }

  get #asRequest(): RequestOfEvents {
    const { transport } = this.#route
    return { transport, stream: this.target.stream.name, request: this.reply.request }
  }

  /** Everything that was taken of the body was copied, and nobody reads the body any more. */
  #answered(statusCode: number): void {
    this.#leaveBody()
    this.#route.timer.observe(statusCode, performance.now() - this.#startedAtMs)
    this.target.underWay.end()
  }

  #leaveBody(): void {
    if (--this.#readers > 0 || this.#body === null) return
    recycleBody(this.#body)
    this.#batch?.ranges.release()
    this.#body = this.#batch = null
  }
}
