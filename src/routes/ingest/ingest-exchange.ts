import type { FastifyReply } from 'fastify'
import type { HttpLimits, OnBufferFull, StreamConfig } from '../../config/config.ts'
import type { Claim, Deduplicator, Verdict } from '../../dedupe/deduplicator.ts'
import type { GatewayError } from '../../errors.ts'
import { readBody, type BodyListener, type BodySource } from '../../events/body-reader.ts'
import { recycleBody } from '../../events/body-room.ts'
import type { BodyKind } from '../../events/content-type.ts'
import { decodeEvents, type DecodingLeft } from '../../events/decode.ts'
import { EventBatch } from '../../events/event-batch.ts'
import type { Logger } from '../../logger.ts'
import type { CommitListener } from '../../kafka/producer/producer.ts'
import { admit, refuseInvalid, spoolUnavailable, spoolUndecided, type Admission } from './admit.ts'
import { appendEvent } from './append-event.ts'
import { appendAndWait, droppedOutcomes, type EventOutcome } from './await-outcomes.ts'
import type { EdgeTelemetry, EdgeTransport, HttpTimer } from '../../metrics/edge-telemetry.ts'
import { inTurns, whenFewWait, type Job } from './in-turns.ts'
import type { Preferences } from './prefer.ts'
import { replyProblem, toGatewayError } from '../problem.ts'
import { tellProblem, type Refusals } from '../refusals.ts'
import { leaveOutSeen, refuseUntold } from './tell-duplicates.ts'
import type { StreamTarget } from './stream-target.ts'

/** What the exchanges of one route share. */
export interface IngestRoute {
  readonly transport: EdgeTransport
  readonly telemetry: EdgeTelemetry
  readonly refusals: Refusals
  readonly timer: HttpTimer
  readonly limits: HttpLimits
  readonly logger: Logger
  /** The stream's setting for this route. */
  onBufferFull(stream: StreamConfig): OnBufferFull
  /**
   * Answers a request whose events were accepted.
   * @param outcomes null where nobody asked for them, or where they were not known in time.
   * @returns the status, for the durations.
   */
  succeed(exchange: IngestExchange, batch: EventBatch, outcomes: EventOutcome[] | null): number
}

/**
 * One request with events and its reply: decode, validate, leave out what was accepted before, reserve for all, append
 * all, commit where the stream is durable, answer. Invariants: there is one reply; unless it is a success nothing was accepted; every event that was
 * decoded is booked at the edge once.
 *
 * Callbacks instead of promises, and one object a request: this is the hottest path of the gateway.
 */
export class IngestExchange implements CommitListener {
  readonly target: StreamTarget
  readonly reply: FastifyReply
  readonly preferences: Preferences
  readonly #route: IngestRoute
  readonly #kind: Exclude<BodyKind, 'unsupported'>
  readonly #startedAtMs = performance.now()
  #body: Buffer | null = null
  #batch: EventBatch | null = null
  /** What is appended and not committed yet, on a durable stream. */
  #uncommitted: EventBatch | null = null
  /** Who waits was done waiting before the commit was; undefined: not so. */
  #early: EventOutcome[] | null | undefined
  #isRefused = false
  readonly #key: string | null
  /** What tells this request and its events from others, until it is known whether they are accepted. */
  #claim: Claim | null = null
  /** All of it was accepted before. */
  isReplay = false

  constructor(
    route: IngestRoute,
    target: StreamTarget,
    reply: FastifyReply,
    options: { kind: Exclude<BodyKind, 'unsupported'>; preferences: Preferences; key?: string | null },
  ) {
    this.#route = route
    this.target = target
    this.reply = reply
    this.#kind = options.kind
    this.preferences = options.preferences
    this.#key = options.key ?? null
  }

  /** Reads the body and takes it. */
  read(request: BodySource, listener: BodyListener = this.onBody): void {
    const { bodyBytes } = this.#route.limits
    if (Number(request.headers['content-length']) < hugeBodyBytes) readBody(request, bodyBytes, listener)
    else whenFewWait(() => readBody(request, bodyBytes, listener))
  }

  /** Takes what `readBody` tells. A client that is gone gets no reply, and nothing of its request is taken. */
  readonly onBody: BodyListener = (error, body) => {
    this.#body = body
    if (error === null) this.#takeAny(body)
    else if (error !== 'aborted') this.fail(error)
  }

  #takeAny(body: Buffer): void {
    if (body.length < largeBodyBytes) this.take(body)
    else inTurns(() => this.#takeSlice(() => this.#takeLarge(body)))
  }

