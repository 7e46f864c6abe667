import type { ProducerIdentity } from '../../protocol/requests.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * What is on its way to one partition of an at-least-once stream: at most one batch, so that the order holds whatever
 * fails, and its place in the sequence of the idempotent producer.
 */
export class PartitionFlight {
  readonly partition: number
  batch: ProducerBatch | null = null
  /** Parts of a batch that the broker found too large: they go before anything else does. */
  parts: ProducerBatch[] = []
  /** Where the batch was written and is not answered; null: it is not out. */
  connection: BrokerConnection | null = null
  /** A broker may have the batch, though it did not say so. */
  mayBeStored = false
  retryAtMs = 0
  /** The error for which the batch is kept until an operator has mended it; null: there was none. */
  heldFor: number | null = null
  /** The batch was counted, and logged, as one that can be stored twice. */
  isRepeatCounted = false
  /** A journal has the batch with its sequence. */
  isNoted = false
  /** What {@link #nextSequence} counts under. */
  identity: ProducerIdentity | null = null
  #nextSequence = 0
  /** The batch that has its sequence already. */
  #sequenced: ProducerBatch | null = null

  constructor(partition: number) {
    this.partition = partition
  }

  /** Nothing is on its way. */
  get isEmpty(): boolean {
    return this.batch === null && this.parts.length === 0
  }

  /** Takes away what is next, or null. */
  take(): ProducerBatch | null {
    const batch = this.batch ?? this.parts.shift() ?? null
    this.batch = null
    this.heldFor = null
    return batch
  }

  /**
   * Gives the batch its sequence, once: a batch that is sent again keeps it, and the identity that goes with it, or it
   * could be stored twice.
   */
  sequence(identity: ProducerIdentity): void {
    const batch = this.batch!
    if (this.#sequenced === batch) return
    if (this.identity !== identity) this.#nextSequence = 0
    this.identity = identity
    batch.setProducer(identity.producerId, identity.epoch, this.#nextSequence)
    this.#nextSequence = nextSequence(this.#nextSequence, batch.recordCount)
    this.#sequenced = batch
    this.isNoted = false
  }

  /** The batch has its sequence. */
  get isSequenced(): boolean {
    return this.batch !== null && this.#sequenced === this.batch
  }

  /**
   * Takes a batch that an earlier process noted, with the identity that the process noted. A batch behind it counts from 0 under
   * an identity of this process.
   */
  resume(batch: ProducerBatch, identity: ProducerIdentity, baseSequence: number): void {
    batch.setProducer(identity.producerId, identity.epoch, baseSequence)
    this.batch = this.#sequenced = batch
    this.identity = identity
    this.#nextSequence = nextSequence(baseSequence, batch.recordCount)
    this.isNoted = true
    this.mayBeStored = true
  }

  /** The batch is to get another sequence when it goes next: the broker does not go by this one. */
  forgetSequence(): void {
    this.#sequenced = null
  }

  /** Puts the parts of the batch in its place, which share its sequence among them (as `ProducerBatch.split`). */
  split(parts: ProducerBatch[]): void {
    if (this.#sequenced === this.batch && this.identity !== null) {
      const { recordCount } = this.batch!
      this.#nextSequence = (this.#nextSequence - recordCount + 2 ** 31) % 2 ** 31
    }
    this.#sequenced = null
    this.batch = null
    this.parts.unshift(...parts)
  }
}

/** Sequences are 31 bits wide and start again at 0 (`DefaultRecordBatch.incrementSequence`). */
function nextSequence(sequence: number, recordCount: number): number {
  return (sequence + recordCount) % 2 ** 31
}
