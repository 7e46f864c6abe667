import { isAscii, isUtf8 } from 'node:buffer'
import { GatewayError } from '../errors.ts'
import { scanArrayElements, skipWhitespace, trimWhitespaceEnd } from './array-elements.ts'
import type { BodyKind } from './content-type.ts'

/**
 * Bytes to events. Read this file of the folder first.
 *
 * `events/` turns the bytes of a request into events that may become records: `body-reader.ts` collects and inflates
 * them, this file finds the events in them, `event-batch.ts` checks each one against its stream's schema. Nothing here
 * knows Fastify or Kafka.
 *
 * An event is a byte range of the body, never a value that was written anew: what was sent is what Kafka gets, so big
 * integers, number formats, escapes and repeated keys survive. Of repeated keys the last one is checked, as
 * `JSON.parse` has it.
 */

/** Takes the events of a body in their order. Calls instead of objects: nothing is allocated for an event. */
export interface EventSink {
  /**
   * Looks at the event that starts at `start` without parsing it.
   * @returns the position behind it if its bytes alone show that it is good; -1: parse it.
   */
  scan(start: number): number
  /** Takes the event that {@link scan} has just found. */
  scanned(start: number, end: number): void
  /** Forgets all events that were taken: the body is read again, by parsing it. None was rejected. */
  restart(): void
  /** An event: its value as parsed, and where its bytes are. */
  event(value: unknown, start: number, end: number): void
  /** An event, a line of NDJSON, that is not JSON. The others are not harmed. */
  invalidJson(detail: string): void
}

/** Goes on with a body that is decoded in slices. Returns what is left then, or nothing. Throws as {@link decodeEvents}. */
export type DecodingLeft = () => DecodingLeft | undefined

/**
 * Finds the events of a body.
 * @param sliceBytes how much of lines, or of an array that needs no parsing, is decoded before this returns.
 * @returns what is left to do, or nothing.
 * @throws GatewayError `empty_body`, `invalid_utf8`, `malformed_json`, or whatever the sink throws.
 */
export function decodeEvents(
  body: Buffer,
  kind: Exclude<BodyKind, 'unsupported'>,
  sink: EventSink,
  sliceBytes = Infinity,
): DecodingLeft | undefined {
  const ascii = isAscii(body)
  if (!ascii && !isUtf8(body)) {
    throw new GatewayError('invalid_utf8', 'the body must be UTF-8 (RFC 8259, section 8.1)')
  }
  const start = skipWhitespace(body, hasByteOrderMark(body) ? 3 : 0, body.length)
  const end = trimWhitespaceEnd(body, start, body.length)
  if (start === end) throw new GatewayError('empty_body', 'send an event, an array of events, or NDJSON')
  const encoding = ascii ? 'latin1' : 'utf8'
  if (kind === 'ndjson') return decodeLines(body, start, end, encoding, sink, sliceBytes)
  if (body[start] === openArray) {
    const parse = (): DecodingLeft | undefined =>
      parseJson(body, start, end, encoding, kind === 'json', sink, sliceBytes)
    return scanArray(body, start, end, sink, sliceBytes, parse)
  }
  if (scanWhole(start, end, sink)) return undefined
  return parseJson(body, start, end, encoding, kind === 'json', sink, sliceBytes)
}

/** What a body that is all ASCII is read as: a quarter faster, and the same text. */
type TextEncoding = 'latin1' | 'utf8'

function parseJson(
  body: Buffer,
  start: number,
  end: number,
  encoding: TextEncoding,
  mustBeJson: boolean,
  sink: EventSink,
  sliceBytes: number,
): DecodingLeft | undefined {
  let value: unknown
  try {
    value = JSON.parse(body.toString(encoding, start, end))
  } catch (error) {
    if (mustBeJson || !startsWithEventLine(body, start, end, encoding))
      throw malformedJson(error, body, start, end)
    return decodeLines(body, start, end, encoding, sink, sliceBytes)
  }
  if (!Array.isArray(value)) {
    sink.event(value, start, end)
    return undefined
  }
  const values: readonly unknown[] = value
  if (values.length === 0) throw new GatewayError('empty_body', 'the array has no event in it')
  let index = 0
  scanArrayElements(body, start, end, (from, to) => sink.event(values[index++], from, to))
  return undefined
}

