import type { ClusterMetadata } from './cluster-metadata.ts'
import type { OutageLog } from './outage-log.ts'

/** The way of one stream to one broker, as {@link LeaderLinks} sees it. */
export interface LeaderLink {
  readonly isConnected: boolean
  /** The circuit breaker holds back the next try to connect. */
  readonly isCircuitOpen: boolean
  /** See `BrokerSession.lacking`. */
  readonly lacking: string | null
  /** The link stays even if its broker leaves the cluster, since it awaits answers that must not be given up. */
  readonly hasPending: boolean
  /** Metadata was looked at. @param partitions the partitions that the broker leads now. */
  assign(partitions: readonly number[]): void
  /** Is called every second. */
  everySecond(nowMs: number): void
  /** Ends the connection for good. */
  stop(cause: Error): void
}

/**
 * One link to each broker that leads a partition of one topic, as metadata says. A broker that no longer leads a partition keeps its link
 * while the broker is in the cluster, or while something is pending on the link. Both deliveries of `producer/` use this class.
 */
export class LeaderLinks<Link extends LeaderLink> {
  readonly #options: LeaderLinksOptions<Link>
  readonly #byNode = new Map<number, Link>()
  readonly #unfollow: () => void
  #stopped = false

  constructor(options: LeaderLinksOptions<Link>) {
    this.#options = options
    this.#unfollow = options.metadata.onChange(() => this.follow())
  }

  /** A connection is open. */
  get isConnected(): boolean {
    return [...this.#byNode.values()].some((link) => link.isConnected)
  }

  /** A circuit breaker of a link holds back its next try to connect. */
  get isCircuitOpen(): boolean {
    return [...this.#byNode.values()].some((link) => link.isCircuitOpen)
  }

  /** The needed requests that brokers do not serve, one sentence a broker. */
  get lacking(): string[] {
    return [...this.#byNode.values()].flatMap(({ lacking }) => lacking ?? [])
  }

  /** The link to a broker; undefined: the broker leads no partition of the topic. */
  get(nodeId: number): Link | undefined {
    return this.#byNode.get(nodeId)
  }

  /** All links. */
  [Symbol.iterator](): MapIterator<Link> {
    return this.#byNode.values()
  }

  /** Makes the links that metadata asks for, and ends links that are not needed. The owner calls it once before the first use. */
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

  /** A link reports that its connection is open. */
  up(nodeId: number): void {
    this.#options.outages.up(nodeId)
    this.#options.onConnection(null)
  }

  /**
   * A link reports that its connection ended or could not be made.
   * @param suspectedRecords records that are suspected lost by this.
   * @returns false after {@link stop}: then nothing is to be done about it.
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
    this.#unfollow()
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
  /** The links are as metadata says now. */
  readonly onFollowed: () => void
  /** A connection to a leader is open (null), or the last connection ended or could not be made (its failure). */
  readonly onConnection: (failure: Error | null) => void
}