  /** Takes the whole body and answers, at once or when there is room, or when the outcomes are known. */
  take(body: Buffer): void {
    let batch: EventBatch
    try {
      batch = this.#batchFor(body)
      decodeEvents(body, this.#kind, batch)
    } catch (error) {
      this.fail(error)
      return
    }
    this.#proceed(batch)
  }

  /** Takes an event that is made of something else than a JSON body, in a turn of its own where that is large. */
  takeMade(source: Buffer, make: (source: Buffer) => Buffer): void {
    const takeSource = (): undefined => {
      let body: Buffer
      try {
        body = make(source)
      } catch (error) {
        this.fail(error)
        return
      }
      this.#takeAny(body)
    }
    if (source.length < largeBodyBytes) takeSource()
    else inTurns(takeSource)
  }

  /** As {@link take}, for a body that is large: decodes a slice, and leaves the next one, or what follows, to do. */
  #takeLarge(body: Buffer): Job | undefined {
    const batch = this.#batchFor(body)
    const left = decodeEvents(body, this.#kind, batch, sliceBytes)
    return this.#decodeOn(batch, left)
  }

  #decodeOn(batch: EventBatch, left: DecodingLeft | undefined): Job {
    if (left === undefined) return () => this.#proceed(batch)
    return () => this.#takeSlice(() => this.#decodeOn(batch, left()))
  }