function scanWhole(start: number, end: number, sink: EventSink): boolean {
  if (sink.scan(start) !== end) return false
  sink.scanned(start, end)
  return true
}

/**
 * Takes an array whose events can all be told from their bytes; else none of it, and parses it.
 * @param from the bracket or comma before the next event.
 */
function scanArray(
  body: Buffer,
  from: number,
  end: number,
  sink: EventSink,
  sliceBytes: number,
  parse: DecodingLeft,
): DecodingLeft | undefined {
  let at = from
  do {
    if (at - from >= sliceBytes) {
      // A closure over the loop's own variable would keep it out of a register in every round.
      const next = at
      return () => scanArray(body, next, end, sink, sliceBytes, parse)
    }
    const start = skipWhitespace(body, at + 1, end)
    const to = sink.scan(start)
    if (to === -1) break
    sink.scanned(start, to)
    at = skipWhitespace(body, to, end)
  } while (body[at] === comma)
  if (at === end - 1 && body[at] === closeArray) return undefined
  sink.restart()
  return parse()
}

function decodeLines(
  body: Buffer,
  start: number,
  end: number,
  encoding: TextEncoding,
  sink: EventSink,
  sliceBytes: number,
  textOfAll: string | null = null,
): DecodingLeft | undefined {
  let text = textOfAll
  let lineStart = start
  while (lineStart < end) {
    if (lineStart - start >= sliceBytes) {
      const [next, textSoFar] = [lineStart, text]
      return () => decodeLines(body, next, end, encoding, sink, sliceBytes, textSoFar)
    }
    const eventStart = skipWhitespace(body, lineStart, end)
    const eventEnd = sink.scan(eventStart)
    const nextLine = eventEnd === -1 ? -1 : nextLineAfter(body, eventEnd, end)
    if (nextLine !== -1) {
      sink.scanned(eventStart, eventEnd)
      lineStart = nextLine
      continue
    }
    let lineEnd = body.indexOf(newline, lineStart)
    if (lineEnd === -1 || lineEnd > end) lineEnd = end
    const from = skipWhitespace(body, lineStart, lineEnd)
    const to = trimWhitespaceEnd(body, from, lineEnd)
    lineStart = lineEnd + 1
    if (from === to) continue
    // Slices of one string share its memory, and positions in ASCII text are positions in the body.
    if (encoding === 'latin1') text ??= body.toString('latin1', 0, end)
    let value: unknown
    try {
      value = JSON.parse(text === null ? body.toString('utf8', from, to) : text.slice(from, to))
    } catch (error) {
      sink.invalidJson(messageOf(error))
      continue
    }
    sink.event(value, from, to)
  }
  return undefined
}

/** Where the next line starts, if nothing but blanks stands between `at` and the end of this one; else -1. */
function nextLineAfter(body: Buffer, at: number, end: number): number {
  let next = at
  while (next < end && (body[next] === 0x20 || body[next] === 0x09 || body[next] === 0x0d)) next++
  return next >= end || body[next] === newline ? next + 1 : -1
}

/**
 * Whether a body that is no JSON text is to be read as NDJSON though its type does not say so: it has several lines, and
 * the first is a JSON object. That tells `curl --data-binary @events.ndjson` from an object with a syntax error, whose
 * first line is never an object by itself.
 */
function startsWithEventLine(body: Buffer, start: number, end: number, encoding: TextEncoding): boolean {
  const lineEnd = body.indexOf(newline, start)
  if (lineEnd === -1 || lineEnd >= end) return false
  try {
    const value: unknown = JSON.parse(body.toString(encoding, start, lineEnd))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}

function malformedJson(cause: unknown, body: Buffer, start: number, end: number): GatewayError {
  const lineEnd = body.indexOf(newline, start)
  const hint =
    lineEnd !== -1 && lineEnd < end ? '; for an event a line, send Content-Type: application/x-ndjson' : ''
  return new GatewayError('malformed_json', messageOf(cause) + hint, { cause })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** A byte order mark is not allowed in JSON text but may be ignored (RFC 8259, section 8.1). Some editors write it. */
function hasByteOrderMark(body: Buffer): boolean {
  return body.length >= 3 && body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf
}

const newline = 0x0a
const comma = 0x2c
const openArray = 0x5b
const closeArray = 0x5d
