import type { PendingBatch, Settlement } from '../kafka/producer/producer.ts'
import type { Group } from './group.ts'

/**
 * A record on disk, for whoever waits to hear what becomes of it. It is a batch of its own to them: which of the
 * producer's batches takes it is not known before it is fed.
 */
export class SpooledRecord implements PendingBatch {
  readonly recordCount = 1
  partition = -1
  /** Its place in the group. */
  readonly place: number
  readonly #group: Group<SpooledRecord>
  #listeners: ((settlement: Settlement) => void)[] | null = null
  #isAwaited = false

  constructor(group: Group<SpooledRecord>) {
    this.#group = group
    this.place = group.recordCount - 1
  }

  /** @inheritdoc */
  onSettled(listener: (settlement: Settlement) => void): void {
    if (this.#listeners === null) {
      this.#listeners = []
      this.#group.waiters.push(this)
    }
    this.#listeners.push(listener)
  }

  /** @inheritdoc */
  hurry(): void {
    this.#isAwaited = true
  }

  /**
   * It is the record at `place` of a producer's batch now.
   * @param isLeft tells whether the records of a settlement stay on disk: their end is for the next process to learn.
   */
  follow(batch: PendingBatch, place: number, isLeft: (settlement: Settlement) => boolean): void {
    batch.onSettled((settlement) => {
      const { outcome, reason, partition, baseOffset, firstPlace, recordCount } = settlement
      const nth = place - firstPlace
      if (nth < 0 || nth >= recordCount) return
      if (isLeft(settlement)) return this.leave()
      this.partition = partition
      this.settle({ outcome, reason, baseOffset: baseOffset === null ? null : baseOffset + BigInt(nth) })
    })
    if (this.#isAwaited) batch.hurry()
  }

  /** Tells those who wait that this process will not learn the record's end. */
  leave(): void {
    this.settle({ outcome: 'pending', reason: null })
  }

  /** Tells those who wait. */
  settle(end: Pick<Settlement, 'outcome' | 'reason'> & { baseOffset?: bigint | null }): void {
    const { partition } = this
    const settlement: Settlement = { partition, baseOffset: null, firstPlace: 0, recordCount: 1, ...end }
    for (const listener of this.#listeners ?? []) listener(settlement)
    this.#listeners = null
  }
}
