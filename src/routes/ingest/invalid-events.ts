import type { EventBatch } from '../../events/event-batch.ts'
import {
  countOf,
  dropReasons,
  keptOutcomes,
  type DropReason,
  type KeptOutcome,
} from '../../kafka/producer/outcome.ts'
import type { KeptEvent } from '../../events/rejected-events.ts'
import {
  chargeOf,
  type AccountedProducer,
  type Producer,
  type ProducerAdmission,
} from '../../kafka/producer/producer.ts'
import { RecordBytes } from '../../kafka/protocol/record-bytes.ts'
import { encodeHeaders, errorHeaders, joinHeaders } from '../../kafka/protocol/record-format.ts'
import type { Logger } from '../../logger.ts'
import {
  invalidResults,
  type EdgeTransport,
  type InvalidResult,
  type InvalidStats,
} from '../../metrics/edge-telemetry.ts'
import { inTurns, type Job } from './in-turns.ts'

/** How a request with invalid events came in. */
export interface InvalidOrigin {
  readonly transport: EdgeTransport
  /** The name of the key of the request; null: it has none. */
  readonly keyName: string | null
}

/**
 * Writes events that were refused for themselves to the `invalidTopic` of a stream, as they came. Anyone can send rubbish, so nothing waits
 * for it: an event that finds no room, or comes above the rate, is counted and not written. Invariant: each event that is taken is
 * pending, or has one result.
 */
