import type { OnBufferFull } from '../../config/config.ts'
import { GatewayError, type ErrorCode } from '../../errors.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import { maxListedErrors } from '../../events/rejected-events.ts'
import { recordSizeUpperBound, type Producer, type TopicProducer } from '../../kafka/producer/producer.ts'

/** How a request was taken. `reserved`: its room is reserved. `dropped`: the buffer is full, and the stream drops events then. */
export type Admission = 'reserved' | 'dropped'

/** The client that waits for the reply. A response of node:http has this form. */
export interface Client {
  /** The connection is closed. */
  readonly destroyed: boolean
  readonly req: { readonly socket: { readonly readableEnded: boolean } }
}

/**
 * Decides about a decoded request as a whole, before its first event is appended. Invariant: after an error none of the events was accepted.
 *
 * @returns a promise only if `onBufferFull` is `block` and there is no room.
 * @throws GatewayError `all_events_invalid`, `strict_rejected`, `stream_unavailable`, `shutting_down`, `body_too_large`,
 * `spool_unavailable` or `buffer_full`. The promise is rejected with these errors, too.
 */
export function admit(
  batch: EventBatch,
  producer: Producer,
  options: { strict: boolean; onBufferFull: OnBufferFull; client: Client },
): Admission | Promise<Admission> {
  if (batch.rejected > 0) refuseInvalid(batch, options.strict)
  refuseClosed(batch, producer)
  const sizeBytes = reservationBytes(batch, producer.headerBytes + (batch.headers?.length ?? 0))
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
      drop(batch, producer)
      return 'dropped'
    case 'block':
      return waitForRoom(batch, producer, { sizeBytes, client: options.client })
  }
}

/** The room for all good events, exactly as the producer counts it. @param headerBytes of all headers of each record. */
export function reservationBytes(batch: EventBatch, headerBytes: number): number {
  const { count, totalBytes } = batch.ranges
  return totalBytes + count * recordSizeUpperBound(0, 0, headerBytes)
}

/** @throws GatewayError `stream_unavailable`, `shutting_down` or `spool_unavailable`, if a topic of the events takes no records. */
function refuseClosed({ ranges }: EventBatch, producer: Producer): void {
  const { topics } = producer
  const closed =
    topics === undefined
      ? producer.admission === 'open'
        ? undefined
        : producer
      : topics.find(({ admission }, topic) => admission !== 'open' && ranges.countOf(topic) > 0)
  if (closed !== undefined) throw unavailable(closed)
}

function drop(batch: EventBatch, producer: Producer): void {
  const topics = producer.topics?.length ?? 1
  for (let topic = 0; topic < topics; topic++) {
    const count = batch.ranges.countOf(topic)
    if (count > 0) producer.drop(count, topic)
  }
}

async function waitForRoom(
  batch: EventBatch,
  producer: Producer,
  { sizeBytes, client }: { sizeBytes: number; client: Client },
): Promise<Admission> {
  const granted = await producer.reserveOrWait(sizeBytes)
  if (granted && (client.destroyed || client.req.socket.readableEnded)) {
    // The client may be gone, and would send its events again. So they are not taken. A client that has only ended its side of the connection
    // gets the reply.
    producer.unreserve(sizeBytes)
    throw bufferFull(producer)
  }
  // The stream may have changed during the wait.
  try {
    refuseClosed(batch, producer)
  } catch (error) {
    if (granted) producer.unreserve(sizeBytes)
    throw error
  }
  if (!granted) throw bufferFull(producer)
  return 'reserved'
}

/** @throws GatewayError `all_events_invalid`, `id_conflict` (if all rejected events are conflicts) or `strict_rejected`. */
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
export function spoolUnavailable(producer: TopicProducer): GatewayError {
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

function unavailable(producer: TopicProducer): GatewayError {
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
    // The stream was not open when the request was refused, and is open again.
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
