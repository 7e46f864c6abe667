/**
 * The partitions of a member of a group, and its position in each. Every rebalance begins a new *epoch*. Records that were polled in an older
 * epoch may belong to another member now, and must not be processed.
 */
export class Assignment {
  #epoch = 0
  #joined = false
  #heardAtMs = 0
  readonly #positions = new Map<number, number | null>()
  /** The highest offset that was handed out for processing, plus one. It is kept over rebalances, so that repeated records can be counted. */
  readonly #handedOut = new Map<number, number>()
  readonly #resets = new Map<number, number>()

  /** Changes with every rebalance. */
  get epoch(): number {
    return this.#epoch
  }

  /** Changes with every rebalance, and with every reset of the partition. */
  epochOf(partition: number): number {
    return this.#epoch + this.resetsOf(partition)
  }

  /** How often a partition was reset. */
  resetsOf(partition: number): number {
    return this.#resets.get(partition) ?? 0
  }

  /** The member is in its group, as far as it knows. */
  get isJoined(): boolean {
    return this.#joined
  }

  /** The group's coordinator has answered, so the session begins anew. */
  heard(nowMs: number): void {
    this.#heardAtMs = nowMs
  }

  /** The member is in its group, and the coordinator has answered within the session timeout. */
  isInSession(nowMs: number, sessionTimeoutMs: number): boolean {
    return this.#joined && nowMs - this.#heardAtMs <= sessionTimeoutMs
  }

  /** A rebalance has ended. The member has these partitions, whose positions are not known yet. */
  join(partitions: readonly number[]): void {
    this.#epoch++
    this.#joined = true
    this.#positions.clear()
    for (const partition of partitions) this.#positions.set(partition, null)
  }

  /** The member has no partitions any more: a rebalance has begun, or the member has left the group or was thrown out. */
  leave(): void {
    this.#epoch++
    this.#joined = false
    this.#positions.clear()
  }

  owns(partition: number): boolean {
    return this.#positions.has(partition)
  }

  /** Offset of the next record to poll. null: it is not known yet, or the partition is not the member's. */
  position(partition: number): number | null {
    return this.#positions.get(partition) ?? null
  }

  /** Moves a partition's position forward, and never back; {@link reset} does that. Does nothing for a partition that is not the member's. */
  advance(partition: number, position: number): void {
    const known = this.#positions.get(partition)
    if (known === undefined || (known !== null && known >= position)) return
    this.#positions.set(partition, position)
  }

  /** The partition's log does not have the position. From now on its records from `position` on are new ones, whatever was handed out before. */
  reset(partition: number, position: number): void {
    this.#resets.set(partition, this.resetsOf(partition) + 1)
    if (this.owns(partition)) this.#positions.set(partition, position)
    this.#handedOut.set(partition, Math.min(this.#handedOut.get(partition) ?? 0, position))
  }

  /**
   * Records are handed out for processing.
   * @returns how many of them this member had handed out before.
   */
  handOut(partition: number, firstOffset: number, nextOffset: number, count: number): number {
    const before = this.#handedOut.get(partition) ?? 0
    this.#handedOut.set(partition, Math.max(before, nextOffset))
    // Offsets can have gaps, so the span of offsets may be larger than the number of records.
    return Math.max(0, Math.min(count, before - firstOffset))
  }

  /** Each partition of the member and its position. */
  get positions(): ReadonlyMap<number, number | null> {
    return this.#positions
  }
}