export class InvalidEvents {
  readonly #producer: InvalidProducer
  readonly #maxPerSecond: number
  readonly #logger: Logger
  /** A bucket of a second's events. */
  #tokens: number
  #filledAtMs = performance.now()
  readonly #dropped: Record<DroppedHere, number> = {
    over_rate: 0,
    buffer_full: 0,
    too_large: 0,
    unavailable: 0,
    shutdown: 0,
  }
  #loggedAtMs = -Infinity
  #logged: InvalidStats['results'] | null = null

  /** @param options.producer writes to the topic, at least once, and to nothing else. */
  constructor(options: { producer: InvalidProducer; maxPerSecond: number; logger: Logger }) {
    this.#producer = options.producer
    this.#maxPerSecond = this.#tokens = options.maxPerSecond
    this.#logger = options.logger
  }

  /** How many events the rate has room for. The places of more events need not be remembered. */
  get room(): number {
    const nowMs = performance.now()
    const filled = this.#tokens + ((nowMs - this.#filledAtMs) / 1_000) * this.#maxPerSecond
    this.#tokens = Math.min(this.#maxPerSecond, filled)
    this.#filledAtMs = nowMs
    return Math.floor(this.#tokens)
  }

  /**
   * Takes the rejected events of a batch: many of them a part a turn. A failure is logged, and is none of the request.
   * @param copied is called once, in this turn or a later one. Until then the body has to stay as it is.
   */
  take(batch: EventBatch, origin: InvalidOrigin, copied: () => void): void {
    this.#dropped.over_rate += batch.rejected - batch.keptRejected.length
    const goOn = (from: number): Job | undefined => {
      const to = this.#attempt(from, batch, origin)
      if (to < batch.keptRejected.length) return () => goOn(to)
      copied()
      return undefined
    }
    const left = goOn(0)
    if (left !== undefined) inTurns(left)
  }

  /** The results so far. */
  get stats(): InvalidStats {
    const { stats } = this.#producer
    const { stream, topic, buffered, inFlight, dropped } = stats
    const results = Object.fromEntries(invalidResults.map((result) => [result, 0])) as Record<
      InvalidResult,
      number
    >
    Object.assign(results, this.#dropped)
    for (const outcome of keptOutcomes) results[resultOf[outcome]] += countOf(stats, outcome)
    for (const reason of dropReasons) results[resultOfDrop[reason]] += dropped[reason]
    return { stream, topic, results, pending: buffered + inFlight }
  }

  /** Takes a part of the events. @returns where the next part begins. */
  #attempt(from: number, batch: EventBatch, origin: InvalidOrigin): number {
    const { keptRejected } = batch
    const to = Math.min(from + partEvents, keptRejected.length)
    try {
      for (let nth = from; nth < to; nth++) {
        const dropped = this.#write(keptRejected[nth]!, batch, origin)
        if (dropped !== null) this.#dropped[dropped]++
      }
      this.#tellDrops()
      return to
    } catch (error) {
      this.#logger.error(
        { err: error, stream: this.#producer.stream.name },
        'invalid events could not be kept',
      )
      return keptRejected.length
    }
  }

  /** @returns why the event is not written; null: it is. */
  #write(event: KeptEvent, { body, headers }: EventBatch, origin: InvalidOrigin): DroppedHere | null {
    const producer = this.#producer
    const { admission } = producer
    if (admission !== 'open') return resultOfAdmission[admission]
    if (producer.needsKey) return 'unavailable'
    if (this.room === 0) return 'over_rate'
    const timestampMs = Date.now()
    const reasons = this.#reasonsOf(event, origin, timestampMs)
    record
      .value(body, event.start, event.end)
      .headed(headers === null ? reasons : joinHeaders(headers, reasons))
    record.timestampMs = timestampMs
    const sizeBytes = chargeOf(record, producer.headerBytes)
    if (record.valueBytes + record.headerBytes > producer.maxRecordBytes) return 'too_large'
    if (sizeBytes > producer.stream.producer.bufferMemoryBytes) return 'too_large'
    if (!producer.reserve(sizeBytes)) return 'buffer_full'
    this.#tokens--
    producer.append(record)
    return null
  }

  #reasonsOf({ code, error }: KeptEvent, { transport, keyName }: InvalidOrigin, timeMs: number): Buffer {
    const texts: Record<string, string> = { stream: this.#producer.stream.name, code }
    if (error !== null) Object.assign(texts, { pointer: error.pointer, detail: error.detail })
    texts['transport'] = transport
    if (keyName !== null) texts['key.name'] = keyName
    texts['time'] = String(timeMs)
    return encodeHeaders(errorHeaders(texts))
  }

  #tellDrops(): void {
    const nowMs = performance.now()
    if (nowMs - this.#loggedAtMs < quietMs) return
    const { stream, topic, results } = this.stats
    const grown = invalidResults
      .filter((result) => result !== 'kept')
      .map((result) => [result, results[result] - (this.#logged?.[result] ?? 0)] as const)
      .filter(([, count]) => count > 0)
    if (grown.length === 0) return
    this.#loggedAtMs = nowMs
    this.#logged = results
    this.#logger.warn({ stream, topic, events: Object.fromEntries(grown) }, 'invalid events were not kept')
  }
}

/** The part of the topic's producer that {@link InvalidEvents} uses. */
type InvalidProducer = Producer & Pick<AccountedProducer, 'stats'>

/** The result of an event by its outcome. The topic's producer acknowledges or drops: the other outcomes do not occur. */
const resultOf: Readonly<Record<KeptOutcome, InvalidResult>> = {
  confirmed: 'kept',
  sent: 'suspected_lost',
  acked: 'kept',
  suspected_lost: 'suspected_lost',
  dead_lettered: 'refused',
}

/** The result of an event that the topic's producer dropped, by the reason. */
const resultOfDrop: Readonly<Record<DropReason, InvalidResult>> = {
  expired: 'refused',
  buffer_full: 'refused',
  shutdown: 'shutdown',
  broker_rejected: 'refused',
  message_too_large: 'refused',
  unknown_topic: 'refused',
  not_authorized: 'refused',
  invalid_timestamp: 'refused',
  invalid_record: 'refused',
  corrupt_message: 'refused',
  unsupported_compression_type: 'refused',
  policy_violation: 'refused',
  not_enough_replicas: 'refused',
  not_leader_or_follower: 'refused',
  spool_damaged: 'refused',
  encoding: 'refused',
}

/** The result of an event by the reason why the topic takes none. */
const resultOfAdmission: Readonly<Record<Exclude<ProducerAdmission, 'open'>, DroppedHere>> = {
  not_known_yet: 'unavailable',
  no_leader_yet: 'unavailable',
  unknown_topic: 'unavailable',
  not_authorized: 'unavailable',
  spool_unavailable: 'unavailable',
  closing: 'shutdown',
}

/** The results of events that the topic's producer never got. */
type DroppedHere = Extract<
  InvalidResult,
  'over_rate' | 'buffer_full' | 'too_large' | 'unavailable' | 'shutdown'
>

/** One for all events: a producer copies the bytes before `append` returns. */
const record = new RecordBytes()

/** Events that are written in one step, which takes less than a millisecond unless they are large. */
const partEvents = 100

const quietMs = 10_000
