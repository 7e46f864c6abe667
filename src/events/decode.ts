import { isAscii, isUtf8 } from 'node:buffer'
import { GatewayError } from '../errors.ts'
import { nextLineAfter, scanArrayElements, skipWhitespace, trimWhitespaceEnd } from './array-elements.ts'
import { describeBadJson, hasByteOrderMark, JsonCheck } from './check-json.ts'
import type { BodyKind } from './content-type.ts'
import { badElement, emptyArray, flawAt, malformedArray } from './malformed-json.ts'
import { closeArray, comma, openArray, openObject, quote } from './scan-json.ts'

/**
 * From bytes to events. Read this file of the folder first.
 *
 * `events/` turns the bytes of a request into events that may become records. `body-reader.ts` collects the bytes and inflates them. This file
 * finds the events in them. `event-batch.ts` checks each event against the schema of its stream. The folder knows neither Fastify nor Kafka.
 *
 * An event is a byte range of the body, and never a value that was written anew. Kafka gets the bytes that were sent, so big integers, number
 * formats, escapes and repeated keys survive. If a key is repeated, its last value is checked, as `JSON.parse` has it.
 */

/** Takes the events of a body in their order. It is called for each event, so that no object is allocated for an event. */
export interface EventSink {
  /**
   * Looks at the event that starts at `start`, without parsing it.
   * @returns the position behind the event if its bytes alone show that it is good. -1: it has to be parsed.
   */
  scan(start: number): number
  /** Takes the event that {@link scan} has just found. */
  scanned(start: number, end: number): void
  /** Forgets all events that were taken, since the body is parsed from its beginning. No event was rejected so far. */
  restart(): void
  /** Takes an event: its parsed value, and the range of its bytes. */
  event(value: unknown, start: number, end: number): void
  /**
   * Takes an event that is too large to be parsed in one go. `check` has just read it and found that it is JSON.
   * @returns the work that is left on the event, to be done before any other event; or nothing.
   */
  largeEvent(check: JsonCheck, start: number, end: number, sliceBytes: number): DecodingLeft | undefined
  /**
   * Takes a line of NDJSON that is not JSON. The other lines are not affected.
   * @param describe says what is wrong. The sink calls it only if it needs the words.
   */
  invalidJson(start: number, end: number, describe: () => string): void
}

/** Decodes the next slice of a body. Returns the work that is left after it, or nothing. Throws as {@link decodeEvents}. */
export type DecodingLeft = () => DecodingLeft | undefined

/** The state of the decoding of a body. */
interface Decoding {
  readonly body: Buffer
  /** The range of the text, without the white space around it. */
  readonly start: number
  readonly end: number
  /** A body that is all ASCII is read as latin1, which takes a quarter less time and gives the same text. */
  readonly encoding: 'latin1' | 'utf8'
  readonly mustBeJson: boolean
  readonly isForm: boolean
  readonly sink: EventSink
  readonly sliceBytes: number
  /** Reads values that are too large to be parsed in one go; null until the first of them. See {@link checkOf}. */
  check: JsonCheck | null
  /** The end of the line of NDJSON that is looked at, without the white space that was taken off so far; 0: none was. */
  lineEnd: number
}

/**
 * Finds the events of a body.
 * @param sliceBytes about how many bytes are decoded before this returns.
 * @returns the work that is left, or nothing.
 * @throws GatewayError `empty_body`, `invalid_utf8`, `malformed_json`, and all errors of the sink.
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
  const options = { kind, sink, sliceBytes, encoding: ascii ? 'latin1' : 'utf8' } as const
  return decodeWithin(body, hasByteOrderMark(body) ? 3 : 0, body.length, options)
}

/** Finds the events in the text at [from, to), and takes off the white space around it. */
function decodeWithin(
  body: Buffer,
  from: number,
  to: number,
  options: Pick<Decoding, 'sink' | 'sliceBytes' | 'encoding'> & { kind: Exclude<BodyKind, 'unsupported'> },
): DecodingLeft | undefined {
  const { kind, sink, sliceBytes, encoding } = options
  const blankBytes = sliceBytes * scannedShare
  const start = skipWhitespace(body, from, Math.min(to, from + blankBytes))
  const end = trimWhitespaceEnd(body, Math.max(start, to - blankBytes), to)
  if (start === end) throw new GatewayError('empty_body', 'send an event, an array of events, or NDJSON')
  if (start - from === blankBytes || to - end === blankBytes)
    return () => decodeWithin(body, start, end, options)
  const { isLines, mustBeJson, isForm } = kindTraits[kind]
  const isArray = !isLines && body[start] === openArray
  if (!isLines && !isArray && sink.scan(start) === end) {
    sink.scanned(start, end)
    return undefined
  }
  const decoding: Decoding = {
    body,
    start,
    end,
    encoding,
    mustBeJson,
    isForm,
    sink,
    sliceBytes,
    check: null,
    lineEnd: 0,
  }
  if (isLines) return decodeLines(decoding, start)
  if (isArray) return scanArray(decoding, start)
  return later(decoding, () => parseJson(decoding))
}

