import type { IncomingHttpHeaders } from 'node:http'
import type { RecordHeaderSource } from '../../config/record-sources.ts'
import { sizeOfVarint, writeVarint } from '../../kafka/protocol/record-format.ts'
import { clientAddress, clientPrefix } from '../http/client-address.ts'
import { isTraceparent, isTracestate } from './trace-context.ts'

/** What headers of records are made of. A request of Fastify is one. */
export interface HeaderRequest {
  readonly raw: { readonly headers: IncomingHttpHeaders }
  /** The client's address. */
  readonly ip: string
}

/**
 * Gives the own headers of a request's records, as `encodeHeaders` writes them. They are made once a request, or once a millisecond where
 * they follow from the key and the time alone. Nobody may change the bytes. A header without a value is left out; null: the request has none.
 * The producer puts its own headers behind them (`kafka/producer/record-headers.ts`): a header that Chute itself writes belongs there, and a new
 * source of a stream's `headers` in `config/record-sources.ts`.
 */
export type HeadersOfRequest = (request: HeaderRequest, keyName: string | null) => Buffer | null

/** Makes what gives the headers of one stream; null for a stream without `headers`. */
export function compileHeaders(
  headers: Readonly<Record<string, RecordHeaderSource>>,
): HeadersOfRequest | null {
  const entries = Object.entries(headers).map(([name, source]) => ({
    key: encodedKey(name),
    valueOf: compileSource(source),
  }))
  if (entries.length === 0) return null
  const headersOf: HeadersOfRequest = (request, keyName) => {
    let count = 0
    let offset = 1
    for (const { key, valueOf } of entries) {
      const value = valueOf(request, keyName)
      if (value === null || value.length === 0 || value.length > maxValueBytes) continue
      count++
      offset += key.copy(scratch, offset)
      offset = writeVarint(scratch, value.length, offset)
      offset += scratch.write(value, offset, 'latin1')
    }
    if (count === 0) return null
    writeVarint(scratch, count, 0)
    return Buffer.from(scratch.subarray(0, offset))
  }
  const isOfKeyAndTime = Object.values(headers).every((source) => source === 'key:name' || source === 'time')
  return isOfKeyAndTime ? oncePerMillisecond(headersOf) : headersOf
}

/** Remembers what follows from the name of a key and the time, for the millisecond that it is true for. */
function oncePerMillisecond(headersOf: HeadersOfRequest): HeadersOfRequest {
  const made = new Map<string | null, Buffer | null>()
  let madeAtMs = 0
  return (request, keyName) => {
    const nowMs = Date.now()
    if (nowMs !== madeAtMs) {
      made.clear()
      madeAtMs = nowMs
    }
    let headers = made.get(keyName)
    if (headers === undefined) made.set(keyName, (headers = headersOf(request, keyName)))
    return headers
  }
}

/** A value, a character a byte, as node:http reads headers. */
type ValueOf = (request: HeaderRequest, keyName: string | null) => string | null

function compileSource(source: RecordHeaderSource): ValueOf {
  switch (source) {
    case 'key:name':
      return (_request, keyName) => (keyName === null ? null : Buffer.from(keyName).toString('latin1'))
    case 'client:address':
      return ({ ip }) => clientAddress(ip)
    case 'client:address/24':
      return ({ ip }) => (clientAddress(ip) === null ? null : clientPrefix(ip))
    case 'time':
      return () => String(Date.now())
    case 'header:traceparent':
      return ({ raw }) => traceparentOf(raw.headers)
    case 'header:tracestate':
      return ({ raw }) => tracestateOf(raw.headers)
    default: {
      const named: `header:${string}` = source
      const name = named.slice('header:'.length)
      return ({ raw }) => textOf(raw.headers, name)
    }
  }
}

/** A parent that is not as W3C has it is not passed on (Trace Context, section 3.2). */
function traceparentOf(headers: IncomingHttpHeaders): string | null {
  const text = textOf(headers, 'traceparent')
  return text !== null && isTraceparent(text) ? text : null
}

/** Without a valid parent, the state has no meaning (Trace Context, section 3.3). */
function tracestateOf(headers: IncomingHttpHeaders): string | null {
  const text = textOf(headers, 'tracestate')
  return text !== null && isTracestate(text) && traceparentOf(headers) !== null ? text : null
}

function textOf(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name]
  return value === undefined || value.length > maxValueBytes ? null : String(value)
}

/** A header's name behind its size, as it stands in a record. */
function encodedKey(name: string): Buffer {
  const key = Buffer.alloc(sizeOfVarint(name.length) + name.length)
  key.write(name, writeVarint(key, name.length, 0), 'latin1')
  return key
}

/** What is longer is left out: a value that is cut is one that nobody sent. W3C asks for 512 characters of `tracestate` at least. */
const maxValueBytes = 512

/** Room for all headers of one record: 16, with names of 64 bytes at most. */
const scratch = Buffer.allocUnsafe(16 * (4 + 64 + maxValueBytes) + 1)