  #takeSlice(slice: Job): Job | undefined {
    try {
      return slice()
    } catch (error) {
      this.fail(error)
      return undefined
    }
  }

  /** Does a step with all events of a request: in a turn of its own where they are many. */
  #step(batch: EventBatch, step: () => undefined): void {
    if (batch.good < manyEvents) step()
    else inTurns(() => this.#takeSlice(step))
  }

  #batchFor(body: Buffer): EventBatch {
    const { producer, schema, dedupe } = this.target
    const { limits } = this.#route
    const { maxRecordBytes, needsKey } = producer
    return new EventBatch(body, { schema, limits, maxRecordBytes, needsKey, collectIds: dedupe !== null })
  }

  #proceed(batch: EventBatch): undefined {
    // Only now: of a body that cannot be decoded to its end, nobody knows how many events it has.
    this.#batch = batch
    try {
      if (this.target.dedupe === null) this.#admit(batch)
      else this.#tell(batch, this.target.dedupe)
    } catch (error) {
      this.fail(error)
    }
  }

  /** Answers with a problem. The events of the request, where they are known, were all rejected. */
  fail(error: unknown): void {
    const problem = toGatewayError(error, this.#route.logger)
    this.#claim?.release()
    this.#claim = null
    if (this.#batch !== null) {
      this.#bookRejected(this.#batch)
      if (this.#batch.accepted > 0)
        this.#route.telemetry.edge.rejected(this.#route.transport, problem.code, this.#batch.accepted)
    }
    this.#replyProblem(problem)
  }

  /** Takes out what was accepted before, if anything tells. */
  #tell(batch: EventBatch, dedupe: Deduplicator): void {
    if (batch.rejected > 0) refuseInvalid(batch, this.preferences.strict)
    if (this.target.producer.stream.exactlyOnce) refuseUntold(batch, this.#key)
    if (this.#key === null && batch.told === null) this.#admit(batch)
    else {
      const request = { key: this.#key, body: batch.body, events: batch.told }
      dedupe.claim(request, (error, verdict) => this.#told(batch, error, verdict))
    }
  }

  #told(batch: EventBatch, error: Error | null, verdict: Verdict | null): void {
    try {
      this.#claim = leaveOutSeen(batch, error, verdict)
      this.isReplay = this.#claim === null
      if (batch.rejected > 0) refuseInvalid(batch, this.preferences.strict)
      if (batch.good > 0) this.#step(batch, () => this.#admit(batch))
      else this.#acceptNothingNew(batch)
    } catch (problem) {
      this.fail(problem)
    }
  }

  #acceptNothingNew(batch: EventBatch): void {
    this.#bookAccepted(batch)
    this.#claim?.keep()
    this.#succeed(batch, null)
  }

  #admit(batch: EventBatch): undefined {
    const { producer } = this.target
    const admission = admit(batch, producer, {
      strict: this.preferences.strict,
      onBufferFull: this.#route.onBufferFull(producer.stream),
      client: this.reply.raw,
    })
    if (typeof admission === 'string') this.#accept(batch, admission)
    else admission.then((later) => this.#accept(batch, later)).catch((error: unknown) => this.fail(error))
  }

  #accept(batch: EventBatch, admission: Admission): void {
    const { producer } = this.target
    const { waitSeconds } = this.preferences
    if (admission === 'dropped') {
      // It is answered as accepted, but a retry may find room.
      this.#claim?.release()
      this.#claim = null
      this.#bookAccepted(batch)
      this.#succeed(batch, waitSeconds === null ? null : droppedOutcomes(producer, batch))
    } else if (producer.durability === null) {
      this.#bookAccepted(batch)
      if (this.#claim === null) this.#appendNow(batch)
      else {
        this.#claim.keep()
        this.#step(batch, () => this.#appendNow(batch))
      }
    } else {
      this.#uncommitted = batch
      if (waitSeconds !== null) this.#appendAndWait(batch, waitSeconds)
      else this.#append(batch)
      this.#claim?.note()
      producer.durability.commit(this)
    }
  }

  /** Appends what nothing is to be committed of, and answers, at once or when the outcomes are known. */
  #appendNow(batch: EventBatch): undefined {
    const { waitSeconds } = this.preferences
    if (waitSeconds !== null) {
      this.#appendAndWait(batch, waitSeconds)
      return undefined
    }
    this.#append(batch)
    this.#succeed(batch, null)
  }

  /** @inheritdoc */
  committed(failure: string | null, isUndecided = false): void {
    const batch = this.#uncommitted!
    if (failure === null) {
      if (this.#claim === null) this.#keepCommitted(batch)
      else this.#step(batch, () => this.#keepCommitted(batch))
      return
    }
    this.#uncommitted = null
    this.#isRefused = true
    this.fail(isUndecided ? spoolUndecided() : spoolUnavailable(this.target.producer))
  }

  #keepCommitted(batch: EventBatch): undefined {
    this.#uncommitted = null
    this.#claim?.keep()
    this.#bookAccepted(batch)
    if (this.preferences.waitSeconds === null) this.#succeed(batch, null)
    else if (this.#early !== undefined) this.#succeed(batch, this.#early)
  }

  #append(batch: EventBatch): void {
    const { producer } = this.target
    const nowMs = Date.now()
    const count = batch.good
    for (let good = 0; good < count; good++) appendEvent(producer, batch, good, nowMs)
  }

  #appendAndWait(batch: EventBatch, waitSeconds: number): void {
    appendAndWait(this.target.producer, batch, waitSeconds * 1000, (outcomes) => {
      if (this.#uncommitted !== null) this.#early = outcomes
      else if (!this.#isRefused) this.#succeed(batch, outcomes)
    })
  }

  /** From here on no error may say that nothing was accepted. */
  #bookAccepted(batch: EventBatch): void {
    const { edge } = this.#route.telemetry
    edge.accepted(this.#route.transport, batch.accepted)
    if (batch.duplicates.length > 0) edge.duplicates(this.#route.transport, batch.duplicates.length)
    this.#bookRejected(batch)
    this.#batch = null
  }

  #succeed(batch: EventBatch, outcomes: EventOutcome[] | null): void {
    try {
      this.#observe(this.#route.succeed(this, batch, outcomes))
    } catch (error) {
      // Accepted and lost, as the client is told: if it sends the request again, that is to be written.
      this.#claim?.release()
      this.#replyProblem(toGatewayError(error, this.#route.logger))
    }
  }

  #replyProblem(problem: GatewayError): void {
    const { refusals, transport } = this.#route
    refusals.refused(problem, {
      transport,
      stream: this.target.producer.stream.name,
      request: this.reply.request,
    })
    if (transport !== 'http') tellProblem(this.reply.raw, problem)
    this.#observe(problem.status)
    replyProblem(this.reply, problem)
  }

  /** It is answered: what was taken of it was copied, and nobody reads its body any more. */
  #observe(statusCode: number): void {
    if (this.#body !== null) recycleBody(this.#body)
    this.#body = null
    this.#route.timer.observe(statusCode, performance.now() - this.#startedAtMs)
  }

  #bookRejected(batch: EventBatch): void {
    if (batch.rejected === 0) return
    const { edge } = this.#route.telemetry
    for (const [code, events] of batch.rejectedByCode) edge.rejected(this.#route.transport, code, events)
  }
}

/** A body of this size takes some tens of microseconds, and a turn can bring one from each of hundreds of connections. */
const largeBodyBytes = 8_192
/** A body of this size is not read while others wait for their turn. */
const hugeBodyBytes = 131_072
/** What is decoded before others get a turn, if it is late: well below a millisecond's worth, a few where it is made to take long. */
const sliceBytes = 8_192
/** So many events are claimed, and appended, and kept in turns of their own: each step takes some milliseconds. */
const manyEvents = 1_000