/**
 * How the bodies of each kind are read. `isLines`: each line is an event. `mustBeJson`: a body that is no JSON text is not tried as NDJSON.
 * `isForm`: a body that is no JSON text may have the fields of a form.
 */
const kindTraits = {
  json: { isLines: false, mustBeJson: true, isForm: false },
  ndjson: { isLines: true, mustBeJson: false, isForm: false },
  text: { isLines: false, mustBeJson: false, isForm: false },
  form: { isLines: false, mustBeJson: false, isForm: true },
} satisfies Record<
  Exclude<BodyKind, 'unsupported'>,
  { isLines: boolean; mustBeJson: boolean; isForm: boolean }
>

/** The check for a body. A body in slices has its own check, since another body may be decoded between two slices. */
function checkOf(decoding: Decoding): JsonCheck {
  return (decoding.check ??= decoding.sliceBytes === Infinity ? check : new JsonCheck())
}

/** Does a step now, or leaves it for a later turn if the body is decoded in slices. */
function later({ sliceBytes }: Decoding, step: DecodingLeft): DecodingLeft | undefined {
  return sliceBytes === Infinity ? step() : step
}

/** The work that is left, and then `next`. */
function andThen(left: DecodingLeft, next: DecodingLeft): DecodingLeft {
  return () => {
    const more = left()
    return more === undefined ? next : andThen(more, next)
  }
}

function parseJson(decoding: Decoding): DecodingLeft | undefined {
  const { body, start, end, encoding, sink } = decoding
  const isArray = body[start] === openArray
  if (end - start > parsedWholeBytes) {
    if (isArray) return parseElements(decoding, start, 0)
    checkOf(decoding).begin(start)
    return parseLarge(decoding)
  }
  let value: unknown
  try {
    value = JSON.parse(body.toString(encoding, start, end))
  } catch {
    if (isArray) throw malformedArray(body, start, end)
    const isWhole = check.read(body, start, end)
    return parseBroken(decoding, check.at, isWhole)
  }
  if (!Array.isArray(value)) {
    sink.event(value, start, end)
    return undefined
  }
  const values: readonly unknown[] = value
  if (values.length === 0) throw emptyArray()
  if (values.length * parsedEventBytes > parsedWholeBytes) return parseElements(decoding, start, 0)
  let index = 0
  scanArrayElements(body, start, end, (from, to) => sink.event(values[index++], from, to))
  return undefined
}

/** Takes a body that has one large event, in slices. */
function parseLarge(decoding: Decoding): DecodingLeft | undefined {
  const { body, start, end, sink, sliceBytes } = decoding
  const check = checkOf(decoding)
  const result = check.readOn(body, end, check.at + sliceBytes)
  if (result === 'paused') return () => parseLarge(decoding)
  const { at } = check
  if (result === 'whole' && at === end) return sink.largeEvent(check, start, end, sliceBytes)
  return parseBroken(decoding, at, result === 'whole')
}

/**
 * Takes a body that is no JSON text, if it can be read as NDJSON: its type allows that, it has several lines, and the first line is a JSON
 * object. So `curl --data-binary @events.ndjson` works. An object with a syntax error is not taken for NDJSON, since its first line is never an
 * object by itself.
 * @param at the end of the first value of the body if that value `isWhole`; else the place where the body stops to be JSON.
 */
function parseBroken(decoding: Decoding, at: number, isWhole: boolean): DecodingLeft | undefined {
  const { body, start, end, mustBeJson, isForm } = decoding
  const newlineAt = body.indexOf(newline, start)
  const hasLines = newlineAt !== -1 && newlineAt < end
  const isLine = isWhole && hasLines && at === trimWhitespaceEnd(body, start, newlineAt)
  if (!mustBeJson && isLine && body[start] === openObject) return decodeLines(decoding, start)
  const isFields = isForm && body[start] !== openObject && body[start] !== quote
  const hint = isFields
    ? '; send JSON, or the fields of a form to the beacon route (/v1/beacon/STREAM)'
    : hasLines
      ? '; for an event a line, send Content-Type: application/x-ndjson'
      : ''
  throw new GatewayError('malformed_json', describeBadJson(body, at, end, 0) + hint, {
    extensions: { byte: at },
  })
}

