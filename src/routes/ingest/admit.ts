import type { OnBufferFull } from '../../config/config.ts'
import { GatewayError, type ErrorCode } from '../../errors.ts'
import { maxListedErrors, type EventBatch } from '../../events/event-batch.ts'
import { recordSizeUpperBound, type Producer } from '../../kafka/producer/producer.ts'

/** How a request was taken: its room is reserved, or its events were dropped at once, where the stream is set to drop. */
export type Admission = 'reserved' | 'dropped'

/** Whoever waits for the reply: a response of node:http. */
export interface Client {
  /** The connection is closed. */
  readonly destroyed: boolean
  readonly req: { readonly socket: { readonly readableEnded: boolean } }
}

/**
 * Decides about a decoded request as a whole, before its first event is appended. Invariant: an error means that
 * nothing of it was accepted.
 *
 * @returns at once, or a promise where `onBufferFull` is `block` and there is no room.
 * @throws GatewayError `all_events_invalid`, `strict_rejected`, `stream_unavailable`, `shutting_down`, `body_too_large`
 * `spool_unavailable` or `buffer_full`; by the promise too.
 */
export function admit(
  batch: EventBatch,
  producer: Producer,
  options: { strict: boolean; onBufferFull: OnBufferFull; client: Client },
): Admission | Promise<Admission> {
  if (batch.rejected > 0) refuseInvalid(batch, options.strict)
  if (producer.admission !== 'open') throw unavailable(producer)
  const sizeBytes = reservationBytes(batch, producer.headerBytes)
  const { bufferMemoryBytes } = producer.stream.producer
  if (sizeBytes > bufferMemoryBytes) {
    const detail = `the events need ${sizeBytes} bytes of buffer, and the stream has ${bufferMemoryBytes} at all`
    throw new GatewayError('body_too_large', detail, { extensions: { limitBytes: bufferMemoryBytes } })
  }
  if (producer.reserve(sizeBytes)) return 'reserved'
  switch (options.onBufferFull) {
    case 'reject':
      throw bufferFull(producer)
    case 'drop':
      producer.drop(batch.good)
      return 'dropped'
    case 'block':
      return waitForRoom(producer, sizeBytes, options.client)
  }
}

/** Room for all good events, exactly as the producer charges it. */
export function reservationBytes(batch: EventBatch, headerBytes: number): number {
  const { count, totalBytes } = batch.ranges
  return totalBytes + count * recordSizeUpperBound(0, 0, headerBytes)
}

async function waitForRoom(producer: Producer, sizeBytes: number, client: Client): Promise<Admission> {
  const granted = await producer.reserveOrWait(sizeBytes)
  if (granted && (client.destroyed || client.req.socket.readableEnded)) {
    // The client may be gone. Its events are not taken then, since it would send them again. A client that has only ended its
    // side of the connection is told that they were not taken.
    producer.unreserve(sizeBytes)
    throw bufferFull(producer)
  }
  // The stream may have changed during the wait.
  if (producer.admission !== 'open') {
    if (granted) producer.unreserve(sizeBytes)
    throw unavailable(producer)
  }
  if (!granted) throw bufferFull(producer)
  return 'reserved'
}

/** @throws GatewayError `all_events_invalid`, `id_conflict` (where nothing else is wrong) or `strict_rejected`. */
export function refuseInvalid(batch: EventBatch, strict: boolean): void {
  const conflicts = batch.rejectedByCode.get('id_conflict') ?? 0
  if (batch.accepted === 0)
    throw withErrors(conflicts === batch.rejected ? 'id_conflict' : 'all_events_invalid', batch)
  if (strict) throw withErrors('strict_rejected', batch)
}

function withErrors(code: ErrorCode, batch: EventBatch): GatewayError {
  const { received, rejected, errors } = batch
  const first = errors[0]
  const where =
    first === undefined
      ? ''
      : `; the first, at index ${first.index}${atPointer(first.pointer)}, ${first.detail}`
  const listed = rejected > errors.length ? ` (${maxListedErrors} are listed)` : ''
  const detail = `${rejected} of ${received} events ${rejected === 1 ? 'is' : 'are'} ${code === 'id_conflict' ? 'refused' : 'invalid'}${listed}${where}`
  return new GatewayError(code, detail, { extensions: { accepted: 0, rejected: received, errors } })
}

function atPointer(pointer: string): string {
  return pointer === '' ? '' : ` in ${pointer}`
}

function bufferFull(producer: Producer): GatewayError {
  return new GatewayError('buffer_full', 'nothing of the request was accepted; send it again later', {
    retryAfterSeconds: producer.retryAfterSeconds(),
  })
}

/** The error for a stream whose disk takes nothing, or did not take this request. */
export function spoolUnavailable(producer: Producer): GatewayError {
  const detail = 'nothing of the request was accepted, since it could not be kept; send it again later'
  return new GatewayError('spool_unavailable', detail, { retryAfterSeconds: producer.retryAfterSeconds() })
}

/** The error for a request of which the disk took neither the events nor their removal. */
export function spoolUndecided(): GatewayError {
  const detail =
    'the disk failed, and it is not known whether the events of the request will be sent; ' +
    'send the request again with the same Idempotency-Key'
  return new GatewayError('spool_undecided', detail)
}

function unavailable(producer: Producer): GatewayError {
  const retryAfterSeconds = producer.retryAfterSeconds()
  switch (producer.admission) {
    case 'closing':
      return new GatewayError(
        'shutting_down',
        'nothing of the request was accepted; send it to another gateway',
        {
          retryAfterSeconds,
        },
      )
    case 'spool_unavailable':
      return spoolUnavailable(producer)
    // Open again by now: it was not when the request was refused.
    case 'open':
    case 'not_known_yet':
    case 'no_leader_yet':
    case 'unknown_topic':
    case 'not_authorized': {
      const summary = producer.obstacle?.summary ?? 'Kafka does not take records now'
      const detail = `nothing of the request was accepted: ${summary}`
      return new GatewayError('stream_unavailable', detail, { retryAfterSeconds })
    }
  }
}
