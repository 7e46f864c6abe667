import type { Logger } from '../../logger.ts'
import type { ConsumerDelivery } from '../../config/config.ts'
import type { Process, ConsumedRecord } from './consumer.ts'
import type { ConsumerAccount } from './consumer-account.ts'

/** Records that were polled together, and what can be done about their offsets. */
export interface Poll {
  readonly records: readonly ConsumedRecord[]
  /** Commits the offset behind the records, and waits for the answer. Throws where the group does not take it. */
  commit(): Promise<void>
  /** This member goes on behind the records from now on, whatever happens to them. */
  moveOn(): void
  /** The partition is still this member's, as far as it knows. */
  isCurrent(): boolean
  /** Aborted when the group wants to go on without these records, or the consumer is told to stop. */
  readonly hurry: AbortSignal
  /** Aborted when the time to stop is up. */
  readonly signal: AbortSignal
}

/** What a delivery works with. */
export interface DeliveryContext {
  readonly process: Process
  readonly account: ConsumerAccount
  /** The process failed and `records` were not processed. */
  readonly onFailure: (error: unknown, records: number) => void
}

/** Delivers one poll. Where it throws, nothing was processed that is not in the account, and the member joins anew. */
export type Deliver = (poll: Poll, context: DeliveryContext) => Promise<void>

/** The three orders of committing and processing. */
export const deliveries: Readonly<Record<ConsumerDelivery, Deliver>> = {
  'at-most-once': commitThenProcess,
  'at-least-once': processThenCommit,
  'auto-commit': processByTheClock,
}

/** Whether the offsets of a delivery are committed by a timer (`auto-commit.ts`), whatever was processed. */
export const commitsByTheClock: Readonly<Record<ConsumerDelivery, boolean>> = {
  'at-most-once': false,
  'at-least-once': false,
  'auto-commit': true,
}

/**
 * Commit before process: once the commit is known to have been taken, nobody will see these records again, so that what
 * fails from there on is lost and never repeated. Where it is not known, nothing is processed: another member may have them.
 */
async function commitThenProcess(poll: Poll, context: DeliveryContext): Promise<void> {
  const { account } = context
  const { length } = poll.records
  try {
    await poll.commit()
  } catch (error) {
    account.giveBack(length)
    throw error
  }
  poll.moveOn()
  // A rebalance in between may have given the partition to a member that began before this commit.
  if (!poll.isCurrent()) account.lose(length)
  else await processOnce(poll, context)
}

/** Process before commit: what fails is processed again, by this member or by the next one; nothing is lost. */
async function processThenCommit(poll: Poll, context: DeliveryContext): Promise<void> {
  const { account, onFailure } = context
  let rest = poll.records
  for (let attempt = 0; rest.length > 0; attempt++) {
    const { error, done } = await tryProcess(rest, poll, context)
    account.process(done)
    rest = rest.slice(done)
    if (error === null) continue
    onFailure(error, rest.length)
    if (poll.hurry.aborted || !poll.isCurrent()) {
      account.giveBack(rest.length)
      return
    }
    await pause(Math.min(maxBackoffMs, minBackoffMs * 2 ** attempt), poll.hurry)
  }
  await poll.commit()
  poll.moveOn()
}

/**
 * Commits by the clock, as `enable.auto.commit` does: the commits say how far was polled, and nothing about what was processed. So a
 * crash repeats the records that were processed since the last commit, and loses records that were polled before it and not processed.
 */
async function processByTheClock(poll: Poll, context: DeliveryContext): Promise<void> {
  poll.moveOn()
  await processOnce(poll, context)
}

async function processOnce(poll: Poll, context: DeliveryContext): Promise<void> {
  const { error, done } = await tryProcess(poll.records, poll, context)
  const rest = poll.records.length - done
  context.account.process(done)
  context.account.lose(rest)
  if (error !== null) context.onFailure(error, rest)
}

/** @returns how many records are done; all of them unless there is an error. */
async function tryProcess(
  records: readonly ConsumedRecord[],
  { signal }: Poll,
  { process }: DeliveryContext,
): Promise<{ error: unknown; done: number }> {
  let done = 0
  const processed = (count: number): void => {
    done = Math.max(done, Math.min(count, records.length))
  }
  try {
    await process(records, { signal, processed })
    return { error: null, done: records.length }
  } catch (error) {
    return { error: error ?? new Error('the process failed and did not say why'), done }
  }
}

/** Waits, but not longer than until the signal is aborted. */
async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, durationMs)
    signal.addEventListener('abort', end)
  })
}

const minBackoffMs = 100
const maxBackoffMs = 5_000

/** Logs failures that come in numbers: the first at once, then at most a line every ten seconds, with the count. */
export class FailureLog {
  readonly #logger: Logger
  readonly #message: string
  #records = 0
  #lastMs = Number.NEGATIVE_INFINITY

  constructor(logger: Logger, delivery: ConsumerDelivery) {
    this.#logger = logger
    this.#message = failureMessages[delivery]
  }

  add(error: unknown, records: number): void {
    this.#records += records
    const nowMs = performance.now()
    if (nowMs - this.#lastMs < logPauseMs) return
    this.#lastMs = nowMs
    this.#logger.error({ cause: (error as Error).message, records: this.#records }, this.#message)
    this.#records = 0
  }
}

const failureMessages: Readonly<Record<ConsumerDelivery, string>> = {
  'at-most-once': 'records were committed and not processed: they are lost',
  'at-least-once': 'records could not be processed; trying again',
  'auto-commit': 'records could not be processed: they are lost',
}

const logPauseMs = 10_000