/**
 * Parses a large array element by element, so that other work gets a turn in between.
 * @param from the bracket or comma before the next element.
 * @param firstIndex the index of that element.
 */
function parseElements(decoding: Decoding, from: number, firstIndex: number): DecodingLeft | undefined {
  const { body, end, sliceBytes } = decoding
  const blankBytes = sliceBytes * scannedShare
  let at = from
  let index = firstIndex
  do {
    if (at - from + (index - firstIndex) * parsedEventBytes >= sliceBytes) {
      const [next, nextIndex] = [at, index]
      return () => parseElements(decoding, next, nextIndex)
    }
    const start = skipWhitespace(body, at + 1, Math.min(end, at + 1 + blankBytes))
    if (start - at > blankBytes) {
      const [next, nextIndex] = [start - 1, index]
      return () => parseElements(decoding, next, nextIndex)
    }
    if (index === 0 && body[start] === closeArray && start === end - 1) throw emptyArray()
    checkOf(decoding).begin(start)
    const left = parseElement(decoding, start, index)
    if (left !== undefined) {
      const nextIndex = index + 1
      return andThen(left, () => parseBehind(decoding, checkOf(decoding).at, nextIndex))
    }
    index++
    const behind = checkOf(decoding).at
    at = skipWhitespace(body, behind, Math.min(end, behind + blankBytes))
    if (at - behind >= blankBytes) {
      const [next, nextIndex] = [at, index]
      return () => parseBehind(decoding, next, nextIndex)
    }
  } while (body[at] === comma && at < end)
  return endArray(decoding, at, index)
}

function parseElement(decoding: Decoding, start: number, index: number): DecodingLeft | undefined {
  const { body, end, encoding, sink, sliceBytes } = decoding
  const check = checkOf(decoding)
  const result = check.readOn(body, end, check.at + sliceBytes)
  if (result === 'paused') return () => parseElement(decoding, start, index)
  const to = check.at
  if (result === 'broken') throw badElement(body, to, end, index)
  if (to - start > parsedWholeBytes) return sink.largeEvent(check, start, to, sliceBytes)
  sink.event(JSON.parse(body.toString(encoding, start, to)), start, to)
  return undefined
}

/** Goes on behind an element, at `from`. @param index of the next element. */
function parseBehind(decoding: Decoding, from: number, index: number): DecodingLeft | undefined {
  const { body, end, sliceBytes } = decoding
  const blankBytes = sliceBytes * scannedShare
  const at = skipWhitespace(body, from, Math.min(end, from + blankBytes))
  if (at - from >= blankBytes) return () => parseBehind(decoding, at, index)
  const isNext = body[at] === comma && at < end
  return isNext ? parseElements(decoding, at, index) : endArray(decoding, at, index)
}

function endArray({ body, end }: Decoding, at: number, index: number): undefined {
  if (at !== end - 1 || body[at] !== closeArray) throw badElement(body, at, end, index - 1)
}

/**
 * Takes an array if the scanner finds all of its events good. Else the array is parsed from its beginning.
 * @param from the bracket or comma before the next event.
 */
function scanArray(decoding: Decoding, from: number): DecodingLeft | undefined {
  const { body, end, sink, sliceBytes } = decoding
  let at = from
  do {
    if (at - from >= sliceBytes * scannedShare) {
      // A copy, since a closure over the loop's own variable would make each round slower.
      const next = at
      return () => scanArray(decoding, next)
    }
    // More white space is left to the parser, which goes over it in slices.
    const start = skipWhitespace(body, at + 1, Math.min(end, at + scannedBlankBytes))
    const to = sink.scan(start)
    if (to === -1) break
    sink.scanned(start, to)
    at = skipWhitespace(body, to, Math.min(end, to + scannedBlankBytes))
  } while (body[at] === comma)
  if (at === end - 1 && body[at] === closeArray) return undefined
  sink.restart()
  return later(decoding, () => parseJson(decoding))
}

