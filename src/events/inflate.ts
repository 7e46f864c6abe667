import type { Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib'

/** Content codings that a body may have, as the `Accept-Encoding` of a 415 says them (RFC 9110, section 12.5.3). */
export const supportedEncodings = 'gzip, deflate, br'

/** One content coding of a request; `identity` is none. */
export type ContentEncoding = 'identity' | 'gzip' | 'deflate' | 'br'

/**
 * Reads a Content-Encoding (RFC 9110, section 8.4).
 * @returns null for one that is not known, and for several: nobody needs to compress twice but whoever builds a bomb.
 */
export function contentEncodingOf(header: string | undefined): ContentEncoding | null {
  switch (header?.trim().toLowerCase()) {
    case undefined:
    case '':
    case 'identity':
      return 'identity'
    case 'gzip':
    case 'x-gzip':
      return 'gzip'
    case 'deflate':
      return 'deflate'
    case 'br':
      return 'br'
    default:
      return null
  }
}

/**
 * A stream that inflates. Its output comes in small pieces, so that whoever counts them can stop a bomb early.
 * @param firstByte of the body: `deflate` is zlib's format (RFC 1950), but some clients send bare DEFLATE (RFC 1951),
 * as RFC 9110, section 8.4.1.2 notes. A zlib header's low four bits are always 8.
 */
export function createInflater(encoding: Exclude<ContentEncoding, 'identity'>, firstByte: number): Transform {
  switch (encoding) {
    case 'gzip':
      return createGunzip()
    case 'deflate':
      return (firstByte & 0x0f) === 8 ? createInflate() : createInflateRaw()
    case 'br':
      return createBrotliDecompress()
  }
}
