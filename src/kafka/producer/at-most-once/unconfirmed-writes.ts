import type { BrokerConnection } from '../../network/transport.ts'
import { encodeMetadata } from '../../protocol/requests.ts'
import type { Account } from '../account.ts'
import type { ProducerBatch } from '../producer-batch.ts'

/**
 * The acks=0 writes of one link with `confirm: off`. The producer does not ask what became of them. When the kernel has taken a batch, the
 * batch gets the outcome `sent`.
 */
export class UnconfirmedWrites {
  readonly #account: Account
  /** Writes that the kernel has not taken whole, in the order of writing. */
  #unflushed: ProducerBatch[][] = []
  /** Stands for the question whether the broker has handled everything; null: it was not asked, or something was written since. */
  #drain: object | null = null

  constructor(account: Account) {
    this.#account = account
  }

  /** Writes that the kernel has not taken whole. */
  get count(): number {
    return this.#unflushed.length
  }

  /** The broker was asked whether it has handled everything. */
  get isDraining(): boolean {
    return this.#drain !== null
  }

  /** Something is written now, so the answer to an earlier question counts no more. */
  forgetDrain(): void {
    this.#drain = null
  }

  /** Batches are being written. */
  written(batches: ProducerBatch[]): void {
    this.#unflushed.push(batches)
  }

  /** The kernel has the batches. @returns false where they have another outcome by now. */
  flushed(batches: readonly ProducerBatch[]): boolean {
    if (this.#unflushed[0] !== batches) return false
    this.#unflushed.shift()
    for (const batch of batches) this.#account.settle(batch, 'sent')
    return true
  }

  /** Asks the broker for a little metadata. A broker answers in order, so its answer shows that it has handled all earlier writes. */
  drain(connection: BrokerConnection, onDrained: () => void): void {
    const drain = (this.#drain = {})
    const drained = (): void => {
      if (this.#drain !== drain) return
      this.#drain = null
      onDrained()
    }
    connection.call(encodeMetadata([]), drained, (error) => connection.destroy(error))
  }

  /** The connection has ended. Gives back the batches that the kernel has not taken, in the order of writing. */
  takeAll(): ProducerBatch[] {
    this.#drain = null
    return this.#unflushed.splice(0).flat()
  }
}
