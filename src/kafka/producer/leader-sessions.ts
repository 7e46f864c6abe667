import type { SenderOptions } from './at-most-once-sender.ts'
import { BrokerSession } from './broker-session.ts'
import { OutageLog } from './outage-log.ts'
import type { BrokerConnection } from './transport.ts'

/** The connections of an at-least-once stream: one to each broker that leads a partition of its topic, as metadata has it. */
export class LeaderSessions {
  readonly #options: SenderOptions
  readonly #byNode = new Map<number, BrokerSession>()
  readonly #outageLog: OutageLog
  #stopped = false

  constructor(options: SenderOptions) {
    this.#options = options
    this.#outageLog = new OutageLog(options.stream.name, options.logger, () => options.account)
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

  /** Is called every second. Ends connections that would have to authenticate again (KIP-368) and carry nothing. */
  tend(nowMs: number, isBusy: (connection: BrokerConnection) => boolean): void {
    for (const session of this.#byNode.values()) {
      session.tend(nowMs)
      const { connection } = session
      if (connection?.isExpiring === true && !isBusy(connection))
        session.fail(new Error('the SASL session expires'))
    }
  }

  /** Ends all connections and opens no others. */
  stop(): void {
    this.#stopped = true
    for (const session of this.#byNode.values()) session.stop(new Error('the gateway stopped'))
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
    return new BrokerSession({
      transport,
      requestTimeoutMs: stream.producer.requestTimeoutMs,
      needs: ['Produce', 'Metadata', ...(stream.producer.enableIdempotence ? identityRequests : [])],
      address: () => metadata.broker(nodeId),
      onUp: () => {
        this.#outageLog.up(nodeId)
        onConnection(null)
        onWritable()
      },
      onDown: (cause) => {
        if (this.#stopped) return
        this.#outageLog.down(nodeId, cause, 0)
        if (!this.isConnected) onConnection(cause)
        metadata.refresh()
      },
    })
  }
}

const identityRequests = ['InitProducerId'] as const
