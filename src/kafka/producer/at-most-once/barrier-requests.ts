import { encodeListOffsets } from '../../protocol/requests.ts'
import type { WireRequest } from '../../protocol/wire.ts'

/**
 * The two requests of a barrier, of which only the asking replica differs. They are made anew only where other partitions
 * are asked about than the last time: a topic with one partition has the same two for good.
 */
export class BarrierRequests {
  readonly #topic: string
  #partitions: readonly number[] = []
  #pair: BarrierPair | null = null

  constructor(topic: string) {
    this.#topic = topic
  }

  /** Asks about these partitions. */
  about(partitions: readonly number[]): BarrierPair {
    if (this.#pair === null || !isSame(this.#partitions, partitions)) {
      this.#partitions = partitions
      this.#pair = {
        logEnd: encodeListOffsets(this.#topic, partitions, 'log_end'),
        highWatermark: encodeListOffsets(this.#topic, partitions, 'high_watermark'),
      }
    }
    return this.#pair
  }
}

/** See {@link BarrierRequests}. */
interface BarrierPair {
  readonly logEnd: WireRequest
  readonly highWatermark: WireRequest
}

function isSame(some: readonly number[], others: readonly number[]): boolean {
  return some.length === others.length && some.every((partition, i) => partition === others[i])
}
