import OffsetManager from 'kafkajs/src/consumer/offsetManager/index.js'

/** The offsets of one topic, as a member of the group sees them. */
export interface MemberOffsets {
  /** All partitions of the topic, and those of the member. */
  readonly all: readonly number[]
  readonly assigned: readonly number[]
  /** The group's committed offset of each partition of the topic that has one. */
  committed(): Promise<ReadonlyMap<number, string>>
  /** Where partitions start or end now. */
  ask(partitions: readonly number[], which: 'starts' | 'ends'): Promise<ReadonlyMap<number, string>>
  /** Commits offsets in the group's present generation, all of them at once. */
  commit(offsets: ReadonlyMap<number, string>): Promise<void>
}

/**
 * Runs before a member asks where to fetch from, for one member, by kafkajs's id of it. kafkajs would go to `auto.offset.reset` wherever the group has no
 * committed offset.
 * @param begin returns false if the member must not fetch yet. kafkajs then sends heartbeats, and asks again at its next fetch.
 * @returns ends that.
 */
export function beforeFirstFetch(memberId: string, topic: string, begin: Begin): () => void {
  beginners.set(memberId, { topic, begin })
  return () => void beginners.delete(memberId)
}

/** See {@link beforeFirstFetch}. */
export type Begin = (offsets: MemberOffsets) => Promise<boolean>

const beginners = new Map<string, { readonly topic: string; readonly begin: Begin }>()

type Manager = ThisParameterType<typeof OffsetManager.prototype.resolveOffsets>

const resolveOffsets = OffsetManager.prototype.resolveOffsets
OffsetManager.prototype.resolveOffsets = async function beginAndResolve() {
  const beginner = beginners.get(this.memberId)
  if (beginner !== undefined && !(await beginner.begin(offsetsOf(this, beginner.topic)))) return
  await resolveOffsets.call(this)
}

function offsetsOf(manager: Manager, topic: string): MemberOffsets {
  const all = manager.cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId)
  return {
    all,
    assigned: manager.memberAssignment[topic] ?? [],
    async committed() {
      const coordinator = await manager.getCoordinator()
      const partitions = all.map((partition) => ({ partition }))
      const { responses } = await coordinator.offsetFetch({
        groupId: manager.groupId,
        topics: [{ topic, partitions }],
      })
      return new Map([...byPartition(responses)].filter(([, offset]) => Number(offset) >= 0))
    },
    async ask(partitions, which) {
      const of = partitions.map((partition) => ({ partition }))
      const fromBeginning = which === 'starts'
      return byPartition(await manager.cluster.fetchTopicsOffset([{ topic, partitions: of, fromBeginning }]))
    },
    async commit(offsets) {
      const partitions = Array.from(offsets, ([partition, offset]) => ({ partition, offset }))
      await manager.commitOffsets({ topics: [{ topic, partitions }] })
    },
  }
}

function byPartition(
  topics: readonly { readonly partitions: readonly { partition: number; offset: string }[] }[],
): Map<number, string> {
  return new Map(
    topics.flatMap(({ partitions }) => partitions.map(({ partition, offset }) => [partition, offset])),
  )
}
