import { refusesKeyless } from '../../config/record-sources.ts'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyRequest } from 'fastify'
import { promiseOf, type StreamConfig } from '../../config/config.ts'
import type { HttpLimits } from '../../config/limits.ts'
import type { Deduplicator } from '../../dedupe/deduplicator.ts'
import { GatewayError } from '../../errors.ts'
import { ChosenTopic, type EventTopics } from '../../events/chosen-topic.ts'
import { EventBatch } from '../../events/event-batch.ts'
import { compileEventSchema, type EventSchema } from '../../events/event-schema.ts'
import type { AccessKey } from '../http/access-key.ts'
import { shownOfRequest } from '../http/shown-events.ts'
import type { Producer } from '../../kafka/producer/producer.ts'
import type { InvalidEvents } from './invalid-events.ts'
import { compileHeaders, type HeadersOfRequest } from './chosen-headers.ts'
import { compileKey, type KeyOfRequest } from './record-key.ts'

/** A stream as the routes see it: where its events go and what they must look like. A request keeps the one that it began with. */
export interface StreamTarget {
  readonly producer: Producer
  /** The settings that are in force. The producer has those that it was made with. */
  readonly stream: StreamConfig
  readonly schema: EventSchema
  /** Gives the keys of a request's records. Null: the `source` of each event is its key. */
  readonly keyOf: KeyOfRequest | null
  /** The topics of the stream, one of which each event chooses. Null: there is one topic. */
  readonly topics: EventTopics | null
  /** Gives the own headers of a request's records. Null: they have none. */
  readonly headersOf: HeadersOfRequest | null
  /**
   * The value of `Chute-Delivery`: the delivery; `durable` where a 202 survives a crash of the gateway, on a disk that stays;
   * `no-dedupe` where an `Idempotency-Key` and ids have no effect, and a request that is sent again makes second records.
   */
  readonly delivery: string
  /** Knows what was accepted before. Null: the stream tells no duplicates. */
  readonly dedupe: Deduplicator | null
  /** Takes events that are refused for themselves. Null: they are only counted. */
  readonly invalid: InvalidEvents | null
  /** The requests that have this producer and no reply yet. */
  readonly underWay: UnderWay
}

/** Counts the requests of a producer that have no reply yet. */
export class UnderWay {
  #requests = 0
  #onIdle: (() => void) | null = null

  /** A request begins. */
  begin(): void {
    this.#requests++
  }

