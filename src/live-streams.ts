import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Config, StreamConfig } from './config/config.ts'
import type { PreparedReload } from './config/reload.ts'
import { maxInt32 } from './config/setting.ts'
import { compileEventSchema } from './events/event-schema.ts'
import type { Deduplicators } from './dedupe/deduplicators.ts'
import type { InvalidTopic, InvalidTopics } from './invalid-topics.ts'
import type { Logger } from './logger.ts'
import type { Producers } from './kafka/producers.ts'
import type { InvalidEvents } from './routes/ingest/invalid-events.ts'
import type { StreamTargets } from './routes/ingest/stream-target.ts'
import type { SpoolFolders } from './spool/spool-folders.ts'

/**
 * The streams of a gateway while its configuration changes. A stream is open: it takes events. Or it leaves: requests that had begun
 * are answered, its records are sent, and its account closes. Or it waits: it is in the configuration, and the stream that had its name
 * before has not left. Two streams of one name would mix the order of a key's records, and could not share a folder.
 */
export class LiveStreams {
  readonly #parts: LiveStreamsParts
  /** By name. */
  readonly #leaving = new Map<string, StreamConfig>()
  /** Why streams could not be opened at the last try, by name. */
  readonly #causes = new Map<string, string>()
  #config: Config

  /** @param config is in force. All of its streams are open. */
  constructor(config: Config, parts: LiveStreamsParts) {
    this.#config = config
    this.#parts = parts
  }

