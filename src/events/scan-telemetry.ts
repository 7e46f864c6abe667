import {
  backslash,
  closeObject,
  colon,
  comma,
  isText,
  memberValueAt,
  isDigit,
  numberEnd,
  point,
  openArray,
  openObject,
  plainTextEnd,
  quote,
  skipBlanks,
  valueEnd,
} from './scan-json.ts'
import { maxLabels } from './telemetry-schema.ts'
import { isRfc3339, type TimestampUnit } from './timestamp-format.ts'

/**
 * Finds from its bytes that a telemetry event is good, without making a value of it. Parsing would be the largest part of the cost of an event,
 * and most of its result would be garbage a moment later.
 *
 * The scanner says yes, or it does not decide. It leaves every unusual event to `JSON.parse` and the schema: an event with an escape in a name,
 * an exponent, a key that is given twice, a line break between tokens, or an `id`. It must never say yes to an event that the schema refuses,
 * which a property test checks. The bytes must be known to be UTF-8.
 */
export class TelemetryScanner {
  /** The range of the bytes of the `source` of the last event. It is empty if the event has none. */
  sourceStart = 0
  sourceEnd = 0
  readonly #unit: TimestampUnit

  /** @param unit of the events' `timestamp`, where it is a number. */
  constructor(unit: TimestampUnit = 'ms') {
    this.#unit = unit
  }

  /**
   * @param depth the most levels that objects and arrays may nest, as `findFlaw` counts them.
   * @returns the position behind the event that starts at `start`. -1: the event has to be parsed.
   */
  scan(body: Buffer, start: number, depth: number): number {
    this.sourceStart = this.sourceEnd = 0
    if (body[start] !== openObject || depth < 2) return -1
    let at = skipBlanks(body, start + 1)
    let seen = 0
    for (;;) {
      if (body[at] !== quote) return -1
      const keyStart = at + 1
      const keyEnd = plainTextEnd(body, keyStart)
      if (keyEnd < 0) return -1
      at = skipBlanks(body, keyEnd + 1)
      if (body[at] !== colon) return -1
      at = skipBlanks(body, at + 1)
      const field = fieldOf(body, keyStart, keyEnd)
      if ((seen & field) !== 0) return -1
      seen |= field
      at = this.#fieldEnd(body, field, at, depth)
      if (at < 0) return -1
      at = skipBlanks(body, at)
      const byte = body[at]
      if (byte === closeObject) return (seen & required) === required ? at + 1 : -1
      if (byte !== comma) return -1
      at = skipBlanks(body, at + 1)
    }
  }

  #fieldEnd(body: Buffer, field: number, at: number, depth: number): number {
    switch (field) {
      case fields.none:
        return valueEnd(body, at, depth - 1)
      case fields.name:
      case fields.unit:
        return shortTextEnd(body, at)
      case fields.value:
        return numberEnd(body, at)
      case fields.timestamp:
        return timestampEnd(body, at, this.#unit)
      case fields.labels:
        return labelsEnd(body, at)
      case fields.source: {
        const end = shortTextEnd(body, at)
        this.sourceStart = at + 1
        this.sourceEnd = end - 1
        return end
      }
      default:
        return -1
    }
  }
}

/** A bit for each field that the schema names. `refused`: keys that have to be parsed. */
const fields = {
  none: 0,
  name: 1,
  value: 2,
  timestamp: 4,
  unit: 8,
  labels: 16,
  source: 32,
  refused: 64,
} as const
const required = fields.name | fields.value

function fieldOf(body: Buffer, start: number, end: number): number {
  switch (end - start) {
    case 2:
      return isText(body, start, texts.id) ? fields.refused : fields.none
    case 4:
      if (isText(body, start, texts.name)) return fields.name
      return isText(body, start, texts.unit) ? fields.unit : fields.none
    case 5:
      return isText(body, start, texts.value) ? fields.value : fields.none
    case 6:
      if (isText(body, start, texts.source)) return fields.source
      return isText(body, start, texts.labels) ? fields.labels : fields.none
    case 9:
      if (isText(body, start, texts.timestamp)) return fields.timestamp
      return isText(body, start, texts.proto) ? fields.refused : fields.none
    case 11:
      return isText(body, start, texts.constructor) ? fields.refused : fields.none
    default:
      return fields.none
  }
}

function labelsEnd(body: Buffer, start: number): number {
  if (body[start] !== openObject) return -1
  let at = skipBlanks(body, start + 1)
  if (body[at] === closeObject) return at + 1
  for (let count = 1; count <= maxLabels; count++) {
    at = memberValueAt(body, at)
    if (at < 0) return -1
    const first = body[at]
    // A label is neither null nor an object or array.
    if (first === openObject || first === openArray || first === 0x6e) return -1
    at = valueEnd(body, at, 0)
    if (at < 0) return -1
    at = skipBlanks(body, at)
    const byte = body[at]
    if (byte === closeObject) return at + 1
    if (byte !== comma) return -1
    at = skipBlanks(body, at + 1)
  }
  return -1
}

/** Behind a text of 1 to 255 bytes without control characters (C0, DEL, C1) and escapes. */
function shortTextEnd(body: Buffer, at: number): number {
  if (body[at] !== quote) return -1
  const start = at + 1
  const limit = start + 255
  for (let next = start; next <= limit; next++) {
    const byte = body[next]!
    if (byte === quote) return next === start ? -1 : next + 1
    // C1 is C2 80 to C2 9F in UTF-8.
    if (!(byte >= 0x20) || byte === backslash || byte === 0x7f) return -1
    if (byte === 0xc2 && body[next + 1]! < 0xa0) return -1
  }
  return -1
}

/** The rule of `timestamp` is in telemetry-schema.ts, in `isTimestamp` of validate-telemetry.ts, and here. */
function timestampEnd(body: Buffer, at: number, unit: TimestampUnit): number {
  if (body[at] !== quote) {
    let end = at
    while (isDigit(body[end]!)) end++
    const digits = end - at
    const isUsual =
      unit === 'auto'
        ? // The numbers of usualDigits.
          digits === 10 || digits === 13 || digits === 16 || digits === 19
        : digits === usualDigits[unit]
    // With a first digit from 1 to 3, it is a time from 2001 to 2096.
    if (!isUsual || body[at]! < 0x31 || body[at]! > 0x33) return -1
    return body[end] === point ? numberEnd(body, at) : end
  }
  const end = plainTextEnd(body, at + 1)
  return end > 0 && end - at < 64 && isRfc3339(body.toString('latin1', at + 1, end)) ? end + 1 : -1
}

const texts = {
  id: Buffer.from('id'),
  name: Buffer.from('name'),
  unit: Buffer.from('unit'),
  value: Buffer.from('value'),
  labels: Buffer.from('labels'),
  source: Buffer.from('source'),
  timestamp: Buffer.from('timestamp'),
  proto: Buffer.from('__proto__'),
  constructor: Buffer.from('constructor'),
} as const

/** Digits of the times of this century. `timestampEnd` lists the numbers once more for `auto`, since it runs for each event. */
const usualDigits = { s: 10, ms: 13, us: 16, ns: 19 } as const satisfies Record<
  Exclude<TimestampUnit, 'auto'>,
  number
>
