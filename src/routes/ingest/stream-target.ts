import { promiseOf } from '../../config/config.ts'
import type { Deduplicator } from '../../dedupe/deduplicator.ts'
import { GatewayError } from '../../errors.ts'
import { compileEventSchema, type EventSchema } from '../../events/event-schema.ts'
import type { AccessKey } from '../http/access-key.ts'
import type { Producer } from '../../kafka/producer/producer.ts'
import type { InvalidEvents } from './invalid-events.ts'
import { compileHeaders, type HeadersOfRequest } from './record-headers.ts'
import { compileKey, type KeyOfRequest } from './record-key.ts'

/** A stream as the routes see it: where its events go and what they must look like. */
export interface StreamTarget {
  readonly producer: Producer
  readonly schema: EventSchema
  /** Gives the keys of a request's records. Null: the `source` of each event is its key. */
  readonly keyOf: KeyOfRequest | null
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
}

/** The streams by name, looked up by what stands in a path. */
export class StreamTargets {
  readonly #byName = new Map<string, StreamTarget>()

  /** @throws Error if a stream's JSON Schema cannot be used. */
  constructor(
    producers: readonly Producer[],
    dedupe: ReadonlyMap<string, Deduplicator> = new Map(),
    invalid: ReadonlyMap<string, InvalidEvents> = new Map(),
  ) {
    for (const producer of producers) {
      const { name, schema, timestampUnit, key, headers } = producer.stream
      const deduplicator = dedupe.get(name) ?? null
      const promises = [
        promiseOf(producer.stream),
        ...(producer.durability?.isLasting === true ? ['durable'] : []),
        ...(deduplicator === null ? ['no-dedupe'] : []),
      ]
      this.#byName.set(name, {
        producer,
        schema: compileEventSchema(schema, timestampUnit),
        keyOf: compileKey(key),
        headersOf: compileHeaders(headers),
        delivery: promises.join('; '),
        dedupe: deduplicator,
        invalid: invalid.get(name) ?? null,
      })
    }
  }

  /** Whether there is a stream of this name. */
  has(name: string): boolean {
    return this.#byName.has(name)
  }

  /**
   * @param key the key of the request; null: it needs none.
   * @throws GatewayError `unknown_stream`, which names the streams that the key may write to.
   */
  get(name: string, key: AccessKey | null): StreamTarget {
    const target = this.#byName.get(name)
    if (target !== undefined) return target
    const streams = [...this.#byName.keys()].filter((each) => key === null || key.streams.has(each))
    throw new GatewayError('unknown_stream', `the streams are ${streams.join(', ')}`, {
      extensions: { streams },
    })
  }
}
