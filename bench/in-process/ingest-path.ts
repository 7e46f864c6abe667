import type { FastifyInstance } from 'fastify'
import { loadConfig } from '../../src/config/load-config.ts'
import { BufferPool } from '../../src/buffer-pool.ts'
import { ClusterMetadata } from '../../src/kafka/network/cluster-metadata.ts'
import { LiveEvents } from '../../src/live-events.ts'
import type { Logger } from '../../src/logger.ts'
import type { StreamProducer } from '../../src/kafka/producer/stream-producer.ts'
import { openProducer, shareParts } from '../../src/kafka/open-producer.ts'
import { Metrics } from '../../src/metrics/metrics.ts'
import { registerIngest } from '../../src/routes/ingest/ingest.ts'
import { Bounds } from '../../src/routes/http/bounds.ts'
import { Refusals } from '../../src/routes/http/refusals.ts'
import { ShownEvents } from '../../src/routes/http/shown-events.ts'
import { StreamTargets } from '../../src/routes/ingest/stream-target.ts'
import type { LoadRequest } from '../load.ts'
import { NullBroker } from './null-broker.ts'

/**
 * Everything of ours that an event passes, from the route's handler to the connection, without a socket at either end:
 * what node:http, Fastify and the kernel do is left out, so that two runs differ by our code alone.
 */
export class IngestPath {
  readonly #handler: Handler
  readonly #metadata: ClusterMetadata
  readonly #producer: StreamProducer
  readonly #replies: NullReply[] = []

  private constructor(handler: Handler, metadata: ClusterMetadata, producer: StreamProducer) {
    this.#handler = handler
    this.#metadata = metadata
    this.#producer = producer
  }

  /** Returns when the stream takes events. */
  static async start(): Promise<IngestPath> {
    const transport = new NullBroker(stream.topic, 3)
    const metadata = new ClusterMetadata({
      transport,
      bootstrap: [{ host: 'null', port: 9092 }],
      topics: [stream.topic],
      maxAgeMs: 5_000,
      logger,
    })
    const metrics = new Metrics('bench')
    const shared = shareParts({ metadata, transport, buffers: new BufferPool(8 << 20), logger })
    const telemetry = metrics.producerTelemetry(stream.name, stream.topic)
    const { producer } = openProducer(stream, { telemetry, letterFile: null }, shared)
    metadata.start()
    while (producer.admission !== 'open') await turn()
    return new IngestPath(handlerOf(producer, metrics), metadata, producer)
  }

  /** Takes one request; its reply is thrown away, once {@link answered} has looked at it. */
  take(request: LoadRequest, body: Buffer): void {
    const raw = new NullRequest(request.contentType, body.length)
    const taken = { params: { stream: stream.name }, raw, accessKey: null, charges: null, trace: null }
    const reply = new NullReply(taken)
    this.#handler(taken, reply)
    raw.deliver(body)
    this.#replies.push(reply)
  }

  /** Waits until all requests have their reply. @throws Error if one was not accepted. */
  async answered(): Promise<void> {
    while (this.#replies.some(({ statusCode }) => statusCode === 0)) await turn()
    for (const { statusCode } of this.#replies.splice(0))
      if (statusCode !== 202) throw new Error(`got ${statusCode}`)
  }

  /** Records that were accepted and have no outcome yet. */
  get pending(): number {
    const { buffered, inFlight } = this.#producer.stats
    return buffered + inFlight
  }

  stop(): void {
    this.#producer.abort()
    this.#metadata.stop()
  }
}

/** Lets the event loop turn once, so that batches can go and confirmations come. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

type Handler = (request: object, reply: object) => void

/** The handler that `registerIngest` gives to Fastify. */
function handlerOf(producer: StreamProducer, telemetry: Metrics): Handler {
  let handler: Handler | null = null
  const app = {
    post(_path: string, registered: Handler) {
      handler = registered
    },
  }
  const shown = new ShownEvents(new LiveEvents())
  registerIngest(app as unknown as FastifyInstance, {
    targets: new StreamTargets([producer]),
    telemetry,
    shown,
    refusals: new Refusals({ edge: telemetry.edge, shown, logger, allowedOrigins: () => [] }),
    limits: http.limits,
    bounds: new Bounds({
      bounds: http.bounds,
      lookUp: (network) => ({ network, isAllowed: false }),
      logger,
    }),
    logger,
  })
  return handler!
}

/** A request of node:http, as far as `readBody` uses it. */
class NullRequest {
  readonly headers: Readonly<Record<string, string>>
  #onData: ((chunk: Buffer) => void) | null = null
  #onEnd: (() => void) | null = null

  constructor(contentType: string, sizeBytes: number) {
    this.headers = { 'content-type': contentType, 'content-length': String(sizeBytes) }
  }

  on(event: string, listener: (chunk?: Buffer) => void): this {
    if (event === 'data') this.#onData = listener
    if (event === 'end') this.#onEnd = listener
    return this
  }

  deliver(body: Buffer): void {
    this.#onData?.(body)
    this.#onEnd?.()
  }
}

/** A reply of Fastify and its response of node:http, as far as `replyRaw` uses them. */
class NullReply {
  readonly raw = this
  /** As Fastify gives it to a handler. */
  readonly request: object
  readonly destroyed = false
  readonly headersSent = false
  readonly socket = null
  statusCode = 0

  constructor(request: object) {
    this.request = request
  }

  hijack(): void {}

  writeHead(statusCode: number): this {
    this.statusCode = statusCode
    return this
  }

  end(): void {}
}

/** What a gateway without any settings runs with. */
const { http, streams } = loadConfig({ KAFKA_BROKERS: 'null:9092' })
const stream = streams.find(({ delivery }) => delivery === 'at-most-once')!

const ignore = (): void => {}
const logger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }
