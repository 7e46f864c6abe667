import { RecordBatch } from '../protocol/record-batch.ts'
import type { IdentifiedBatch } from './batch-journal.ts'
import type { PendingBatch, RecordSource, SettledBatch, Settlement, SettlementListener } from './producer.ts'

/**
 * A record batch on its way (Kafka's `ProducerBatch`): its bytes, and besides them its partition, its age, its room in the buffer, and the
 * listeners that wait for its outcome.
 *
 * The states are open → closed (no record can be appended) → written → settled. `accumulator.ts` decides when a batch closes: when it has
 * lingered, or when the next record would pass `batch.size` ({@link RecordBatch.append}). Only `account.ts` moves a batch to the last two states.
 * The way back of an outcome begins there: `Account.settle` books the outcome, gives the room back, and tells the listeners, each in a
 * microtask of its own, so that no listener runs inside the sender.
 */
export class ProducerBatch extends RecordBatch implements PendingBatch, SettledBatch, IdentifiedBatch {
  /** -1: its records have no key, and no partition has taken the batch yet. */
  partition: number
  /** When the batch was opened, by `performance.now()`. The delivery timeout counts from here. */
  createdAtMs: number
  /** The period in which the batch was opened. When it is over, the batch has lingered (`linger-clock.ts`). */
  period = 0
  /** @inheritdoc */
  writtenAtMs = 0
  state: 'open' | 'closed' | 'written' | 'settled' = 'open'
  /** The room of its stream's buffer memory that the batch holds, in bytes. It is reduced to the real size when the batch is closed. */
  chargedBytes = 0
  /** A client waits for the outcome. */
  isAwaited = false
  /** A codec works on the batch: it cannot be sent before the codec is done. */
  compressing = false
  /** The batch is a part of one that a broker may have stored, and that was counted as such. */
  isInDoubt = false
  /** How often the batch was written. An at-least-once stream writes a batch more than once. */
  attempts = 0
  /** The place that the first record of this batch had in the batch that was split; 0 for a batch that is no part of another. */
  firstPlace = 0
  /** @inheritdoc */
  whole: PendingBatch = this
  /** @inheritdoc */
  get sources(): readonly RecordSource[] {
    return this.#sources ?? noSources
  }

  #sources: RecordSource[] | null = null

  #listeners: SettlementListener[] | null = null
  /** The last run of records that went to another batch. */
  #goesOn: Run | null = null
  readonly #onAwaited: (() => void) | null

  /**
   * @param buffer see {@link RecordBatch}.
   * @param recycle see {@link RecordBatch}.
   * @param onAwaited is called once, when a client begins to wait for the outcome.
   */
  constructor(
    partition: number,
    createdAtMs: number,
    buffer: Buffer,
    recycle: (buffer: Buffer) => void,
    onAwaited: (() => void) | null = null,
  ) {
    super(buffer, recycle)
    this.partition = partition
    this.createdAtMs = createdAtMs
    this.#onAwaited = onAwaited
  }

  override close(): void {
    super.close()
    this.state = 'closed'
  }

  /** Gives up the bytes. A codec that works on the batch goes on to read them, so then nobody else may have the buffer. */
  override release(): void {
    if (this.compressing) this.abandon()
    else super.release()
  }

  /** @inheritdoc */
  onSettled(listener: SettlementListener): void {
    this.#listeners ??= []
    this.#listeners.push(listener)
  }

  /** @inheritdoc */
  hurry(): void {
    if (this.isAwaited) return
    this.isAwaited = true
    this.#onAwaited?.()
  }

  /**
   * Gives the parts that hold its records, in order, its room in the buffer and its listeners, and closes the parts. From now on the parts
   * get outcomes, and this batch gets none.
   */
  handOverTo(parts: readonly ProducerBatch[]): void {
    let { firstPlace } = this
    let chargedBytes = this.chargedBytes
    for (const [index, part] of parts.entries()) {
      part.close()
      // The records were written once, as a whole batch. The split itself uses up no retry.
      part.attempts = 1
      part.writtenAtMs = this.writtenAtMs
      part.firstPlace = firstPlace
      part.whole = this.whole
      // A list of its own: who listens to one part does not listen to the others.
      part.#listeners = this.#listeners === null ? null : [...this.#listeners]
      // The parts are not compressed and can be larger than their room. Kafka's own producer allows that, too. It is one batch a partition at most.
      part.chargedBytes = index === parts.length - 1 ? chargedBytes : Math.min(chargedBytes, part.sizeBytes)
      firstPlace += part.recordCount
      chargedBytes -= part.chargedBytes
    }
    this.#listeners = null
  }

  /**
   * The record at `place` is now the last record of another batch. The listeners of this batch get the outcome of that batch. To be called
   * for each record, in order.
   */
  goesOnIn(target: ProducerBatch, place: number): void {
    if (this.isAwaited) target.hurry()
    const listeners = this.#listeners
    if (listeners === null) return
    const targetPlace = target.recordCount - 1
    const before = this.#goesOn
    const isNext =
      before !== null &&
      before.target === target &&
      before.place + before.count === place &&
      before.targetPlace + before.count === targetPlace
    if (isNext) {
      before.count++
      before.source.count++
      return
    }
    const source = { batch: this.whole, place: this.firstPlace + place, targetPlace, count: 1 }
    target.#sources ??= []
    target.#sources.push(source)
    const run: Run = { target, place, targetPlace, count: 1, source }
    this.#goesOn = run
    target.onSettled((settlement, batch) => {
      const from = Math.max(run.targetPlace, settlement.firstPlace)
      const to = Math.min(run.targetPlace + run.count, settlement.firstPlace + settlement.recordCount)
      if (from >= to) return
      const { baseOffset } = settlement
      const own: Settlement = {
        ...settlement,
        baseOffset: baseOffset === null ? null : baseOffset + BigInt(from - settlement.firstPlace),
        firstPlace: this.firstPlace + run.place + from - run.targetPlace,
        recordCount: to - from,
      }
      for (const listener of listeners) listener(own, batch)
    })
  }

  /** Somebody waits for the outcome. */
  get hasListeners(): boolean {
    return this.#listeners !== null
  }

  /** Tells the listeners. The account calls this once. */
  notifySettled(settlement: Settlement): void {
    const listeners = this.#listeners
    if (listeners === null) return
    this.#listeners = null
    for (const listener of listeners) queueMicrotask(() => listener(settlement, this))
  }
}

const noSources: readonly RecordSource[] = []

/** Records that follow each other in one batch and, from another place on, in another batch. */
interface Run {
  readonly target: ProducerBatch
  readonly place: number
  readonly targetPlace: number
  count: number
  /** The same run, in the list of the target ({@link PendingBatch.sources}). */
  readonly source: { count: number }
}
