import { RecordBatch } from '../protocol/record-batch.ts'
import type { IdentifiedBatch } from './batch-journal.ts'
import type { PendingBatch, RecordSource, Settlement } from './producer.ts'

/**
 * A record batch on its way (Kafka's `ProducerBatch`): its bytes, and besides them its partition, its age, its room in the buffer, and
 * those who wait for its outcome.
 *
 * open → closed (nothing can be appended) → written → settled, where it ends. `account.ts` moves the batch along the last two steps and
 * is the only one that does. The way back begins there, too: `Account.settle` books the outcome, gives the room back, and tells the
 * listeners, each in a microtask of its own, so that none of them runs inside the sender.
 */
export class ProducerBatch extends RecordBatch implements PendingBatch, IdentifiedBatch {
  /** -1: its records have no key, and no partition has taken the batch yet. */
  partition: number
  /** When the first record was appended, by `performance.now()`: linger and delivery timeout count from here. */
  createdAtMs: number
  state: 'open' | 'closed' | 'written' | 'settled' = 'open'
  /** What the batch holds of its stream's buffer memory. Set back to its real size when it is closed. */
  chargedBytes = 0
  /** A client waits for the outcome. */
  isAwaited = false
  /** A codec works on the batch: it cannot be sent before the codec is done. */
  compressing = false
  /** How often the batch was written (at-least-once sends again). */
  attempts = 0
  /** Of a part of a batch that was split: the place that its first record had in the whole; else 0. */
  firstPlace = 0
  /** @inheritdoc */
  whole: PendingBatch = this
  /** @inheritdoc */
  readonly sources: RecordSource[] = []

  #listeners: ((settlement: Settlement) => void)[] | null = null
  /** The records that went to another batch last. */
  #goesOn: Run | null = null
  readonly #onAwaited: (() => void) | null

  /**
   * @param buffer see {@link RecordBatch}.
   * @param recycle see {@link RecordBatch}.
   * @param onAwaited is told, once, that a client waits for the outcome.
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

  /** @inheritdoc */
  onSettled(listener: (settlement: Settlement) => void): void {
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
   * Gives its room in the buffer and those who wait to the parts that hold its records, in order, and closes these. The
   * account then gives the parts an outcome each, in the place of this batch.
   */
  handOverTo(parts: readonly ProducerBatch[]): void {
    let { firstPlace } = this
    let chargedBytes = this.chargedBytes
    for (const [index, part] of parts.entries()) {
      part.close()
      // Its records were written once; that they are in parts uses up no retry.
      part.attempts = 1
      part.firstPlace = firstPlace
      part.whole = this.whole
      part.#listeners = this.#listeners
      // Decompressed, the parts can be larger than their room: one batch a partition at most, as in Kafka's own producer.
      part.chargedBytes = index === parts.length - 1 ? chargedBytes : Math.min(chargedBytes, part.sizeBytes)
      firstPlace += part.recordCount
      chargedBytes -= part.chargedBytes
    }
    this.#listeners = null
  }

  /**
   * The record at `place` goes on as the last one of another batch: who waits for it hears from that one. To be called for
   * each record in order.
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
    target.sources.push(source)
    const run: Run = { target, place, targetPlace, count: 1, source }
    this.#goesOn = run
    target.onSettled((settlement) => {
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
      for (const listener of listeners) listener(own)
    })
  }

  /** Tells those who wait. Called by the account, once. */
  notifySettled(settlement: Settlement): void {
    const listeners = this.#listeners
    if (listeners === null) return
    this.#listeners = null
    for (const listener of listeners) queueMicrotask(() => listener(settlement))
  }
}

/** Records that follow each other in one batch and, from another place on, in the next. */
interface Run {
  readonly target: ProducerBatch
  readonly place: number
  readonly targetPlace: number
  count: number
  /** The same, as the target knows it. */
  readonly source: { count: number }
}
