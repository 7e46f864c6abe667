import { setTimeout as pause } from 'node:timers/promises'
import type { Config, StreamConfig } from './config/config.ts'
import type { AccountedProducer } from './kafka/producer/producer.ts'
import type { Producers } from './kafka/producers.ts'
import type { Logger } from './logger.ts'
import { invalidResults, type InvalidStats } from './metrics/edge-telemetry.ts'
import { InvalidEvents } from './routes/ingest/invalid-events.ts'

/** The topics for invalid events of all streams. A stream can get another one while it takes events. */
export class InvalidTopics {
  readonly #byStream = new Map<string, InvalidTopic>()
  /** Requests that had begun still write to them. */
  readonly #leaving = new Set<InvalidTopic>()
  #retired: InvalidStats[] = []
  readonly #producers: Producers
  readonly #logger: Logger

  /** Opens the topics of a gateway that starts. */
  constructor({ streams }: Config, producers: Producers, logger: Logger) {
    this.#producers = producers
    this.#logger = logger
    for (const stream of streams) {
      const topic = this.open(stream, { create: false, isLate: false })
      if (topic !== null) this.#byStream.set(stream.name, topic)
    }
  }

  /** What takes the invalid events of each stream. */
  get byStream(): ReadonlyMap<string, InvalidEvents> {
    return new Map(Array.from(this.#byStream, ([name, { events }]) => [name, events]))
  }

  /** Opens the topic of a stream. {@link use} or {@link discard} is to be called with it. @returns null: the stream has none. */
  open(stream: StreamConfig, options: { create: boolean; isLate: boolean }): InvalidTopic | null {
    if (stream.invalid === null) return null
    const producer = this.#producers.openInvalid(stream, stream.invalid, options)
    const { maxPerSecond } = stream.invalid
    return { producer, events: new InvalidEvents({ producer, maxPerSecond, logger: this.#logger }) }
  }

  /**
   * Invalid events of a stream go to another topic from now on.
   * @param topic null: they are only counted.
   * @param limitMs how long requests that had begun may take.
   */
  use(stream: string, topic: InvalidTopic | null, limitMs: number): void {
    const old = this.#byStream.get(stream)
    this.#byStream.delete(stream)
    if (topic !== null) this.#byStream.set(stream, topic)
    if (old !== undefined) void this.#leave(old, limitMs)
  }

  /** Takes back what {@link open} has made. */
  discard({ producer }: InvalidTopic): void {
    this.#producers.discardInvalid(producer)
  }

  /** The results of all streams. Those of a topic that is gone stay. */
  get stats(): InvalidStats[] {
    const live = [...this.#byStream.values(), ...this.#leaving].map(({ events }) => events.stats)
    return merge([...live, ...this.#retired])
  }

  async #leave(topic: InvalidTopic, limitMs: number): Promise<void> {
    this.#leaving.add(topic)
    await pause(limitMs, null, { ref: false })
    if (!(await this.#producers.leaveInvalid(topic.producer))) return
    this.#leaving.delete(topic)
    this.#retired = merge([...this.#retired, topic.events.stats])
  }
}

/** One topic for the invalid events of one stream. */
export interface InvalidTopic {
  readonly producer: AccountedProducer
  readonly events: InvalidEvents
}

/** Adds up what stands for the same stream and topic. */
function merge(all: readonly InvalidStats[]): InvalidStats[] {
  const merged = new Map<string, InvalidStats>()
  for (const stats of all) {
    const key = `${stats.stream} ${stats.topic}`
    const known = merged.get(key)
    if (known === undefined) {
      merged.set(key, stats)
      continue
    }
    const results = { ...stats.results }
    for (const result of invalidResults) results[result] += known.results[result]
    merged.set(key, { ...stats, results, pending: stats.pending + known.pending })
  }
  return [...merged.values()]
}
