import { skipWhitespace } from './array-elements.ts'
import { hasEscape } from './check-json.ts'
import {
  backslash,
  closeArray,
  closeObject,
  comma,
  isText,
  openArray,
  openObject,
  quote,
} from './scan-json.ts'
import { maxLabels } from './telemetry-schema.ts'

/**
 * The value of a large event, reduced to the parts that the built-in checks look at, so that making the value takes no longer than
 * parsing a small event: the members of the given names, and the scalars in those that are objects. An object with very many
 * members is replaced by an object with a few too many, which every check refuses as well. Yields after about each `sliceBytes`,
 * also in the midst of a text.
 * @param body holds the event at [start, end), and it is known to be valid.
 */
export function* reduceEvent(
  body: Buffer,
  start: number,
  end: number,
  names: readonly Buffer[],
  sliceBytes: number,
): Generator<undefined, unknown> {
  const skip = new ValueSkip(body, start, sliceBytes)
  if (body[start] === openObject) return yield* reduceObject(skip, start, names)
  return yield* scalarOf(skip, start, end)
}

/** The name that a key is; null: it is none of the names. A name with escapes is found, too: each of its letters takes up to six bytes. */
function nameOf(body: Buffer, start: number, end: number, names: readonly Buffer[]): string | null {
  const length = end - start - 2
  const same = names.find((name) => length === name.length && isText(body, start + 1, name))
  if (same !== undefined) return same.toString()
  if (!names.some((name) => length <= 6 * name.length) || !hasEscape(body, start, end)) return null
  const key = JSON.parse(body.toString('utf8', start, end)) as string
  return names.some((name) => name.toString() === key) ? key : null
}

/** The event, with only its members of the given names. If a member is given twice, the last one counts. */
function* reduceObject(
  skip: ValueSkip,
  start: number,
  names: readonly Buffer[],
): Generator<undefined, unknown> {
  const { body } = skip
  const members = new Map<string, unknown>()
  let at = skipWhitespace(body, start + 1, body.length)
  while (body[at] !== closeObject) {
    skip.begin(at)
    while (!skip.goOn()) yield
    const name = nameOf(body, at, skip.at, names)
    const valueStart = valueAt(body, skip.at)
    skip.begin(valueStart)
    while (!skip.goOn()) yield
    const valueEnd = skip.at
    if (name !== null) {
      const isObject = body[valueStart] === openObject
      const value = isObject
        ? yield* reduceEntries(skip, valueStart)
        : yield* scalarOf(skip, valueStart, valueEnd)
      members.set(name, value)
    }
    at = nextMemberAt(body, valueEnd)
  }
  return Object.fromEntries(members)
}

/** An object in the event, reduced to its scalars. */
function* reduceEntries(skip: ValueSkip, start: number): Generator<undefined, unknown> {
  const { body } = skip
  const members: [string, unknown][] = []
  let at = skipWhitespace(body, start + 1, body.length)
  while (body[at] !== closeObject) {
    if (members.length === manyMembers) return tooManyMembers
    skip.begin(at)
    while (!skip.goOn()) yield
    const keyEnd = skip.at
    const valueStart = valueAt(body, keyEnd)
    skip.begin(valueStart)
    while (!skip.goOn()) yield
    const valueEnd = skip.at
    const key = (yield* scalarOf(skip, at, keyEnd)) as string
    members.push([key, yield* scalarOf(skip, valueStart, valueEnd)])
    at = nextMemberAt(body, valueEnd)
  }
  return Object.fromEntries(members)
}

/** The start of the value of a member whose key ends at `keyEnd`. The body is valid. */
export function valueAt(body: Buffer, keyEnd: number): number {
  const colonAt = skipWhitespace(body, keyEnd, body.length)
  return skipWhitespace(body, colonAt + 1, body.length)
}

/** The next key, or the end of the object. */
export function nextMemberAt(body: Buffer, valueEnd: number): number {
  const at = skipWhitespace(body, valueEnd, body.length)
  return body[at] === comma ? skipWhitespace(body, at + 1, body.length) : at
}

