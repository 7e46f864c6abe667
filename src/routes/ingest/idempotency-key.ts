import type { IncomingHttpHeaders } from 'node:http'
import { GatewayError } from '../../errors.ts'
import type { StreamTarget } from './stream-target.ts'

/** Longest key, in characters. */
const maxCharacters = 255

/**
 * The key of a request to a stream.
 * @returns null if there is none, or the stream tells no duplicates: its `Chute-Delivery` says so then.
 * @throws GatewayError as {@link readIdempotencyKey}.
 */
export function idempotencyKeyOf({ dedupe }: StreamTarget, headers: IncomingHttpHeaders): string | null {
  return dedupe === null ? null : readIdempotencyKey(headers['idempotency-key'])
}

/**
 * Reads an `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header): a string of structured fields (RFC 9651),
 * in quotes. Clients that send a bare UUID are many, so visible characters without quotes and commas are taken too.
 * @returns null if there is none.
 * @throws GatewayError `invalid_idempotency_key`: a key that is not understood must not be taken for none.
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
