import {
  countOf,
  dropReasons,
  dropReasonTraits,
  keptOutcomes,
  outcomeTraits,
  type DropReason,
  type Outcome,
  type OutcomeCounts,
} from '../kafka/producer/outcome.ts'
import type { ProducerStats, SpoolStats } from '../kafka/producer/producer.ts'
import { withRatios } from '../kafka/producer/producer-stats.ts'

/** What a spool counts beside the producer behind it. At every moment the sum of `ProducerStats.accepted` holds. */
export class SpoolAccount {
  /** Records that were committed, or dropped when they came. */
  accepted = 0
  /** Records that an earlier process accepted and left on disk. */
  readonly recovered: number
  /** Records that got an outcome and are done. */
  drained = 0
  /** Reads of the log that failed. */
  readFailures = 0
  /** Records that go again though Kafka may have them. The producer counts others by itself. */
  possiblyRepeated = 0
  /** Records that were on disk and never get to the producer. */
  readonly #dropped: Partial<Record<DropReason, number>> = {}
  /** The producer's outcomes of {@link leftOutcomes} before the process began to end; null: it has not begun to. */
  #beforeEnd: Readonly<OutcomeCounts> | null = null

  constructor(recovered: number) {
    this.recovered = recovered
  }

  /** Books records that were on disk and never get to the producer. */
  drop(reason: DropReason, count: number): void {
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + count
  }

  /**
   * The process begins to end. Records that the producer suspected lost so far have this outcome. Records that it gives up or
   * suspects lost from now on are on disk, and the next process sends them (`isLeftAtEnd` in outcome.ts).
   */
  beginEnd(inner: ProducerStats): void {
    this.#beforeEnd ??= { ...inner }
  }

  /** The numbers of the durable stream, from those of the producer and those of the spool. */
  stats(inner: ProducerStats, spool: SpoolStats): ProducerStats {
    const dropped = { ...inner.dropped }
    let droppedHere = 0
    for (const [reason, count] of Object.entries(this.#dropped)) {
      dropped[reason as DropReason] += count
      droppedHere += count
    }
    const left = { records: 0, errors: 0, localErrors: 0 }
    const leave = (outcome: Outcome, count: number): void => {
      left.records += count
      if (outcomeTraits[outcome].isError) left.errors += count
      if (outcomeTraits[outcome].isLocalError) left.localErrors += count
    }
    for (const reason of leftReasons) {
      leave('dropped', dropped[reason])
      dropped[reason] = 0
    }
    const before: { [K in keyof Omit<OutcomeCounts, 'dropped'>]?: number } = {}
    for (const outcome of leftOutcomes) {
      const count = countOf(this.#beforeEnd ?? inner, outcome)
      leave(outcome, countOf(inner, outcome) - count)
      before[outcomeTraits[outcome].field] = count
    }
    return withRatios({
      ...inner,
      ...before,
      accepted: this.accepted,
      recovered: this.recovered,
      spooled: this.accepted + this.recovered - inner.accepted - droppedHere + left.records,
      possiblyRepeated: inner.possiblyRepeated + this.possiblyRepeated,
      dropped,
      recordSendTotal: inner.recordSendTotal + droppedHere,
      recordErrorTotal: inner.recordErrorTotal + droppedHere - left.errors,
      localErrorTotal: inner.localErrorTotal + droppedHere - left.localErrors,
      spool,
    })
  }
}

/** What the producer books at the end of the process, and what the next process sends. */
const leftOutcomes = keptOutcomes.filter((outcome) => outcomeTraits[outcome].isLeftAtEnd)
const leftReasons = dropReasons.filter((reason) => dropReasonTraits[reason].isLeftAtEnd)
