import OffsetManager from 'kafkajs/src/consumer/offsetManager/index.js'

/**
 * Decides where a member goes on whose position a partition does not have (OFFSET_OUT_OF_RANGE). kafkajs commits −1 or −2 for the group, so that
 * it takes the partition's present start or end at its next fetch, and tells nobody. The decision replaces that for one member, by kafkajs's id
 * of it. kafkajs fetches nothing more from the broker until the decision is made.
 * @returns ends the decisions.
 */
export function decideOutOfRange(memberId: string, decide: DecideOutOfRange): () => void {
  deciders.set(memberId, decide)
  return () => void deciders.delete(memberId)
}

/** @param moveTo commits an offset for the group, and has the member fetch from there. Throws if the group does not take the commit. */
export type DecideOutOfRange = (
  partition: number,
  position: number,
  moveTo: (offset: number) => Promise<void>,
) => Promise<void>

const deciders = new Map<string, DecideOutOfRange>()

const setDefaultOffset = OffsetManager.prototype.setDefaultOffset
OffsetManager.prototype.setDefaultOffset = async function decideOrSetDefault({ topic, partition }) {
  const decide = deciders.get(this.memberId)
  if (decide === undefined) {
    await setDefaultOffset.call(this, { topic, partition })
    return
  }
  // An answer that was asked for in an earlier assignment. The member does not know its position yet, and kafkajs would call it 0.
  if (this.committedOffsets()[topic]?.[partition] === undefined) return
  await decide(partition, Number(this.nextOffset(topic, partition)), async (offset) => {
    const partitions = [{ partition, offset: String(offset) }]
    await this.commitOffsets({ topics: [{ topic, partitions }] })
    this.clearOffsets({ topic, partition })
  })
}
