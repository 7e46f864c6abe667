import type { BodyKind } from '../../events/content-type.ts'
import { decodeEvents, type DecodingLeft } from '../../events/decode.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import { inTurns, type Job } from './in-turns.ts'

/** Is told how the decoding of a body ended. Exactly one of the two is called, once. */
export interface BatchListener {
  /** All events of the body are in the batch. */
  decoded(batch: EventBatch): void
  fail(error: unknown): void
}

/**
 * Decodes the body of a batch into the batch. A small body is decoded at once. A large body is decoded in slices, one a turn of the event loop,
 * so that it does not hold up other requests.
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

/** Does a job in a turn of its own. The listener gets an error that the job throws. */
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

/** Decoding a body of this size takes some tens of microseconds. A turn can bring one such body from each of hundreds of connections. */
export const largeBodyBytes = 8_192
/** About the number of bytes in a slice. A slice usually takes much less than a millisecond, and a few for a body that is made to take long. */
const sliceBytes = 8_192
