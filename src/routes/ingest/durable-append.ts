import type { EventBatch } from '../../events/event-batch.ts'
import type { CommitListener } from '../../kafka/producer/producer.ts'
import { spoolUnavailable, spoolUndecided } from './admit.ts'
import type { EventOutcome } from './append.ts'
import type { StreamTarget } from './stream-target.ts'

/** What {@link DurableAppend} needs of its request. `IngestExchange` implements it. */
export interface DurableRequest {
  readonly target: StreamTarget
  /** Books what was committed, and calls `done`, in this turn or a later one. */
  keep(batch: EventBatch, done: () => void): void
  succeed(batch: EventBatch, outcomes: EventOutcome[] | null): void
  fail(error: unknown): void
  /** The keys of the request stay claimed until their lease ends, whatever the answer is. */
  leaveClaim(): void
}

/**
 * The part of a durable request between its append and its reply. The reply needs the commit and, if the client waits for them, the outcomes.
 * These come in any order. A commit that failed is answered at once, and there is no other reply after that.
 */
export class DurableAppend implements CommitListener {
  readonly #request: DurableRequest
  readonly #batch: EventBatch
  /** The events are on disk, and booked. A commit that failed never gets here. */
  #isKept = false
  /** The outcomes are known, or the client does not wait for them any more, or never did. */
  #isWaitOver: boolean
  #outcomes: EventOutcome[] | null = null

  /** @param waits whether the client waits for the outcomes. */
  constructor(request: DurableRequest, batch: EventBatch, waits: boolean) {
    this.#request = request
    this.#batch = batch
    this.#isWaitOver = !waits
  }

  /** The wait for the outcomes is over. @param outcomes null: they were not known in time. */
  waited(outcomes: EventOutcome[] | null): void {
    this.#isWaitOver = true
    this.#outcomes = outcomes
    this.#answer()
  }

  /** @inheritdoc */
  committed(failure: string | null, isUndecided = false): void {
    if (failure === null) {
      this.#request.keep(this.#batch, () => {
        this.#isKept = true
        this.#answer()
      })
      return
    }
    const { producer } = this.#request.target
    // The next start may find the events and send them. Until then no other gateway may take the request as new.
    if (isUndecided && producer.admission === 'closing') this.#request.leaveClaim()
    this.#request.fail(isUndecided ? spoolUndecided() : spoolUnavailable(producer))
  }

  #answer(): void {
    if (this.#isKept && this.#isWaitOver) this.#request.succeed(this.#batch, this.#outcomes)
  }
}
