import type { IncomingHttpHeaders } from 'node:http'
import { keyOfEvent } from '../../dedupe/claim-round.ts'
import type { Claim, Verdict } from '../../dedupe/deduplicator.ts'
import { GatewayError } from '../../errors.ts'
import type { EventBatch } from '../../events/event-batch.ts'
import { isDelivered, type Outcomes } from './append.ts'
import type { StreamTarget } from './stream-target.ts'

/**
 * Applies the verdict on a request: takes out the events that were accepted before, and rejects events whose id was accepted
 * with other content.
 * @returns the keys that the request has claimed; null if the whole request is a repetition.
 * @throws GatewayError `idempotency_key_reused`, `request_in_progress` or `dedupe_unavailable`.
 */
export function leaveOutSeen(batch: EventBatch, error: Error | null, verdict: Verdict | null): Claim | null {
  if (error !== null || verdict === null) {
    const detail =
      'it cannot be looked up whether the request was sent before; nothing of it was accepted, send it again later'
    throw new GatewayError('dedupe_unavailable', detail, { cause: error, retryAfterSeconds: 1 })
  }
  switch (verdict.kind) {
    case 'reused':
      throw new GatewayError(
        'idempotency_key_reused',
        'the key stands for another body; give each request a key of its own',
      )
    case 'busy':
      throw new GatewayError(
        'request_in_progress',
        'the same key or event id is being accepted at this moment; send the request again to learn the outcome',
        { retryAfterSeconds: 1 },
      )
    case 'replay':
      batch.leaveOut(verdict.fates ?? Array.from({ length: batch.good }, () => 'seen' as const))
      return null
    case 'claimed':
      if (verdict.fates !== null) batch.leaveOut(verdict.fates)
      return verdict.claim
  }
}

/**
 * Refuses a request to an exactly-once stream if a repetition of the request could not be found.
 * @throws GatewayError `idempotency_key_missing`.
 */
export function refuseUntold(batch: EventBatch, key: string | null): void {
  if (key !== null || (batch.told !== null && !batch.told.includes(null))) return
  const detail = 'the stream is exactly-once: send an Idempotency-Key, or an id in each event'
  throw new GatewayError('idempotency_key_missing', detail)
}

/** Adds the names of the keys of those events at [from, to) of a request that were delivered, though others were not. */
export function addDelivered(
  names: Set<string>,
  { told }: EventBatch,
  outcomes: Outcomes,
  from: number,
  to: number,
): void {
  if (told === null) return
  for (const [nth, { outcome }] of outcomes.slice(from, to).entries()) {
    const event = told[from + nth] ?? null
    if (event !== null && isDelivered(outcome)) names.add(keyOfEvent(event).name)
  }
}

/** Longest key, in characters. */
const maxCharacters = 255

/**
 * The key of a request to a stream.
 * @returns null if there is none, or if the stream does not look for duplicates.
 * @throws GatewayError as {@link readIdempotencyKey}.
 */
export function idempotencyKeyOf({ dedupe }: StreamTarget, headers: IncomingHttpHeaders): string | null {
  return dedupe === null ? null : readIdempotencyKey(headers['idempotency-key'])
}

/**
 * Reads an `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header): a string of structured fields (RFC 9651), in quotes. Many
 * clients send a bare UUID. So visible characters without quotes and commas are accepted, too.
 * @returns null if there is none.
 * @throws GatewayError `invalid_idempotency_key`. A key that cannot be read must not be ignored.
 */
export function readIdempotencyKey(header: string | string[] | undefined): string | null {
  if (header === undefined) return null
  const text = String(header).trim()
  const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/.exec(text)
  const key = quoted === null ? (/^[\x21\x23-\x2b\x2d-\x7e]+$/.exec(text)?.[0] ?? '') : unescape(quoted[1]!)
  if (key.length > 0 && key.length <= maxCharacters) return key
  const detail = `give one key of 1 to ${maxCharacters} visible ASCII characters, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"`
  throw new GatewayError('invalid_idempotency_key', detail)
}

function unescape(text: string): string {
  return text.replaceAll(/\\(["\\])/g, '$1')
}
