import { isAscii, isUtf8 } from 'node:buffer'
import { GatewayError } from '../errors.ts'
import { scanArrayElements, skipWhitespace, trimWhitespaceEnd } from './array-elements.ts'
import { describeBadJson, JsonCheck } from './check-json.ts'
import type { BodyKind } from './content-type.ts'
import { closeArray, comma, openArray, openObject } from './scan-json.ts'

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
  /** An event that is too large to be parsed in one go: it is known to be JSON, and `check` has just read it. */
  largeEvent(check: JsonCheck, start: number, end: number): void
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
  const isArray = body[start] === openArray
  if (end - start > parsedWholeBytes) {
    if (isArray) return parseElements(body, start, 0, end, encoding, sink, sliceBytes)
    if (check.read(body, start, end) && check.at === end) {
      sink.largeEvent(check, start, end)
      return undefined
    }
    if (!mustBeJson && startsWithEventLine(body, start, end))
      return decodeLines(body, start, end, encoding, sink, sliceBytes)
    throw malformedJson(body, start, end)
  }
  let value: unknown
  try {
    value = JSON.parse(body.toString(encoding, start, end))
  } catch {
    if (isArray || mustBeJson || !startsWithEventLine(body, start, end)) throw malformedJson(body, start, end)
    return decodeLines(body, start, end, encoding, sink, sliceBytes)
  }
  if (!Array.isArray(value)) {
    sink.event(value, start, end)
    return undefined
  }
  const values: readonly unknown[] = value
  if (values.length === 0) throw emptyArray()
  let index = 0
  scanArrayElements(body, start, end, (from, to) => sink.event(values[index++], from, to))
  return undefined
}

/**
 * Parses a large array element by element, so that others get a turn in between.
 * @param from the bracket or comma before the next element, which has the given index.
 */
function parseElements(
  body: Buffer,
  from: number,
  firstIndex: number,
  end: number,
  encoding: TextEncoding,
  sink: EventSink,
  sliceBytes: number,
): DecodingLeft | undefined {
  let at = from
  let index = firstIndex
  do {
    if (at - from >= sliceBytes) {
      const [next, nextIndex] = [at, index]
      return () => parseElements(body, next, nextIndex, end, encoding, sink, sliceBytes)
    }
    const start = skipWhitespace(body, at + 1, end)
    if (index === 0 && body[start] === closeArray && start === end - 1) throw emptyArray()
    if (!check.read(body, start, end)) throw badElement(body, check.at, end, index)
    const to = check.at
    takeChecked(body, start, to, encoding, sink)
    at = skipWhitespace(body, to, end)
    index++
  } while (body[at] === comma && at < end)
  if (at !== end - 1 || body[at] !== closeArray) throw badElement(body, at, end, index - 1)
  return undefined
}

/** Takes an event that `check` has just read. */
function takeChecked(
  body: Buffer,
  start: number,
  end: number,
  encoding: TextEncoding,
  sink: EventSink,
): void {
  if (end - start > parsedWholeBytes) sink.largeEvent(check, start, end)
  else sink.event(JSON.parse(body.toString(encoding, start, end)), start, end)
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
  hadBadLines = false,
): DecodingLeft | undefined {
  let text = textOfAll
  let hasBadLines = hadBadLines
  let lineStart = start
  while (lineStart < end) {
    if (lineStart - start >= sliceBytes) {
      const [next, textSoFar, badSoFar] = [lineStart, text, hasBadLines]
      return () => decodeLines(body, next, end, encoding, sink, sliceBytes, textSoFar, badSoFar)
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
    const origin = lineStart
    lineStart = lineEnd + 1
    if (from === to) continue
    if (to - from > parsedWholeBytes) {
      if (isJson(body, from, to)) sink.largeEvent(check, from, to)
      else sink.invalidJson(describeBadJson(body, check.at, to, origin))
      continue
    }
    // A line that fails to parse costs an exception, which is dear: of many bad lines only the first throws.
    if (hasBadLines && !isJson(body, from, to)) {
      sink.invalidJson(describeBadJson(body, check.at, to, origin))
      continue
    }
    // Slices of one string share its memory, and positions in ASCII text are positions in the body.
    if (encoding === 'latin1') text ??= body.toString('latin1', 0, end)
    let value: unknown
    try {
      value = JSON.parse(text === null ? body.toString('utf8', from, to) : text.slice(from, to))
    } catch {
      hasBadLines = true
      isJson(body, from, to)
      sink.invalidJson(describeBadJson(body, check.at, to, origin))
      continue
    }
    sink.event(value, from, to)
  }
  return undefined
}

/** Whether [start, end) is one JSON value; if not, `check.at` says where it stops to be. */
function isJson(body: Buffer, start: number, end: number): boolean {
  return check.read(body, start, end) && check.at === end
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
function startsWithEventLine(body: Buffer, start: number, end: number): boolean {
  const lineEnd = body.indexOf(newline, start)
  if (lineEnd === -1 || lineEnd >= end || body[start] !== openObject) return false
  return isJson(body, start, trimWhitespaceEnd(body, start, lineEnd))
}

/** The error of a body that is not JSON, with the byte where it stops to be, and in an array the event. */
function malformedJson(body: Buffer, start: number, end: number): GatewayError {
  if (body[start] === openArray) {
    // One element after the other, as far as they are JSON.
    let at = start
    let index = -1
    do {
      index++
      if (!check.read(body, skipWhitespace(body, at + 1, end), end))
        return badElement(body, check.at, end, index)
      at = skipWhitespace(body, check.at, end)
    } while (body[at] === comma && at < end)
    return badElement(body, at, end, index)
  }
  isJson(body, start, end)
  const lineEnd = body.indexOf(newline, start)
  const hint =
    lineEnd !== -1 && lineEnd < end ? '; for an event a line, send Content-Type: application/x-ndjson' : ''
  return new GatewayError('malformed_json', describeBadJson(body, check.at, end, 0) + hint, {
    extensions: { byte: check.at },
  })
}

/** In an array the good events cannot be taken without the bad one; in NDJSON they can. */
function badElement(body: Buffer, at: number, end: number, index: number): GatewayError {
  const detail =
    at >= end - 1 && body[end - 1] !== closeArray
      ? `the array ends in event ${index}, at byte ${end}`
      : `event ${index}: ${describeBadJson(body, at, end, 0)}`
  const hint = '; as NDJSON (application/x-ndjson, an event a line) the other events would be taken'
  return new GatewayError('malformed_json', detail + hint, { extensions: { index, byte: at } })
}

function emptyArray(): GatewayError {
  return new GatewayError('empty_body', 'the array has no event in it')
}

/** A byte order mark is not allowed in JSON text but may be ignored (RFC 8259, section 8.1). Some editors write it. */
function hasByteOrderMark(body: Buffer): boolean {
  return body.length >= 3 && body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf
}

/** One for all bodies: what it found is asked for at once. */
const check = new JsonCheck()

/**
 * What may be parsed in one go. What parsing a megabyte takes depends on what it holds, and can be 150 ms: of this size, 5.
 */
const parsedWholeBytes = 32_768

const newline = 0x0a
