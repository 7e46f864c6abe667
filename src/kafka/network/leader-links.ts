import type { ClusterMetadata } from './cluster-metadata.ts'
import type { OutageLog } from './outage-log.ts'

/** The way of one stream to one broker: what {@link LeaderLinks} asks of it. */
export interface LeaderLink {
  readonly isConnected: boolean
  /** The circuit breaker holds the next try to connect back. */
  readonly isCircuitOpen: boolean
  /** What the broker does not serve of what is needed; null: it serves all of it, or was not reached yet. */
  readonly lacking: string | null
  /** Something was written here and is not done with: the link stays although its broker left the cluster. */
  readonly hasPending: boolean
  /** Metadata was looked at. @param partitions the partitions that the broker leads now. */
  assign(partitions: readonly number[]): void
  /** Is called every second. */
  everySecond(nowMs: number): void
  /** Ends the connection for good. */
  stop(cause: Error): void
}

/**
 * One link to each broker that leads a partition of one topic, as the metadata says. A broker that leads none any more keeps its
 * link as long as it is in the cluster or something is pending there. Both deliveries of `producer/` use this class.
 */
export class LeaderLinks<Link extends LeaderLink> {
  readonly #options: LeaderLinksOptions<Link>
  readonly #byNode = new Map<number, Link>()
  #stopped = false

  constructor(options: LeaderLinksOptions<Link>) {
    this.#options = options
    options.metadata.onChange(() => this.follow())
  }

  /** A connection is open. */
  get isConnected(): boolean {
    return [...this.#byNode.values()].some((link) => link.isConnected)
  }

  /** A circuit breaker holds a connection back. */
  get isCircuitOpen(): boolean {
    return [...this.#byNode.values()].some((link) => link.isCircuitOpen)
  }

  /** What brokers do not serve of what is needed, one sentence a broker. */
  get lacking(): string[] {
    return [...this.#byNode.values()].flatMap(({ lacking }) => lacking ?? [])
  }

  /** The link to a broker; undefined: the broker leads no partition that is known. */
  get(nodeId: number): Link | undefined {
    return this.#byNode.get(nodeId)
  }

  /** All links. */
  [Symbol.iterator](): MapIterator<Link> {
    return this.#byNode.values()
  }

  /** Makes the links that the metadata asks for, and ends those that are not needed. To be called once before the first use. */
  follow(): void {
    if (this.#stopped) return
    const { metadata, topic, open, onFollowed } = this.#options
    const byLeader = new Map<number, number[]>()
    metadata.topic(topic).leaders.forEach((leader, partition) => {
      if (leader < 0) return
      const led = byLeader.get(leader)
      if (led === undefined) byLeader.set(leader, [partition])
      else led.push(partition)
    })
    for (const [nodeId, link] of this.#byNode) {
      if (byLeader.has(nodeId)) continue
      link.assign([])
      if (link.hasPending || metadata.broker(nodeId) !== null) continue
      link.stop(new Error('the broker left the cluster'))
      this.#byNode.delete(nodeId)
    }
    for (const [nodeId, partitions] of byLeader) {
      let link = this.#byNode.get(nodeId)
      if (link === undefined) {
        link = open(nodeId)
        this.#byNode.set(nodeId, link)
      }
      link.assign(partitions)
    }
    onFollowed()
  }

  /** A link tells that its connection is open. */
  up(nodeId: number): void {
    this.#options.outages.up(nodeId)
    this.#options.onConnection(null)
  }

  /**
   * A link tells that its connection ended or could not be made.
   * @param suspectedRecords records that this made suspected lost.
   * @returns whether the links go on: false after {@link stop}, when nothing is to be done about it.
   */
  down(nodeId: number, cause: Error, suspectedRecords: number): boolean {
    if (this.#stopped) return false
    this.#options.outages.down(nodeId, cause, suspectedRecords)
    if (!this.isConnected) this.#options.onConnection(cause)
    return true
  }

  /** Is called every second. */
  everySecond(nowMs: number): void {
    for (const link of this.#byNode.values()) link.everySecond(nowMs)
  }

  /** Ends all connections and opens no others. */
  stop(): void {
    this.#stopped = true
    for (const link of this.#byNode.values()) link.stop(new Error('the gateway stopped'))
    this.#byNode.clear()
  }
}

/** See {@link LeaderLinks}. */
export interface LeaderLinksOptions<Link extends LeaderLink> {
  readonly topic: string
  readonly metadata: ClusterMetadata
  readonly outages: OutageLog
  /** Makes the link to a broker. The link calls {@link LeaderLinks.up} and {@link LeaderLinks.down}. */
  readonly open: (nodeId: number) => Link
  /** The links are as the metadata says now. */
  readonly onFollowed: () => void
  /** A connection to a leader is open (null); or the last one is gone, or could not be made. */
  readonly onConnection: (failure: Error | null) => void
}
