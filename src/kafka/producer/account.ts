import { dropReasons, outcomeTraits, type DropReason, type Outcome, type OutcomeCounts } from './outcome.ts'
import type { BufferMemory } from './buffer-memory.ts'
import type { ProducerBatch } from './producer-batch.ts'
import { RollingSum } from '../../rolling-sum.ts'

/**
 * The account of one stream, and the one place in the code where a record gets its outcome. At every moment
 * accepted = buffered + in flight + the sum of the outcomes. Each method moves records from one term to another. A batch that has an
 * outcome cannot get a second one.
 */
export class Account implements OutcomeCounts {
  accepted = 0
  buffered = 0
  inFlight = 0
  confirmed = 0
  sent = 0
  suspectedLost = 0
  acked = 0
  deadLettered = 0
  readonly dropped = Object.fromEntries(dropReasons.map((reason) => [reason, 0])) as Record<
    DropReason,
    number
  >
  /** Records that a broker refused for good, by Kafka's name of the error. Not a term of the sum: each of these records has an outcome, too. */
  readonly refused: Record<string, number> = {}
  /** Records that were sent again although Kafka may have them, since Kafka could no longer tell. */
  possiblyRepeated = 0
  /** Attempts: records that were handed to a socket, or dropped before. Kafka's `record-send-total`. */
  recordSendTotal = 0
  /** Records whose outcome is an error (`isError` in `outcome.ts`). */
  recordErrorTotal = 0
  /** The part of {@link recordErrorTotal} that the producer saw fail (`isLocalError`): without the records that are only suspected lost. */
  localErrorTotal = 0

  readonly #memory: BufferMemory
  readonly #recentAttempts = new RollingSum(rateWindowSeconds)
  readonly #recentErrors = new RollingSum(rateWindowSeconds)

  constructor(memory: BufferMemory) {
    this.#memory = memory
  }

  /** One record was appended to an open batch. */
  accept(): void {
    this.accepted++
    this.buffered++
  }

  /** Books `count` records as accepted and as dropped: the buffer is full. */
  acceptAndDrop(count: number): void {
    this.accepted += count
    this.dropped.buffer_full += count
    this.#attempt(count)
    this.#error(count)
    this.localErrorTotal += count
  }

  /** A batch is being handed to a socket, at `nowMs`. A batch that is sent again is in flight already, and nothing changes. */
  written(batch: ProducerBatch, nowMs?: number): void {
    if (batch.state === 'written') return
    if (batch.state !== 'closed') throw new Error(`a batch that is ${batch.state} cannot be written`)
    batch.state = 'written'
    this.buffered -= batch.recordCount
    this.inFlight += batch.recordCount
    this.#attempt(batch.recordCount, nowMs)
  }

  /** The parts of a batch that was written take its place. Its records stay in flight, and the parts share its room. */
  split(batch: ProducerBatch, parts: readonly ProducerBatch[]): void {
    if (batch.state !== 'written') throw new Error(`a batch that is ${batch.state} cannot be split`)
    batch.handOverTo(parts)
    batch.state = 'settled'
    batch.release()
    for (const part of parts) part.state = 'written'
  }

  /** Other batches, which are not written yet, have the records of a batch now. The records are buffered again, and have no outcome. */
  movedOn(batch: ProducerBatch): void {
    if (batch.state === 'settled') throw new Error('a batch that has an outcome cannot go on')
    if (batch.state === 'written') {
      this.inFlight -= batch.recordCount
      this.buffered += batch.recordCount
    }
    batch.state = 'settled'
    // A write of it may still be in this process.
    batch.abandon()
  }

  /**
   * Gives every record of a batch its outcome. In this turn it books the outcome, lets go of the bytes, and gives back the room, which may
   * wake a request that waits for room. In later microtasks it calls the listeners of the batch, such as the spool's feeder and a
   * request that waits for its outcomes.
   * @param reason why the records were dropped or dead-lettered; null for the other outcomes.
   * @param baseOffset offset of the first record of the batch, where the broker told it; else null.
   */
  settle(
    batch: ProducerBatch,
    outcome: Outcome,
    reason: DropReason | null = null,
    baseOffset: bigint | null = null,
  ): void {
    const { recordCount, state } = batch
    if (state === 'settled') throw new Error('a batch got a second outcome')
    if (state === 'written') {
      this.inFlight -= recordCount
    } else {
      this.buffered -= recordCount
      this.#attempt(recordCount)
    }
    batch.state = 'settled'
    this.#book(outcome, reason, recordCount)
    batch.release()
    this.#memory.release(batch.chargedBytes)
    if (!batch.hasListeners) return
    const { partition, firstPlace } = batch
    batch.notifySettled({ outcome, reason, partition, baseOffset, firstPlace, recordCount })
  }

  /** Counts records that a broker refused for good. {@link settle} gives them their outcome. @param kafkaError Kafka's name of the error. */
  refuse(kafkaError: string, recordCount: number): void {
    this.refused[kafkaError] = (this.refused[kafkaError] ?? 0) + recordCount
  }

  /** Attempts and errors of the last 30 s. */
  get recent(): { attempts: number; errors: number } {
    return { attempts: this.#recentAttempts.sum(), errors: this.#recentErrors.sum() }
  }

  #book(outcome: Outcome, reason: DropReason | null, count: number): void {
    const { isError, isLocalError } = outcomeTraits[outcome]
    if (outcome !== 'dropped') this[outcomeTraits[outcome].field] += count
    else if (reason === null) throw new Error('a drop needs its reason')
    else this.dropped[reason] += count
    if (isError) this.#error(count)
    if (isLocalError) this.localErrorTotal += count
  }

  #attempt(count: number, nowMs?: number): void {
    this.recordSendTotal += count
    this.#recentAttempts.add(count, nowMs)
  }

  #error(count: number): void {
    this.recordErrorTotal += count
    this.#recentErrors.add(count)
  }
}

/** The window of Kafka's own rates (`metrics.sample.window.ms`). */
const rateWindowSeconds = 30
