import type { MemberOffsets } from './kafkajs-beginning.ts'

/**
 * Where a group begins that must lose nothing and has `auto.offset.reset: latest`. kafkajs and Kafka's own client take the present end of each partition
 * without a committed offset, whenever they meet one. So they skip what was written to a partition that was added while the group ran.
 *
 * Here the end is taken once. The group's leader commits the present end of all partitions of the topic in one commit. The other members fetch
 * nothing before, unless the leader takes too long. From then on a partition without a committed offset is new, and the group reads it from its
 * beginning. A place that another member has committed is never replaced.
 */
export class GroupBeginning {
  readonly #onNew: (partitions: readonly number[]) => void
  /** This member has seen offsets of the group. If there are none later, the topic was deleted and made anew. */
  #hasBegun = false
  /** This member has met the group without an offset, and has not begun since. What others commit meanwhile makes no partition new. */
  #isBeginning = false

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
    const isEmpty = committed.size === 0 && !this.#hasBegun
    this.#isBeginning ||= isEmpty
    if (isEmpty && !isLeader && !isLate) return false
    const isFirst = this.#isBeginning
    const own = isFirst && isLeader ? offsets.all : offsets.assigned
    const without = own.filter((partition) => !committed.has(partition))
    if (without.length > 0) {
      const places = await offsets.ask(without, isFirst ? 'ends' : 'starts')
      // To ask can take long, and a member that was late has gone on meanwhile.
      const now = await offsets.committed()
      const missing = new Map([...places].filter(([partition]) => !now.has(partition)))
      if (missing.size > 0) await offsets.commit(missing)
      if (!isFirst) this.#onNew([...missing.keys()])
    }
    this.#hasBegun ||= committed.size > 0 || without.length > 0
    this.#isBeginning = false
    return true
  }
}

/** What a member is in its group. */
export interface MemberRole {
  readonly isLeader: boolean
  readonly isLate: boolean
}
