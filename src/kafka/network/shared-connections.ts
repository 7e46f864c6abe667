import type { Logger } from '../../logger.ts'
import { isStaleMetadata, kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import { LinkIsolation, type SetApart } from './link-isolation.ts'
import { SharedConnection } from './shared-connection.ts'
import type { Transport } from './transport.ts'
import type { TurnEnd } from './turn.ts'

/**
 * Connections to brokers that several topics share. Each topic connects, renews its session and is told of the end as if its connection were
 * its own. Topics that connect to one broker get the connection that is there.
 *
 * If a broker ends the shared connection, the connection ends for all its topics, and what no answer covers is in doubt for each of them. So a
 * topic whose writes end connections is set apart: it gets connections of its own for a while (`link-isolation.ts`).
 */
export class SharedConnections {
  readonly #options: SharedConnectionsOptions
  readonly #isolation: LinkIsolation
  /** The connection that topics join now, by address and request timeout. */
  readonly #current = new Map<string, Current>()
  /** Topics of this answer whose replicas did not have a write in time. */
  #slow: string[] = []

  constructor(options: SharedConnectionsOptions) {
    this.#options = options
    this.#isolation = new LinkIsolation((event) => this.#logApart(event))
  }

  /**
   * The way of one topic to the brokers.
   * @param maxRequestBytes `max.request.size`. The topic is in no joined request that is larger.
   */
  of(topic: string, maxRequestBytes: number): TopicTransport {
    return {
      connect: async (host, port, requestTimeoutMs) => {
        const connection = await this.#connect(topic, host, port, requestTimeoutMs)
        return connection.join(topic, maxRequestBytes)
      },
      refused: (errorCode) => this.#refused(topic, errorCode),
    }
  }

  #refused(topic: string, errorCode: number): void {
    if (this.#options.awaitsAnswers) {
      // An error ends no connection whose writes are answered. Only the wait for replicas harms other topics.
      if (errorCode === kafkaErrors.requestTimedOut) this.#heldUp(topic)
      return
    }
    // Another broker leads the partition, or none. The records of the topic are not to blame.
    if (!isStaleMetadata(errorCode))
      this.#isolation.refused(topic, kafkaErrorName(errorCode), performance.now())
  }

  /** The topics of one answer are set apart together, with one line of the log. */
  #heldUp(topic: string): void {
    const topics = this.#slow
    if (topics.push(topic) > 1) return
    queueMicrotask(() => {
      this.#slow = []
      this.#isolation.heldUp(topics, kafkaErrorName(kafkaErrors.requestTimedOut), performance.now())
    })
  }

  /** There are other credentials. Nobody joins the connections that were made with the old ones. */
  renew(): void {
    this.#current.clear()
  }

  async #connect(
    topic: string,
    host: string,
    port: number,
    requestTimeoutMs: number,
  ): Promise<SharedConnection> {
    const open = async (isShared: boolean): Promise<SharedConnection> =>
      await this.#open(host, port, requestTimeoutMs, isShared)
    if (this.#isolation.apartUntilMs(topic, performance.now()) > 0) return await open(false)
    const key = `${host}:${port} ${requestTimeoutMs}`
    const current = this.#current.get(key)
    if (current !== undefined && (current.connection === null || current.connection.isJoinable))
      return await current.opening
    const next: Current = { opening: open(true), connection: null }
    this.#current.set(key, next)
    try {
      next.connection = await next.opening
      return next.connection
    } catch (error) {
      if (this.#current.get(key) === next) this.#current.delete(key)
      throw error
    }
  }

  async #open(
    host: string,
    port: number,
    requestTimeoutMs: number,
    isShared: boolean,
  ): Promise<SharedConnection> {
    const { transport, turn, awaitsAnswers } = this.#options
    const isolation = this.#isolation
    const broker = `${host}:${port}`
    try {
      const connection = await transport.connect(host, port, requestTimeoutMs)
      return new SharedConnection({ connection, broker, isShared, isolation, turn, awaitsAnswers })
    } catch (error) {
      isolation.unreachable(broker)
      throw error
    }
  }

  #logApart({ why, broker, topics, kafkaError, forMs }: SetApart): void {
    const fields = { topics: topics.slice(0, 20), broker, kafkaError, forSeconds: forMs / 1_000 }
    this.#options.logger.warn(fields, apartMessages[why])
  }
}

const apartMessages = {
  cut: 'the broker ended the connection again while these topics were written to; each gets a connection of its own for a while',
  refused:
    'the broker ended the shared connection and refuses this topic; the topic gets a connection of its own for a while',
  'held-up':
    'the replicas of these topics did not have a write in time, which holds up other topics; each gets a connection of its own for a while',
} satisfies Record<SetApart['why'], string>

/** See {@link SharedConnections}. */
export interface SharedConnectionsOptions {
  readonly transport: Transport
  readonly logger: Logger
  readonly turn: TurnEnd
  /** The topics' writes are answered when the replicas have the records (acks=all), and are idempotent. See {@link SharedConnection}. */
  readonly awaitsAnswers: boolean
}

/** The way of one topic to the brokers. */
export interface TopicTransport extends Transport {
  /** A broker answered a write to the topic with an error. */
  refused(errorCode: number): void
}

/** The way of a topic that shares no connection. */
export function ownConnections(transport: Transport): TopicTransport {
  return {
    connect: async (host, port, requestTimeoutMs) => await transport.connect(host, port, requestTimeoutMs),
    refused() {},
  }
}

interface Current {
  readonly opening: Promise<SharedConnection>
  /** null: it is being made. */
  connection: SharedConnection | null
}