  /** A request that had begun was answered, or its client is gone. */
  end(): void {
    if (--this.#requests === 0) this.#onIdle?.()
  }

  /** Resolves when there is no request. To be called once, when no further request can begin. */
  async whenIdle(): Promise<void> {
    if (this.#requests > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }
}

/** The parts of a stream that a target is made of. */
export type StreamParts = Pick<StreamTarget, 'producer' | 'stream' | 'dedupe' | 'invalid'>

/**
 * What a name stands for. `awaited`: a stream that there will be, when the one that had its name before has drained. `retired`: a
 * stream that is no longer in use.
 */
type NamedTarget = StreamTarget | 'awaited' | 'retired'

type TargetsByName = ReadonlyMap<string, NamedTarget>

/** The streams by name, looked up by what stands in a path. */
export class StreamTargets {
  #byName: TargetsByName

  /** @throws Error if a stream's JSON Schema cannot be used. */
  constructor(
    producers: readonly Producer[],
    dedupe: ReadonlyMap<string, Deduplicator> = new Map(),
    invalid: ReadonlyMap<string, InvalidEvents> = new Map(),
    retired: readonly string[] = [],
  ) {
    const parts = producers.map((producer) => {
      const { stream } = producer
      const { name } = stream
      return { producer, stream, dedupe: dedupe.get(name) ?? null, invalid: invalid.get(name) ?? null }
    })
    this.#byName = new Map<string, NamedTarget>([
      ...parts.map((each) => [each.stream.name, targetOf(each, new UnderWay())] as const),
      ...retired.map((name) => [name, 'retired'] as const),
    ])
  }

  /**
   * Makes the targets of another configuration. They take requests once they are handed to {@link use}.
   * @param others names of streams whose predecessor has not drained, and of those that are retired.
   * @throws Error if a stream's JSON Schema cannot be used.
   */
  prepare(
    streams: readonly StreamParts[],
    { awaited, retired }: { awaited: readonly string[]; retired: readonly string[] },
  ): TargetsByName {
    const targets = streams.map((parts): [string, StreamTarget] => {
      const { name } = parts.stream
      const old = this.#target(name)
      if (old === null || old.producer !== parts.producer) return [name, targetOf(parts, new UnderWay())]
      return [name, isDeepStrictEqual(old.stream, parts.stream) ? old : targetOf(parts, old.underWay)]
    })
    return new Map<string, NamedTarget>([
      ...targets,
      ...awaited.map((name) => [name, 'awaited'] as const),
      ...retired.map((name) => [name, 'retired'] as const),
    ])
  }

  /** Requests that come from now on go to these targets. */
  use(targets: TargetsByName): void {
    this.#byName = targets
  }

  /** Whether there is a stream of this name, or was one that is retired. */
  has(name: string): boolean {
    return this.#byName.has(name)
  }

  /** The requests that the stream of a name has under way. */
  underWay(name: string): UnderWay | null {
    return this.#target(name)?.underWay ?? null
  }

  /**
   * @param key the key of the request; null: it needs none.
   * @throws GatewayError `unknown_stream`, which names the streams that the key may write to; `stream_unavailable` for a stream whose
   * predecessor has not drained; `stream_retired`.
   */
  get(name: string, key: AccessKey | null): StreamTarget {
    const target = this.#byName.get(name)
    if (typeof target === 'object') return target
    if (target === 'retired') {
      const detail = 'the stream is retired, and takes no events any more; stop sending to it'
      throw new GatewayError('stream_retired', detail)
    }
    if (target === 'awaited') {
      const detail = 'nothing of the request was accepted: the stream that had this name before still drains'
      throw new GatewayError('stream_unavailable', detail, { retryAfterSeconds: 1 })
    }
    const streams = [...this.#byName]
      .filter(([each, state]) => state !== 'retired' && (key === null || key.streams.has(each)))
      .map(([each]) => each)
    throw new GatewayError('unknown_stream', `the streams are ${streams.join(', ')}`, {
      extensions: { streams },
    })
  }

  #target(name: string): StreamTarget | null {
    const target = this.#byName.get(name)
    return typeof target === 'object' ? target : null
  }
}

/** @throws Error if the stream's JSON Schema cannot be used. */
function targetOf({ producer, stream, dedupe, invalid }: StreamParts, underWay: UnderWay): StreamTarget {
  const { schema, timestampUnit, key, headers } = stream
  const promises = [
    promiseOf(stream),
    ...(producer.durability?.isLasting === true ? ['durable'] : []),
    ...(dedupe === null ? ['no-dedupe'] : []),
  ]
  return {
    producer,
    stream,
    schema: compileEventSchema(schema, timestampUnit),
    keyOf: compileKey(key),
    topics: compileTopics(producer),
    headersOf: compileHeaders(headers),
    delivery: promises.join('; '),
    dedupe,
    invalid,
    underWay,
  }
}

/** Makes what finds the topic of an event; null for a stream with one topic. */
function compileTopics({ stream, topics: limits }: Producer): EventTopics | null {
  const { topics } = stream
  if (topics === null || limits === undefined) return null
  const names = limits.map(({ stream: { topic } }) => topic)
  const byValue = Object.entries(topics.map).map(([value, topic]) => [value, names.indexOf(topic)] as const)
  return { choice: new ChosenTopic(topics.by, new Map(byValue)), limits }
}

/** A batch for the events of a request to a stream. */
export function newBatch(
  body: Buffer,
  { producer, stream, schema, keyOf, topics, headersOf, dedupe, invalid }: StreamTarget,
  limits: HttpLimits,
  request: FastifyRequest,
): EventBatch {
  const { maxRecordBytes, needsKey } = producer
  const { accessKey } = request
  return new EventBatch(body, {
    schema,
    limits,
    maxRecordBytes,
    needsKey,
    rejectsKeyless: refusesKeyless[stream.keyMissing],
    key: keyOf === null ? null : keyOf(request.raw.headers),
    headers: headersOf === null ? null : headersOf(request, accessKey?.name ?? null),
    topics,
    collectIds: dedupe !== null,
    sources: accessKey?.sources ?? null,
    keepsRejected: Math.max(invalid?.room ?? 0, shownOfRequest),
  })
}
