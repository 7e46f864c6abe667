import type { IncomingHttpHeaders } from 'node:http'
import {
  context,
  createTraceState,
  propagation,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Span,
  type Tracer,
} from '@opentelemetry/api'
import { topicOf, type Producer } from '../kafka/producer/producer.ts'
import type { Logger } from '../logger.ts'
import { BatchSpans, RecordsOfRequest } from './batch-spans.ts'
import { Sdk, tellOff } from './sdk.ts'

/**
 * Spans of OpenTelemetry for the way of events: a request, its append, the batches that its records go in, and their outcomes. Read this
 * file of the folder first. The folder knows the producer's interface. It knows neither Fastify nor Kafka's connections.
 *
 * Chute has OpenTelemetry's API and no SDK. An SDK that was registered before the gateway is built (`node --import`) switches the spans on.
 * Without an SDK there is no {@link Tracing}, and nothing of this folder is called. A request that the SDK's sampler leaves out costs no more
 * than its own span.
 *
 * Names are those of the semantic conventions for HTTP and for messaging. What they have no name for is `chute.…`.
 */
export class Tracing {
  readonly #sdk: Sdk
  readonly #batches: BatchSpans
  readonly #flush: () => Promise<void>

  constructor(sdk: Sdk, flush: () => Promise<void>) {
    this.#sdk = sdk
    this.#flush = flush
    this.#batches = new BatchSpans(sdk)
  }

  /**
   * Begins the span of a request. Its parent is the span that is active (an SDK's own of node:http), or else what the headers name.
   * @returns null: the SDK has thrown, and the request has no spans.
   */
  begin(request: TracedRequest): RequestTrace | null {
    return this.#sdk.safely(() => new RequestTrace(this.#sdk, this.#batches, request))
  }

  /** Writes the spans of all batches that have their outcome, and has the SDK send what it holds. Never rejects. */
  async flush(): Promise<void> {
    this.#batches.flush()
    try {
      await this.#flush()
    } catch {
      // The SDK has its own log for what it cannot send.
    }
  }
}

/** Looks for an SDK. To be called once, at start. @returns null: there is none, or it throws, and there are no spans. */
export function findTracing(version: string, logger: Logger): Tracing | null {
  try {
    return tracingOf(version, logger)
  } catch (error) {
    tellOff(error, logger)
    return null
  }
}

function tracingOf(version: string, logger: Logger): Tracing | null {
  const provider = trace.getTracerProvider() as SdkProvider
  // The API's own provider, of this copy of the API or of another one, stands for the SDK's.
  const tracer =
    provider.getDelegateTracer === undefined
      ? provider.getTracer('chute', version)
      : provider.getDelegateTracer('chute', version)
  if (tracer === undefined) return null
  const sdk = provider.getDelegate?.() ?? provider
  return new Tracing(new Sdk(tracer, logger), async () => await sdk.forceFlush?.())
}

/** The tracer provider that is registered, with what only some providers have. */
interface SdkProvider {
  getTracer(name: string, version: string): Tracer
  getDelegateTracer?(name: string, version: string): Tracer | undefined
  getDelegate?(): SdkProvider
  forceFlush?(): Promise<void>
}

/** What a span says of a request. */
export interface TracedRequest {
  readonly method: string
  /** The pattern of its route, never its path. */
  readonly route: string
  /** Without the query: that of a pixel has an event, and may have a key. */
  readonly path: string
  readonly scheme: string
  readonly httpVersion: string
  readonly headers: IncomingHttpHeaders
  /** The network of the client. */
  readonly client: string | null
  /** Its `traceparent` and `tracestate`, where they are as W3C has them: the parent, if the SDK has no propagator that finds one. */
  readonly parent: { readonly traceparent: string; readonly tracestate: string | null } | null
}

/** The events of a request of which some were accepted. */
interface AcceptedEvents {
  /** New events, each of which becomes a record. */
  readonly good: number
  readonly rejected: number
  /** Events that were accepted before. */
  readonly duplicates: readonly unknown[]
}

/** Events of a request that were accepted and dropped. */
interface DroppedEvents {
  readonly good: number
  /** Tells the topic of an event, by its place in the list of the stream's topics. */
  readonly ranges: { topic(nth: number): number }
}

/** Takes records: a producer, or the commit of a large request. */
type Appender = Pick<Producer, 'append'>

/**
 * The spans of one request. While they are open, the headers `traceparent` and `tracestate` of the request name the innermost one. So
 * records that get these headers (`headers` of a stream, routes/ingest/chosen-headers.ts) name the span of their append.
 */
export class RequestTrace {
  readonly #sdk: Sdk
  readonly #batches: BatchSpans
  readonly #headers: IncomingHttpHeaders
  readonly #span: Span
  /** The ids of the request's span, for its log lines. */
  readonly ids: { readonly traceId: string; readonly spanId: string }
  /** The SDK's sampler took the request. */
  readonly #isRecorded: boolean
  #context: Context
  #append: Span | null = null
  #records: RecordsOfRequest | null = null
  #isAccepted = false

