import type { Logger } from '../../logger.ts'
import type { ConsumerDelivery } from '../../config/consumer-config.ts'
import type { Process, ConsumedRecord } from './consumer.ts'
import type { ConsumerAccount } from './consumer-account.ts'

/** Records that were polled together, and the steps that a delivery can take. */
export interface Poll {
  readonly records: readonly ConsumedRecord[]
  /** Commits the offset behind the records, and waits for the answer. Throws if the group does not take the commit. */
  commit(): Promise<void>
  /** From now on this member polls the records behind these, whatever happens to these. */
  moveOn(): void
  /** There was no rebalance since the poll, as far as this member knows. */
  isCurrent(): boolean
  /** Is aborted when the group goes on without this member, when processing takes too long, or when the time to stop is up. */
  readonly hurry: AbortSignal
  /** Is aborted when the time to stop is up. */
  readonly signal: AbortSignal
}

/** What a delivery needs besides a poll. */
export interface DeliveryContext {
  readonly process: Process
  readonly account: ConsumerAccount
  readonly onFailure: (failure: Failure) => void
}

/** The process failed, and did not process `records` records. */
export interface Failure {
  readonly error: unknown
  readonly records: number
  readonly fate: FateOfFailed
}

/** What becomes of records that could not be processed: this member processes them again, another poll of the group does, or nobody does. */
type FateOfFailed = 'retried' | 'returned' | 'lost'

/** Delivers one poll. It throws if a commit fails. Then the account is right, and the member joins the group anew. */
export type Deliver = (poll: Poll, context: DeliveryContext) => Promise<void>

/** The three orders of committing and processing. */
export const deliveries: Readonly<Record<ConsumerDelivery, Deliver>> = {
  'at-most-once': commitThenProcess,
  'at-least-once': processThenCommit,
  'auto-commit': processByTheClock,
}

/**
 * Commits and then processes. Once the commit is known to be taken, no member polls these records again. So a record that fails afterwards is
 * lost, and never repeated. If it is not known whether the commit was taken, nothing is processed, since another member may have the records.
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
  // A rebalance meanwhile may have given the partition to a member that began to poll before this commit.
  if (!poll.isCurrent()) account.lose(length)
  else await processOnce(poll, context)
}

/** Processes and then commits. Records that fail are processed again, by this member or by the next one, and none is lost. */
async function processThenCommit(poll: Poll, context: DeliveryContext): Promise<void> {
  const { account, onFailure } = context
  let rest = poll.records
  for (let attempt = 0; rest.length > 0; attempt++) {
    const { error, done } = await tryProcess(rest, poll, context)
    account.process(done)
    rest = rest.slice(done)
    if (error === null) continue
    const givesUp = poll.hurry.aborted || !poll.isCurrent()
    onFailure({ error, records: rest.length, fate: givesUp ? 'returned' : 'retried' })
    if (givesUp) {
      account.giveBack(rest.length)
      return
    }
    await pause(Math.min(maxBackoffMs, minBackoffMs * 2 ** attempt), poll.hurry)
  }
  // In another assignment the group's committed offset counts, and another member may have moved it on.
  if (!poll.isCurrent()) return
  await poll.commit()
  poll.moveOn()
}

/**
 * Processes, while `auto-commit.ts` commits by the clock, as `enable.auto.commit` does. These commits have the polled position, whatever was
 * processed. So a crash repeats the records that were processed since the last commit. It loses the records that were polled before that
 * commit and not processed.
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
  if (error !== null) context.onFailure({ error, records: rest, fate: 'lost' })
}

/** Calls the process. @returns how many records are done: all of them unless there is an error. */
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

/** Waits for a time, or until the signal is aborted. */
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

/**
 * Logs failures of the process, each fate by itself: the first one at once, and then at most one line in ten seconds. `records` of a line
 * counts each record once: those that were lost or given back since the last line, or those that the last attempt has left.
 */
export class FailureLog {
  readonly #logger: Logger
  readonly #untold: Readonly<Record<FateOfFailed, Untold>> = {
    retried: { attempts: 0, records: 0, lastMs: Number.NEGATIVE_INFINITY },
    returned: { attempts: 0, records: 0, lastMs: Number.NEGATIVE_INFINITY },
    lost: { attempts: 0, records: 0, lastMs: Number.NEGATIVE_INFINITY },
  }

  constructor(logger: Logger) {
    this.#logger = logger
  }

  add({ error, records, fate }: Failure): void {
    const untold = this.#untold[fate]
    untold.attempts++
    untold.records = fate === 'retried' ? records : untold.records + records
    const nowMs = performance.now()
    if (nowMs - untold.lastMs < logPauseMs) return
    untold.lastMs = nowMs
    const { attempts } = untold
    const counts = { records: untold.records, ...(fate === 'retried' && { attempts }) }
    this.#logger.error({ cause: (error as Error).message, ...counts }, failureMessages[fate])
    untold.attempts = 0
    untold.records = 0
  }
}

/** What was not logged yet. */
interface Untold {
  attempts: number
  records: number
  lastMs: number
}

const failureMessages: Readonly<Record<FateOfFailed, string>> = {
  retried: 'records could not be processed; trying again',
  returned: 'records could not be processed, and are given back: the group polls them again',
  lost: 'records could not be processed: they are lost',
}

const logPauseMs = 10_000
