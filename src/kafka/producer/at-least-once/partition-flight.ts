import type { ProducerIdentity } from '../../protocol/requests.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import type { BrokerConnection } from '../../network/transport.ts'

/**
 * The batch that is on its way to one partition of an at-least-once stream, and its place in the sequence of the idempotent producer. At most
 * one batch is on its way, so the records keep their order whatever fails.
 */
export class PartitionFlight {
  readonly partition: number
  batch: ProducerBatch | null = null
  /** Parts of a batch that the broker refused for its size or for a record in it. They go before any other batch. */
  parts: ProducerBatch[] = []
  /** The connection over which the batch goes. It may wait for its note, for the others of its request, or for the answer. null: it waits to be sent. */
  connection: BrokerConnection | null = null
  /** A broker may have stored the batch, although it did not acknowledge it. */
  mayBeStored = false
  retryAtMs = 0
  /** Tries of the batch that do not count as `retries`, since other streams may be to blame. */
  sparedTries = 0
  /** The error for which the batch waits, until an operator has mended its cause; null: the batch does not wait for an operator. */
  heldFor: number | null = null
  /** The batch was counted and logged as one that may be stored twice. */
  isRepeatCounted = false
  /** A journal has the batch with its sequence. */
  isNoted = false
  /** The identity to which {@link #nextSequence} belongs. */
  identity: ProducerIdentity | null = null
  #nextSequence = 0
  /** The batch that got a sequence last; null if that sequence counts no more. */
  #sequenced: ProducerBatch | null = null

  constructor(partition: number) {
    this.partition = partition
  }

  /** No batch and no part is on its way. */
  get isEmpty(): boolean {
    return this.batch === null && this.parts.length === 0
  }

  /** Puts the next part in the place of a batch that is gone, with the doubt of the part. */
  nextPart(): void {
    this.sparedTries = 0
    this.batch = this.parts.shift() ?? null
    if (this.batch !== null) this.mayBeStored = this.isRepeatCounted = this.batch.isInDoubt
  }

  /** Takes out the batch, or the next part; null if there is none. */
  take(): ProducerBatch | null {
    const batch = this.batch ?? this.parts.shift() ?? null
    this.batch = null
    this.heldFor = null
    return batch
  }

  /**
   * Gives the batch its identity and its sequence, once. A batch that is sent again keeps both, or a broker could store it twice.
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

  /** There is a batch, and it has its sequence. */
  get isSequenced(): boolean {
    return this.batch !== null && this.#sequenced === this.batch
  }

  /**
   * Takes a batch that an earlier process noted, with the identity that the process noted. The batches behind it count from 0, under an
   * identity of this process.
   */
  resume(batch: ProducerBatch, identity: ProducerIdentity, baseSequence: number): void {
    batch.setProducer(identity.producerId, identity.epoch, baseSequence)
    this.batch = this.#sequenced = batch
    this.identity = identity
    this.#nextSequence = nextSequence(baseSequence, batch.recordCount)
    this.isNoted = true
    this.mayBeStored = true
  }

  /** The batch gets another sequence when it is written next, since the broker does not accept the one that it has. */
  forgetSequence(): void {
    this.#sequenced = null
  }

  /** Puts the parts of the batch in its place. The parts share its sequence (as in Kafka's `ProducerBatch.split`). */
  split(parts: ProducerBatch[]): void {
    if (this.#sequenced === this.batch && this.identity !== null) {
      const { recordCount } = this.batch!
      this.#nextSequence = (this.#nextSequence - recordCount + 2 ** 31) % 2 ** 31
    }
    this.#sequenced = null
    this.batch = null
    for (const part of parts) part.isInDoubt = this.mayBeStored
    this.parts.unshift(...parts)
  }
}

/** Sequences are 31 bits wide. Behind the highest one comes 0 (Kafka's `DefaultRecordBatch.incrementSequence`). */
function nextSequence(sequence: number, recordCount: number): number {
  return (sequence + recordCount) % 2 ** 31
}