  /**
   * Compiles the JSON Schemas of another configuration that are new, one in a turn of the event loop.
   * @returns the configuration. Streams and schemas that stay are the very objects of the one in force, so that they are not compiled again.
   * @throws Error if a JSON Schema cannot be used.
   */
  async compile(config: Config): Promise<Config> {
    const before = new Map(this.#config.streams.map((stream) => [stream.name, stream]))
    const streams: StreamConfig[] = []
    for (const stream of config.streams) {
      const old = before.get(stream.name)
      if (old !== undefined && isDeepStrictEqual(old.schema, stream.schema)) {
        streams.push(isDeepStrictEqual(old, stream) ? old : { ...stream, schema: old.schema })
        continue
      }
      compileEventSchema(stream.schema, stream.timestampUnit)
      streams.push(stream)
      await nextTurn()
    }
    return { ...config, streams }
  }

  /**
   * Gets ready for another configuration, and changes nothing that clients see.
   * @param config is of {@link compile}.
   * @throws Error that says why the configuration cannot be put in force. Then nothing has changed.
   */
  prepare(config: Config): PreparedReload {
    const { targets, producers, folders, invalid } = this.#parts
    const before = new Map(this.#config.streams.map((stream) => [stream.name, stream]))
    const opened: StreamConfig[] = []
    const openedInvalid = new Map<string, InvalidTopic | null>()
    const discard = (): void => {
      for (const stream of opened) this.#discard(stream)
      for (const topic of openedInvalid.values()) if (topic !== null) invalid.discard(topic)
      // One that could not be opened before is tried again.
      for (const { name } of opened) this.#openAwaited(name)
    }
    try {
      for (const stream of config.streams) {
        const old = before.get(stream.name)
        if (!isDeepStrictEqual(old?.invalid ?? null, stream.invalid))
          openedInvalid.set(
            stream.name,
            invalid.open(stream, { create: config.kafka.topics.create, isLate: true }),
          )
        this.#refuseOtherDisk(stream)
        if (producers.byStream.has(stream.name) || this.#leaving.has(stream.name)) continue
        this.#open(stream, config)
        opened.push(stream)
      }
      if (config.streams.some(({ spool, headers }) => spool !== null && Object.keys(headers).length > 0))
        folders.keepHeaders()
      const next = this.#targetsOf(config, openedInvalid)
      const awaited = config.streams.filter(({ name }) => this.#leaving.has(name))
      return {
        discard,
        commit: () => {
          const stays = new Set([...this.#leaving.keys(), ...config.streams.map(({ name }) => name)])
          const gone = Array.from(producers.byStream.values(), ({ stream }) => stream).filter(
            ({ name }) => !stays.has(name),
          )
          const underWay = gone.map(({ name }) => targets.underWay(name))
          targets.use(next)
          this.#config = config
          // A stream that came back and goes again before it has drained has one too.
          for (const name of invalid.byStream.keys())
            if (!config.streams.some((stream) => stream.name === name)) openedInvalid.set(name, null)
          for (const [name, topic] of openedInvalid) invalid.use(name, topic, this.#longestRequestMs)
          for (const [nth, stream] of gone.entries()) void this.#leave(stream, underWay[nth] ?? null)
          // With workers, a stream can drain between the two steps of a reload.
          for (const stream of awaited) if (!this.#leaving.has(stream.name)) this.#openAgain(stream)
          this.#tellUnopened()
        },
      }
    } catch (error) {
      discard()
      throw error
    }
  }

  /** @throws Error if a JSON Schema cannot be used. */
  #targetsOf(
    config: Config,
    openedInvalid: ReadonlyMap<string, InvalidTopic | null>,
  ): ReturnType<StreamTargets['prepare']> {
    const { targets, producers, dedupe, invalid } = this.#parts
    const invalidOf = (name: string): InvalidEvents | null =>
      openedInvalid.has(name)
        ? (openedInvalid.get(name)?.events ?? null)
        : (invalid.byStream.get(name) ?? null)
    const open = config.streams.flatMap((stream) => {
      const producer = this.#leaving.has(stream.name) ? undefined : producers.byStream.get(stream.name)
      if (producer === undefined) return []
      const { name } = stream
      return [{ producer, stream, dedupe: dedupe.byStream.get(name) ?? null, invalid: invalidOf(name) }]
    })
    const names = config.streams.map(({ name }) => name)
    return targets.prepare(open, {
      awaited: names.filter((name) => this.#leaving.has(name)),
      retired: config.retiredStreams,
    })
  }

  /**
   * A stream that leaves can have records on disk, and nothing there says which topic they are for. A gateway or a worker that is started
   * again finds them, and sends them to the topic that the stream has then.
   * @throws Error if the stream would come back without its disk, or with another topic.
   */
  #refuseOtherDisk({ name, spool, topic }: StreamConfig): void {
    const left = this.#leaving.get(name)
    if (left === undefined || left.spool === null || (spool !== null && topic === left.topic)) return
    throw new Error(
      `Stream "${name}" still sends what it has on disk to ${left.topic}. Until the log says that it has drained, it can come back only as a durable stream with that topic.`,
    )
  }

  /** @throws Error if a part of the stream cannot be opened. Then none of it is open: a later try opens all of it. */
  #open(stream: StreamConfig, { kafka }: Config): void {
    const { producers, dedupe } = this.#parts
    try {
      dedupe.open(producers.open(stream, { create: kafka.topics.create }))
    } catch (error) {
      this.#discard(stream)
      throw error
    }
  }

  #discard({ name }: StreamConfig): void {
    const { producers, dedupe, folders } = this.#parts
    producers.discard(name)
    void dedupe.leave(name)
    folders.closeStream(name)
  }

  async #leave(stream: StreamConfig, underWay: ReturnType<StreamTargets['underWay']>): Promise<void> {
    const { producers, dedupe, folders, logger } = this.#parts
    const { name } = stream
    this.#leaving.set(name, stream)
    logger.info({ stream: name }, 'the stream takes no more events, and sends those that it has')
    const giveUp = new AbortController()
    const limit = pause(this.#longestRequestMs, null, { signal: giveUp.signal, ref: false }).catch(() => null)
    await Promise.race([underWay?.whenIdle(), limit])
    giveUp.abort()
    const isDrained = await producers.leave(name)
    // The gateway shuts down, and closes everything.
    if (!isDrained) return
    await dedupe.leave(name)
    folders.closeStream(name)
    this.#leaving.delete(name)
    logger.info({ stream: name }, 'the stream has drained')
    this.#openAwaited(name)
  }

  /** Opens a stream of the configuration, unless it is open, or the stream that had its name has not left. */
  #openAwaited(name: string): void {
    const stream = this.#config.streams.find((each) => each.name === name)
    const { producers } = this.#parts
    if (stream === undefined || this.#leaving.has(name) || producers.isClosing) return
    if (!producers.byStream.has(name)) this.#openAgain(stream)
    this.#tellUnopened()
  }

  #tellUnopened(): void {
    const { producers } = this.#parts
    const names = this.#config.streams.map(({ name }) => name)
    producers.unopened = new Set(
      names.filter((name) => this.#leaving.has(name) || !producers.byStream.has(name)),
    )
  }

  /** No request takes longer, whatever its client does. */
  get #longestRequestMs(): number {
    return Math.min(maxInt32, this.#config.http.limits.bodyTimeoutMaxMs + replyMs)
  }

  /** Opens a stream that has waited, unless it is open, and has it take events. */
  #openAgain(stream: StreamConfig): void {
    const { producers, targets, logger } = this.#parts
    const config = this.#config
    try {
      if (!producers.byStream.has(stream.name)) this.#open(stream, config)
      targets.use(this.#targetsOf(config, new Map()))
      logger.info({ stream: stream.name }, 'the stream takes events again')
      this.#causes.delete(stream.name)
    } catch (error) {
      this.#discard(stream)
      const { message: cause } = error as Error
      if (this.#causes.get(stream.name) !== cause)
        logger.error(
          { stream: stream.name, cause },
          'the stream cannot be opened; it answers 503, and is tried again',
        )
      this.#causes.set(stream.name, cause)
      setTimeout(() => this.#openAwaited(stream.name), openAgainMs).unref()
    }
  }
}

/** What {@link LiveStreams} opens and closes. */
export interface LiveStreamsParts {
  readonly producers: Producers
  readonly dedupe: Deduplicators
  readonly targets: StreamTargets
  readonly invalid: InvalidTopics
  readonly folders: SpoolFolders
  readonly logger: Logger
}

/** What keeps a stream from being opened, such as a full disk, can go. */
const openAgainMs = 5_000
/** What a request may take after its body: the longest `Prefer: wait`, and the disk. */
const replyMs = 300_000
