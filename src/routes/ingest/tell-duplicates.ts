import type { Claim, Verdict } from '../../dedupe/deduplicator.ts'
import { GatewayError } from '../../errors.ts'
import type { EventBatch } from '../../events/event-batch.ts'

/**
 * Goes by what a stream knows of a request: takes out of it what was accepted before, and rejects events whose id was
 * accepted with other content.
 * @returns the keys that the request has for itself; null where it is a repetition as a whole.
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
 * Sees to it that what an exactly-once stream takes can be told from its repetition.
 * @throws GatewayError `idempotency_key_missing`.
 */
export function refuseUntold(batch: EventBatch, key: string | null): void {
  if (key !== null || (batch.told !== null && !batch.told.includes(null))) return
  const detail = 'the stream is exactly-once: send an Idempotency-Key, or an id in each event'
  throw new GatewayError('idempotency_key_missing', detail)
}
