import type { FastifyReply } from 'fastify'
import type { OnBufferFull, StreamConfig } from '../config/config.ts'
import type { GatewayError } from '../errors.ts'
import type { BodyListener } from '../events/body-reader.ts'
import type { BodyKind } from '../events/content-type.ts'
import { decodeEvents } from '../events/decode.ts'
import { EventBatch, type EventLimits } from '../events/event-batch.ts'
import type { CommitListener, Logger } from '../kafka/producer/producer.ts'
import { admit, spoolUnavailable, type Admission } from './admit.ts'
import { appendAndWait, droppedOutcomes, type EventOutcome } from './await-outcomes.ts'
import type { EdgeTelemetry, HttpTimer, Transport } from './edge-telemetry.ts'
import type { Preferences } from './prefer.ts'
import { replyProblem, toGatewayError } from './problem.ts'
import type { StreamTarget } from './stream-target.ts'

/** What the exchanges of one route share. */
export interface IngestRoute {
  readonly transport: Transport
  readonly telemetry: EdgeTelemetry
  readonly timer: HttpTimer
  readonly limits: EventLimits
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
 * One request with events and its reply: decode, validate, reserve for all, append all, commit where the stream is
 * durable, answer. Invariants: there is one reply; unless it is a success nothing was accepted; every event that was
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
  #batch: EventBatch | null = null
  /** What is appended and not committed yet, on a durable stream. */
  #uncommitted: EventBatch | null = null
  /** Who waits was done waiting before the commit was; undefined: not so. */
  #early: EventOutcome[] | null | undefined
  #isRefused = false

  constructor(
    route: IngestRoute,
    target: StreamTarget,
    reply: FastifyReply,
    options: { kind: Exclude<BodyKind, 'unsupported'>; preferences: Preferences },
  ) {
    this.#route = route
    this.target = target
    this.reply = reply
    this.#kind = options.kind
    this.preferences = options.preferences
  }

  /** Takes what `readBody` tells. A client that is gone gets no reply, and nothing of its request is taken. */
  readonly onBody: BodyListener = (error, body) => {
    if (error === null) this.take(body)
    else if (error !== 'aborted') this.fail(error)
  }

  /** Takes the whole body and answers, at once or when there is room, or when the outcomes are known. */
  take(body: Buffer): void {
    try {
      const batch = this.#decode(body)
      const { producer } = this.target
      const admission = admit(batch, producer, {
        strict: this.preferences.strict,
        onBufferFull: this.#route.onBufferFull(producer.stream),
        client: this.reply.raw,
      })
      if (typeof admission === 'string') this.#accept(batch, admission)
      else admission.then((later) => this.#accept(batch, later)).catch((error: unknown) => this.fail(error))
    } catch (error) {
      this.fail(error)
    }
  }

  /** Answers with a problem. The events of the request, where they are known, were all rejected. */
  fail(error: unknown): void {
    const problem = toGatewayError(error, this.#route.logger)
    if (this.#batch !== null) {
      this.#bookRejected(this.#batch)
      if (this.#batch.good > 0)
        this.#route.telemetry.edge.rejected(this.#route.transport, problem.code, this.#batch.good)
    }
    this.#replyProblem(problem)
  }

  #decode(body: Buffer): EventBatch {
    const { producer, schema } = this.target
    const { limits } = this.#route
    const batch = new EventBatch(body, { schema, limits, maxRecordBytes: producer.maxRecordBytes })
    decodeEvents(body, this.#kind, batch)
    // Only now: of a body that cannot be decoded to its end, nobody knows how many events it has.
    this.#batch = batch
    return batch
  }

  #accept(batch: EventBatch, admission: Admission): void {
    const { producer } = this.target
    const { waitSeconds } = this.preferences
    if (admission === 'dropped') {
      this.#bookAccepted(batch)
      this.#succeed(batch, waitSeconds === null ? null : droppedOutcomes(producer, batch))
    } else if (producer.durability === null) {
      this.#bookAccepted(batch)
      if (waitSeconds !== null) this.#appendAndWait(batch, waitSeconds)
      else {
        this.#append(batch)
        this.#succeed(batch, null)
      }
    } else {
      this.#uncommitted = batch
      if (waitSeconds !== null) this.#appendAndWait(batch, waitSeconds)
      else this.#append(batch)
      producer.durability.commit(this)
    }
  }

  /** @inheritdoc */
  committed(failure: string | null): void {
    const batch = this.#uncommitted!
    this.#uncommitted = null
    if (failure !== null) {
      this.#isRefused = true
      this.fail(spoolUnavailable(this.target.producer))
      return
    }
    this.#bookAccepted(batch)
    if (this.preferences.waitSeconds === null) this.#succeed(batch, null)
    else if (this.#early !== undefined) this.#succeed(batch, this.#early)
  }

  #append({ body, starts, ends, keys }: EventBatch): void {
    const { producer } = this.target
    const nowMs = Date.now()
    for (let good = 0; good < starts.length; good++) {
      producer.append(body, starts[good]!, ends[good]!, keys[good]!, nowMs)
    }
  }

  #appendAndWait(batch: EventBatch, waitSeconds: number): void {
    appendAndWait(this.target.producer, batch, waitSeconds * 1000, (outcomes) => {
      if (this.#uncommitted !== null) this.#early = outcomes
      else if (!this.#isRefused) this.#succeed(batch, outcomes)
    })
  }

  /** From here on no error may say that nothing was accepted. */
  #bookAccepted(batch: EventBatch): void {
    this.#route.telemetry.edge.accepted(this.#route.transport, batch.good)
    this.#bookRejected(batch)
    this.#batch = null
  }

  #succeed(batch: EventBatch, outcomes: EventOutcome[] | null): void {
    try {
      this.#observe(this.#route.succeed(this, batch, outcomes))
    } catch (error) {
      this.#replyProblem(toGatewayError(error, this.#route.logger))
    }
  }

  #replyProblem(problem: GatewayError): void {
    this.#observe(problem.status)
    replyProblem(this.reply, problem)
  }

  #observe(statusCode: number): void {
    this.#route.timer.observe(statusCode, performance.now() - this.#startedAtMs)
  }

  #bookRejected(batch: EventBatch): void {
    if (batch.rejected === 0) return
    const { edge } = this.#route.telemetry
    for (const [code, events] of batch.rejectedByCode) edge.rejected(this.#route.transport, code, events)
  }
}
