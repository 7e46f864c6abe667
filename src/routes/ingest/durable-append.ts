import type { EventBatch } from '../../events/event-batch.ts'
import type { Claim } from '../../dedupe/deduplicator.ts'
import type { CommitListener, Durability, LargeCommit } from '../../kafka/producer/producer.ts'
import { spoolUnavailable, spoolUndecided } from './admit.ts'
import { append, type Appender, AwaitedAppend, type Outcomes } from './append.ts'
import { jobInTurns } from './decode-in-turns.ts'
import { inTurns } from './in-turns.ts'
import { lastStep, manyEvents, notingParts, releasingParts } from './part-steps.ts'
import { inParts } from '../../dedupe/steps.ts'
import type { Preferences } from './prefer.ts'
import type { StreamTarget } from './stream-target.ts'

/** What {@link DurableAppend} needs of its request. `IngestExchange` implements it. */
export interface DurableRequest {
  readonly target: StreamTarget
  readonly preferences: Preferences
  /** Books what was committed, and calls `done`, in this turn or a later one. */
  keep(batch: EventBatch, done: () => void): void
  succeed(batch: EventBatch, outcomes: Outcomes | null): void
  fail(error: unknown): void
  /** Takes records as `appender` does. Where the request has spans, each record is followed to its outcome. */
  followed(appender: Appender): Appender
  /** The answer leaves the keys of the request claimed. Whoever calls this has to release them. */
  leaveClaim(): void
}

/** Appends the events of a request, notes its keys, and commits both. @param request gets the reply to make. */
export function appendDurably(
  request: DurableRequest,
  batch: EventBatch,
  { durability, claim }: { durability: Durability; claim: Claim | null },
): void {
  const { waitSeconds } = request.preferences
  const durable = new DurableAppend(request, batch, { durability, claim, waits: waitSeconds !== null })
  const commit = batch.good < manyEvents ? null : durability.begin()
  const { producer } = request.target
  const appender = request.followed(commit ?? producer)
  const done = (outcomes: Outcomes | null): void => durable.waited(outcomes)
  const awaited =
    waitSeconds === null
      ? null
      : new AwaitedAppend(producer, batch, { waitMs: waitSeconds * 1000, done, appender })
  if (commit === null) {
    if (awaited === null) append(appender, batch)
    else awaited.append()
    claim?.note()
    durability.commit(durable)
  } else appendInParts(request, batch, { commit, appender, awaited, claim, durable })
}

/** Appends many events, and notes their keys, a part a turn. All parts are in one commit. */
function appendInParts(
  request: DurableRequest,
  batch: EventBatch,
  parts: {
    readonly commit: LargeCommit
    readonly appender: Appender
    readonly awaited: AwaitedAppend | null
    readonly claim: Claim | null
    readonly durable: DurableAppend
  },
): void {
  const { commit, appender, awaited, claim, durable } = parts
  const appendPart = (from: number, to: number): void => {
    if (awaited === null) append(appender, batch, from, to)
    else awaited.append(from, to)
  }
  const committing = lastStep(() => commit.commit(durable))
  jobInTurns(
    request,
    inParts(batch.good, manyEvents, appendPart, () => notingParts(claim, commit, committing)),
  )
}

/**
 * The part of a durable request between its append and its reply. The reply needs the commit and, if the client waits for them, the outcomes.
 * These come in any order. A commit that failed is answered at once, and there is no other reply after that.
 */
class DurableAppend implements CommitListener {
  readonly #request: DurableRequest
  readonly #batch: EventBatch
  readonly #durability: Durability
  readonly #claim: Claim | null
  /** The events are on disk, and booked. A commit that failed never gets here. */
  #isKept = false
  /** The outcomes are known, or the client does not wait for them any more, or never did. */
  #isWaitOver: boolean
  #outcomes: Outcomes | null = null

  /** @param waits whether the client waits for the outcomes. */
  constructor(
    request: DurableRequest,
    batch: EventBatch,
    { durability, claim, waits }: { durability: Durability; claim: Claim | null; waits: boolean },
  ) {
    this.#request = request
    this.#batch = batch
    this.#durability = durability
    this.#claim = claim
    this.#isWaitOver = !waits
  }

  /** The wait for the outcomes is over. @param outcomes null: they were not known in time. */
  waited(outcomes: Outcomes | null): void {
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
    const claim = this.#claim
    if (isUndecided && claim !== null) {
      // The next start may find the events and send them. As long as that is so, no other gateway may take the request as new.
      this.#request.leaveClaim()
      this.#durability.whenDecided(() => releaseInTurns(claim))
    }
    this.#request.fail(isUndecided ? spoolUndecided() : spoolUnavailable(producer))
  }

  #answer(): void {
    if (this.#isKept && this.#isWaitOver) this.#request.succeed(this.#batch, this.#outcomes)
  }
}

/** Releases a claim after the reply, that of many events a part a turn. */
function releaseInTurns(claim: Claim): void {
  if (claim.parts.length === 0) claim.release()
  else
    inTurns(
      releasingParts(
        claim,
        lastStep(() => {}),
      ),
    )
}