  /** To be called through {@link Tracing.begin}: the SDK can throw. */
  constructor(sdk: Sdk, batches: BatchSpans, request: TracedRequest) {
    this.#sdk = sdk
    this.#batches = batches
    this.#headers = request.headers
    const active = context.active()
    const isInside = trace.getSpan(active) !== undefined
    const parent = isInside ? active : parentOf(active, request)
    this.#span = sdk.tracer.startSpan(
      `${request.method} ${request.route}`,
      { kind: isInside ? SpanKind.INTERNAL : SpanKind.SERVER, attributes: attributesOf(request) },
      parent,
    )
    this.#isRecorded = this.#span.isRecording()
    const { traceId, spanId } = this.#span.spanContext()
    this.ids = { traceId, spanId }
    this.#context = this.#enter(parent, this.#span)
  }

  /** The body is there: its events are decoded and appended. */
  beginAppend({ stream }: Pick<Producer, 'stream'>): void {
    if (this.#isRecorded) this.#sdk.safely(() => this.#beginAppend(stream))
  }

  #beginAppend(stream: Producer['stream']): void {
    const destination = stream.topics === null ? stream.topic : null
    this.#append = this.#sdk.tracer.startSpan(
      `append ${destination ?? stream.name}`,
      {
        kind: SpanKind.PRODUCER,
        attributes: {
          'messaging.system': 'kafka',
          'messaging.operation.type': 'create',
          'messaging.operation.name': 'append',
          ...(destination !== null && { 'messaging.destination.name': destination }),
          'chute.stream': stream.name,
          'chute.delivery': stream.delivery,
        },
      },
      this.#context,
    )
    this.#context = this.#enter(this.#context, this.#append)
  }

  /** What `appender` takes is followed to its outcome, unless too much is followed already. @param producer names the topics of its records. */
  follow(appender: Appender, producer: Producer): Appender {
    if (!this.#isRecorded || this.#sdk.isOff) return appender
    const records = (this.#records = new RecordsOfRequest(this.#batches, this.#context, producer))
    return {
      append(record) {
        const pending = appender.append(record)
        records.appended(pending, record.topic)
        return pending
      },
    }
  }

  /** The good events of the request are accepted, and on disk where the stream is durable. */
  accepted({ good, rejected, duplicates }: AcceptedEvents): void {
    this.#isAccepted = true
    const append = this.#append
    if (append === null) return
    this.#sdk.safely(() => {
      append.setAttributes({
        'messaging.batch.message_count': good,
        'chute.events.rejected': rejected,
        'chute.events.duplicates': duplicates.length,
      })
      this.#endAppend()
    })
  }

  /** The buffer is full, and the events are accepted and dropped. */
  dropped(producer: Pick<Producer, 'topics' | 'stream'>, { good, ranges }: DroppedEvents): void {
    if (!this.#isRecorded) return
    const counts = new Map<string, number>()
    for (let nth = 0; nth < good; nth++) {
      const topic = topicOf(producer, ranges.topic(nth))
      counts.set(topic, (counts.get(topic) ?? 0) + 1)
    }
    const end = { outcome: 'dropped', reason: 'buffer_full', partition: -1, baseOffset: null } as const
    const common = { ...end, request: this.#context, appendedAtMs: performance.now() }
    for (const [topic, count] of counts) this.#batches.settled({ ...common, topic, count }, null)
  }

  /** Nothing of the request was accepted. @param code the code of the problem that it is answered with. */
  refused(code: string): void {
    if (!this.#isAccepted) this.#records?.forget()
    this.#sdk.safely(() => {
      this.#append?.setAttribute('error.type', code).setStatus({ code: SpanStatusCode.ERROR })
      this.#endAppend()
      this.#span.setAttribute('error.type', code)
    })
  }

  /** The reply is sent. @param statusCode null: the client was gone before. */
  end(statusCode: number | null): void {
    this.#sdk.safely(() => this.#end(statusCode))
  }

  #end(statusCode: number | null): void {
    this.#endAppend()
    const unfollowed = this.#records?.unfollowed ?? 0
    if (unfollowed > 0) this.#span.setAttribute('chute.events.unfollowed', unfollowed)
    if (statusCode === null) this.#span.setAttribute('error.type', 'client_gone')
    else this.#span.setAttribute('http.response.status_code', statusCode)
    // What a client did is no error of the server (semantic conventions for HTTP, "Status"). Pages that are left do not wait for the reply to
    // their beacons.
    if (statusCode !== null && statusCode >= 500) this.#span.setStatus({ code: SpanStatusCode.ERROR })
    this.#span.end()
  }

  #endAppend(): void {
    this.#append?.end()
    this.#append = null
  }

  /** Makes a span the innermost one. */
  #enter(parent: Context, span: Span): Context {
    const { traceId, spanId, traceFlags, traceState } = span.spanContext()
    const flags = (traceFlags & 0xff).toString(16).padStart(2, '0')
    const state = traceState?.serialize() ?? ''
    this.#headers['traceparent'] = `00-${traceId}-${spanId}-${flags}`
    if (state === '') delete this.#headers['tracestate']
    else this.#headers['tracestate'] = state
    return trace.setSpan(parent, span)
  }
}

/** The parent that the headers name: as the SDK's propagator finds it, or else as W3C has it. */
function parentOf(active: Context, { headers, parent }: TracedRequest): Context {
  const found = propagation.extract(active, headers)
  if (trace.getSpanContext(found) !== undefined || parent === null) return found
  const [, traceId = '', spanId = '', flags = '0'] = parent.traceparent.split('-')
  return trace.setSpanContext(found, {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
    ...(parent.tracestate !== null && { traceState: createTraceState(parent.tracestate) }),
  })
}

function attributesOf({
  method,
  route,
  path,
  scheme,
  httpVersion,
  headers,
  client,
}: TracedRequest): Attributes {
  const agent = headers['user-agent']
  return {
    'http.request.method': method,
    'http.route': route,
    'url.path': path,
    'url.scheme': scheme,
    'network.protocol.name': 'http',
    'network.protocol.version': httpVersion,
    ...(agent !== undefined && { 'user_agent.original': agent }),
    ...(client !== null && { 'client.address': client }),
  }
}
