import type { IncomingHttpHeaders } from 'node:http'
import type { RecordKeySource } from '../../config/record-sources.ts'
import { PointerKey, RequestKey, type ChosenKey } from '../../events/chosen-key.ts'

/** Gives the key of a request's records. */
export type KeyOfRequest = (headers: IncomingHttpHeaders) => ChosenKey

/** Makes what finds the keys of one stream; null where its events' `source` is the key. */
export function compileKey(source: RecordKeySource): KeyOfRequest | null {
  if (source === 'source') return null
  if (source === 'none') {
    const none = new RequestKey(null, 'needs a key, and the stream gives its records none (key: none)')
    return () => none
  }
  if (isPointer(source)) {
    const key = new PointerKey(source)
    return () => key
  }
  const named: `header:${string}` = source
  const name = named.slice('header:'.length)
  const need = `needs 1 to 255 bytes in the request's header ${name}, which become the key of the record`
  return (headers) => new RequestKey(bytesOfHeader(headers, name), need)
}

function isPointer(source: string): source is `/${string}` {
  return source.startsWith('/')
}

/** The value of a header as the client wrote it; null if there is none. node:http reads each byte as a character. */
export function bytesOfHeader(headers: IncomingHttpHeaders, name: string): Buffer | null {
  const value = headers[name]
  return value === undefined || value.length === 0 ? null : Buffer.from(String(value), 'latin1')
}