/** A scalar. Objects and arrays become empty ones, since no check looks into them. */
function* scalarOf(
  { body, sliceBytes }: ValueSkip,
  start: number,
  end: number,
): Generator<undefined, unknown> {
  if (body[start] === openObject) return {}
  if (body[start] === openArray) return []
  if (end - start <= sliceBytes) return JSON.parse(body.toString('utf8', start, end))
  if (body[start] !== quote) {
    yield
    return JSON.parse(body.toString('latin1', start, end))
  }
  let text = ''
  for (let from = start + 1; from < end - 1;) {
    const to = pieceEnd(body, from, Math.min(from + sliceBytes, end - 1))
    text += JSON.parse(`"${body.toString('utf8', from, to)}"`) as string
    from = to
    yield
  }
  return text
}

/** The end of a piece of a text, at `wantedEnd` or a few bytes behind it, so that the piece does not end within an escape or a character. */
function pieceEnd(body: Buffer, start: number, wantedEnd: number): number {
  let at = start
  while (at < wantedEnd) {
    if (body[at] !== backslash) at++
    else at += body[at + 1] === letterU ? 6 : 2
  }
  while ((body[at]! & 0xc0) === 0x80) at++
  return at
}

/** Goes over a valid value, or a key, in slices. */
export class ValueSkip {
  body: Buffer
  readonly sliceBytes: number
  /** The position behind the bytes that were skipped. */
  at = 0
  #sliceEnd: number
  #depth = 0
  #isInText = false
  #isInScalar = false

  constructor(body: Buffer, start: number, sliceBytes: number) {
    this.body = body
    this.sliceBytes = sliceBytes
    this.#sliceEnd = start + sliceBytes
  }

  /** Begins a slice, in the same body or in another one. */
  restart(body: Buffer, start: number): void {
    this.body = body
    this.#sliceEnd = start + this.sliceBytes
  }

  /** Begins with a value. */
  begin(start: number): void {
    this.at = start
    this.#depth = 0
    this.#isInText = this.#isInScalar = false
  }

  /** Skips up to a slice of the value. @returns whether the value ends at {@link at}. false: other work is to get a turn before the next call. */
  goOn(): boolean {
    const { body } = this
    let at = this.at
    if (at >= this.#sliceEnd) {
      this.#sliceEnd = at + this.sliceBytes
      return false
    }
    const sliceEnd = this.#sliceEnd
    let depth = this.#depth
    let isInText = this.#isInText
    let isInScalar = this.#isInScalar
    do {
      if (isInText || body[at] === quote) {
        const behind = textEnd(body, isInText ? at : at + 1, sliceEnd)
        isInText = behind < 0
        at = isInText ? ~behind : behind
        continue
      }
      switch (body[at]) {
        case openObject:
        case openArray:
          depth++
          at++
          break
        case closeObject:
        case closeArray:
          depth--
          at++
          break
        default:
          if (depth > 0) at++
          else {
            at = scalarEnd(body, at, sliceEnd)
            isInScalar = at >= sliceEnd && !isBehindScalar(body[at])
          }
      }
    } while ((depth > 0 || isInText || isInScalar) && at < sliceEnd)
    this.at = at
    this.#depth = depth
    this.#isInText = isInText
    this.#isInScalar = isInScalar
    return depth === 0 && !isInText && !isInScalar
  }
}

/** The position behind a number, `true`, `false` or `null`; or `pauseAt` if the scalar is longer. */
function scalarEnd(body: Buffer, start: number, pauseAt: number): number {
  let at = start
  while (at < pauseAt && !isBehindScalar(body[at])) at++
  return at
}

function isBehindScalar(byte: number | undefined): boolean {
  return byte === undefined || byte <= 0x20 || byte === comma || byte === closeObject || byte === closeArray
}

/** The position behind a text. If the text goes on behind `pauseAt`, `~position` of the place where it goes on, which is negative. */
function textEnd(body: Buffer, start: number, pauseAt: number): number {
  let at = start
  while (at < pauseAt) {
    const byte = body[at]
    if (byte === quote) return at + 1
    at += byte === backslash ? 2 : 1
  }
  return ~at
}

const letterU = 0x75
/** More members than any check accepts, with room for keys that are given twice. */
const manyMembers = 16 * maxLabels
/** A few more members than any check accepts, and none that is bad. */
export const tooManyMembers: Readonly<Record<string, number>> = Object.fromEntries(
  Array.from({ length: maxLabels + 1 }, (_, nth) => [nth, 0]),
)
