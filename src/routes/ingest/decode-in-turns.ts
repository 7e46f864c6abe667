import type { BodyKind } from '../../events/content-type.ts'
import { decodeEvents, type DecodingLeft } from '../../events/decode.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import { inTurns, type Job } from './in-turns.ts'

/** Hears how the decoding of a body ended. One of the two is called, once. */
export interface BatchListener {
  /** All events of the body are in the batch. */
  decoded(batch: EventBatch): void
  fail(error: unknown): void
}

/**
 * Decodes the body of a batch into it: a small body at once, a large one a slice a turn of the event loop, so that it holds
 * up nobody else.
 */
export function decodeInTurns(
  batch: EventBatch,
  kind: Exclude<BodyKind, 'unsupported'>,
  listener: BatchListener,
): void {
  if (batch.body.length >= largeBodyBytes) {
    jobInTurns(listener, () => decodeOn(decodeEvents(batch.body, kind, batch, sliceBytes), batch, listener))
    return
  }
  try {
    decodeEvents(batch.body, kind, batch)
  } catch (error) {
    listener.fail(error)
    return
  }
  listener.decoded(batch)
}

function decodeOn(left: DecodingLeft | undefined, batch: EventBatch, listener: BatchListener): Job {
  if (left === undefined) {
    return () => {
      listener.decoded(batch)
      return undefined
    }
  }
  return () => attempt(listener, () => decodeOn(left(), batch, listener))
}

/** Does a job in a turn of its own. What it throws, the listener is told. */
export function jobInTurns(listener: Pick<BatchListener, 'fail'>, job: Job): void {
  inTurns(() => attempt(listener, job))
}

function attempt(listener: Pick<BatchListener, 'fail'>, job: Job): Job | undefined {
  try {
    return job()
  } catch (error) {
    listener.fail(error)
    return undefined
  }
}

/** A body of this size takes some tens of microseconds, and a turn can bring one from each of hundreds of connections. */
export const largeBodyBytes = 8_192
/**
 * What is decoded before others get their turn, if they are late. Usually it takes well below a millisecond, and a few where
 * a body is made to take long.
 */
const sliceBytes = 8_192