function decodeLines(
  decoding: Decoding,
  start: number,
  textOfAll: string | null = null,
  hadBadLines = false,
): DecodingLeft | undefined {
  const { body, end, encoding, sink, sliceBytes } = decoding
  let text = textOfAll
  let hasBadLines = hadBadLines
  let lineStart = start
  const blankBytes = sliceBytes * scannedShare
  let pauseAt = start + blankBytes
  while (lineStart < end) {
    if (lineStart >= pauseAt) {
      const [next, textSoFar, badSoFar] = [lineStart, text, hasBadLines]
      return () => decodeLines(decoding, next, textSoFar, badSoFar)
    }
    // This also skips blank lines. The last byte before the end is no white space, so there is always another event.
    const from = skipWhitespace(body, lineStart, Math.min(end, pauseAt))
    if (from >= pauseAt) {
      lineStart = from
      continue
    }
    const scannedEnd = sink.scan(from)
    const nextLine =
      scannedEnd === -1
        ? -1
        : nextLineAfter(body, scannedEnd, Math.min(end, scannedEnd + scannedBlankBytes), end)
    if (nextLine !== -1) {
      sink.scanned(from, scannedEnd)
      lineStart = nextLine
      continue
    }
    const newlineAt = body.indexOf(newline, from)
    const lineEnd = newlineAt === -1 || newlineAt > end ? end : newlineAt
    const last = decoding.lineEnd === 0 ? lineEnd : decoding.lineEnd
    const to = trimWhitespaceEnd(body, Math.max(from, last - blankBytes), last)
    if (last - to === blankBytes) {
      decoding.lineEnd = to
      const [next, textSoFar, badSoFar] = [from, text, hasBadLines]
      return () => decodeLines(decoding, next, textSoFar, badSoFar)
    }
    decoding.lineEnd = 0
    lineStart = lineEnd + 1
    pauseAt -= (to - from + parsedEventBytes) * (scannedShare - 1)
    if (to - from > parsedWholeBytes) {
      checkOf(decoding).begin(from)
      const [next, textSoFar, badSoFar] = [lineStart, text, hasBadLines]
      const left = decodeLongLine(decoding, from, to)
      if (left !== undefined) return andThen(left, () => decodeLines(decoding, next, textSoFar, badSoFar))
      continue
    }
    // An exception takes long. So only the first bad line is found by one.
    const badAt = hasBadLines ? flawAt(body, from, to) : -1
    if (badAt !== -1) {
      refuseLine(decoding, from, to, badAt)
      continue
    }
    // In ASCII text a position is the position in the body. Slices of one string share its memory.
    if (encoding === 'latin1') text ??= body.toString('latin1', 0, end)
    let value: unknown
    try {
      value = JSON.parse(text === null ? body.toString('utf8', from, to) : text.slice(from, to))
    } catch {
      hasBadLines = true
      refuseLine(decoding, from, to, flawAt(body, from, to))
      continue
    }
    sink.event(value, from, to)
  }
  return undefined
}

/** Takes a line that is too long to be parsed in one go. */
function decodeLongLine(decoding: Decoding, from: number, to: number): DecodingLeft | undefined {
  const { body, sink, sliceBytes } = decoding
  const check = checkOf(decoding)
  const result = check.readOn(body, to, check.at + sliceBytes)
  if (result === 'paused') return () => decodeLongLine(decoding, from, to)
  const { at } = check
  if (result === 'whole' && at === to) return sink.largeEvent(check, from, to, sliceBytes)
  refuseLine(decoding, from, to, at)
  return undefined
}

/** Refuses a line, which stops to be JSON at `at`. A closure in the loop over the lines would make each round slower, so this is a function. */
function refuseLine({ body, start, sink }: Decoding, from: number, to: number, at: number): void {
  sink.invalidJson(from, to, () => {
    const lineStart = from === 0 ? 0 : body.lastIndexOf(newline, from - 1) + 1
    return describeBadJson(body, at, to, Math.max(lineStart, start))
  })
}

/** One check for every value that is read in one go. */
const check = new JsonCheck()

/**
 * The largest value that is parsed in one go, which takes up to 5 ms. A megabyte takes up to 150 ms, by its content. An array that small has room
 * for 10,000 events, and to check those takes up to 30 ms. So it is taken in slices, too, if it has many events.
 */
const parsedWholeBytes = 32_768

/** A slice has so many times as many bytes where its events are told from their bytes: parsing takes that much longer. */
const scannedShare = 8

/** The most white space in one place between events that are told from their bytes. */
const scannedBlankBytes = 16_384

/** An event that is parsed takes as long as so many bytes of it, however small it is. */
const parsedEventBytes = 32

const newline = 0x0a
