import type { MemberOffsets } from './kafkajs-beginning.ts'

/**
 * Where a group begins that must lose nothing and has `auto.offset.reset: latest`. kafkajs and Kafka's own client take the present end of each partition
 * without a committed offset, whenever they meet one. So they skip what was written to a partition that was added while the group ran.
 *
 * Here the end is taken once. The group's leader commits the present end of all partitions of the topic in one commit, and the other members fetch
 * nothing before. From then on a partition without a committed offset is new, and the group reads it from its beginning.
 */
export class GroupBeginning {
  readonly #onNew: (partitions: readonly number[]) => void
  /** This member has seen offsets of the group. If there are none later, the topic was deleted and made anew. */
  #hasBegun = false

  /** @param onNew is told of partitions that the group reads from their beginning. */
  constructor(onNew: (partitions: readonly number[]) => void) {
    this.#onNew = onNew
  }

  /**
   * Commits where the group begins, as far as this member does that.
   * @param isLate the group's leader had time enough. It may be another client, which commits no beginning.
   * @returns whether each partition of the member has a committed offset. false: the leader has to commit first.
   */
  async begin(offsets: MemberOffsets, { isLeader, isLate }: MemberRole): Promise<boolean> {
    const committed = await offsets.committed()
    const isFirst = committed.size === 0 && !this.#hasBegun
    if (isFirst && !isLeader && !isLate) return false
    const own = isFirst && isLeader ? offsets.all : offsets.assigned
    const without = own.filter((partition) => !committed.has(partition))
    if (without.length > 0) {
      await offsets.commit(await offsets.ask(without, isFirst ? 'ends' : 'starts'))
      if (!isFirst) this.#onNew(without)
    }
    this.#hasBegun ||= committed.size > 0 || without.length > 0
    return true
  }
}

/** What a member is in its group. */
export interface MemberRole {
  readonly isLeader: boolean
  readonly isLate: boolean
}
