import type { SenderOptions } from '../producer/at-most-once/sender.ts'
import { BrokerSession } from './broker-session.ts'
import { OutageLog } from './outage-log.ts'
import type { BrokerConnection } from './transport.ts'

/** The connections of an at-least-once stream: one to each broker that leads a partition of its topic, as metadata has it. */
export class LeaderSessions {
  readonly #options: SenderOptions
  readonly #byNode = new Map<number, BrokerSession>()
  readonly #outageLog: OutageLog
  /** Their sessions end soon (KIP-368). What is out on them is waited for; nothing more is sent there. */
  readonly #replaced = new Set<BrokerConnection>()
  #stopped = false

  constructor(options: SenderOptions) {
    this.#options = options
    this.#outageLog = new OutageLog(options.stream.name, options.logger, () => options.account.buffered)
    options.metadata.onChange(() => this.#follow())
    this.#follow()
  }

  /** What brokers do not serve of what is needed, a sentence a broker. */
  get lacking(): string[] {
    return [...this.#byNode.values()].flatMap(({ lacking }) => lacking ?? [])
  }

  /** A connection is open. */
  get isConnected(): boolean {
    return [...this.#byNode.values()].some(({ connection }) => connection !== null)
  }

  /** A circuit breaker holds a connection back. */
  get isCircuitOpen(): boolean {
    return [...this.#byNode.values()].some(({ isCircuitOpen }) => isCircuitOpen)
  }

  /** An open connection, and a partition that its broker leads; null if there is none. */
  get any(): { connection: BrokerConnection; partition: number } | null {
    const { metadata, stream } = this.#options
    const { leaders } = metadata.topic(stream.topic)
    for (const [partition, leader] of leaders.entries()) {
      const connection = this.connectionTo(leader)
      if (connection !== null) return { connection, partition }
    }
    return null
  }

  /** The open connection to a broker, or null. */
  connectionTo(nodeId: number): BrokerConnection | null {
    return this.#byNode.get(nodeId)?.connection ?? null
  }

  /** The broker behind the connection did something useful. */
  succeeded(connection: BrokerConnection): void {
    for (const session of this.#byNode.values()) if (session.connection === connection) session.succeeded()
  }

  /** Is called every second, and after each answer on a connection. Ends those that were replaced and carry nothing any more. */
  endReplaced(isBusy: (connection: BrokerConnection) => boolean): void {
    for (const old of this.#replaced) {
      if (old.isOpen && isBusy(old)) continue
      this.#replaced.delete(old)
      old.destroy(new Error('another connection took its place'))
    }
  }

  /** Is called every second. */
  tend(nowMs: number): void {
    for (const session of this.#byNode.values()) session.tend(nowMs)
  }

  /** Ends all connections and opens no others. */
  stop(): void {
    this.#stopped = true
    for (const session of this.#byNode.values()) session.stop(new Error('the gateway stopped'))
    for (const old of this.#replaced) old.destroy(new Error('the gateway stopped'))
  }

  #follow(): void {
    if (this.#stopped) return
    const { metadata, stream, onWritable } = this.#options
    const leaders = new Set(metadata.topic(stream.topic).leaders.filter((leader) => leader >= 0))
    for (const [nodeId, session] of this.#byNode) {
      if (leaders.has(nodeId) || metadata.broker(nodeId) !== null) continue
      session.stop(new Error('the broker left the cluster'))
      this.#byNode.delete(nodeId)
    }
    for (const session of this.#byNode.values()) session.follow()
    for (const nodeId of leaders)
      if (!this.#byNode.has(nodeId)) this.#byNode.set(nodeId, this.#session(nodeId))
    onWritable()
  }

  #session(nodeId: number): BrokerSession {
    const { metadata, stream, transport, onConnection, onWritable } = this.#options
    const session = new BrokerSession({
      transport,
      requestTimeoutMs: stream.producer.requestTimeoutMs,
      needs: ['Produce', 'Metadata', ...(stream.producer.enableIdempotence ? identityRequests : [])],
      address: () => metadata.broker(nodeId),
      onUp: () => {
        this.#outageLog.up(nodeId)
        onConnection(null)
        onWritable()
      },
      // What waits for a partition whose batch is out on the old one waits for its answer: the order holds.
      onNext: () => {
        this.#replaced.add(session.handOver().old)
        onWritable()
      },
      onDown: (cause) => {
        if (this.#stopped) return
        this.#outageLog.down(nodeId, cause, 0)
        if (!this.isConnected) onConnection(cause)
        metadata.refresh()
      },
    })
    return session
  }
}

const identityRequests = ['InitProducerId'] as const
