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
 * Reduces a large event to the parts that the built-in checks look at, so that parsing the result takes no longer than parsing a
 * small event: the members of the given names, and the scalars in those that are objects. An object with very many members is
 * replaced by an object with a few too many, which every check refuses as well. Yields after about each `sliceBytes`.
 * @param body holds the event at [start, end), and it is known to be valid.
 */
export function* reduceEvent(
  body: Buffer,
  start: number,
  end: number,
  names: readonly Buffer[],
  sliceBytes: number,
): Generator<undefined, string> {
  switch (body[start]) {
    case openObject:
      return yield* reduceObject(new ValueSkip(body, start, sliceBytes), start, names)
    case openArray:
      return '[]'
    default:
      return body.toString('utf8', start, end)
  }
}
/** The one of the names that a key stands for. An escaped name is found by its letters too: each takes up to six bytes. */
function nameOf(body: Buffer, start: number, end: number, names: readonly Buffer[]): string | null {
  const length = end - start - 2
  const same = names.find((name) => length === name.length && isText(body, start + 1, name))
  if (same !== undefined) return same.toString()
  if (length > longestName || !hasEscape(body, start, end)) return null
  const key = JSON.parse(body.toString('utf8', start, end)) as string
  return names.some((name) => name.toString() === key) ? key : null
}

/** The event, with its members of the given names. Of one that is given twice the last counts. */
function* reduceObject(
  skip: ValueSkip,
  start: number,
  names: readonly Buffer[],
): Generator<undefined, string> {
  const { body } = skip
  const members = new Map<string, string>()
  let at = skipWhitespace(body, start + 1, body.length)
  while (body[at] !== closeObject) {
    const valueStart = valueAt(body, at)
    skip.begin(valueStart)
    while (!skip.goOn()) yield
    const valueEnd = skip.at
    const name = nameOf(body, at, textEnd(body, at), names)
    if (name !== null) {
      const isObject = body[valueStart] === openObject
      const text = isObject ? yield* reduceEntries(skip, valueStart) : scalarOf(body, valueStart, valueEnd)
      members.set(name, text)
    }
    at = nextMemberAt(body, valueEnd)
  }
  return `{${Array.from(members, ([name, text]) => `"${name}":${text}`).join(',')}}`
}

/** An object in the event, with its scalars. */
function* reduceEntries(skip: ValueSkip, start: number): Generator<undefined, string> {
  const { body } = skip
  const members: string[] = []
  let at = skipWhitespace(body, start + 1, body.length)
  while (body[at] !== closeObject) {
    if (members.length === manyMembers) return tooManyMembers
    const valueStart = valueAt(body, at)
    skip.begin(valueStart)
    while (!skip.goOn()) yield
    members.push(`${body.toString('utf8', at, textEnd(body, at))}:${scalarOf(body, valueStart, skip.at)}`)
    at = nextMemberAt(body, skip.at)
  }
  return `{${members.join(',')}}`
}

/** Where the value of the member begins whose key begins at `at`. */
function valueAt(body: Buffer, at: number): number {
  const colonAt = skipWhitespace(body, textEnd(body, at), body.length)
  return skipWhitespace(body, colonAt + 1, body.length)
}

/** The next key, or the end of the object. */
function nextMemberAt(body: Buffer, valueEnd: number): number {
  const at = skipWhitespace(body, valueEnd, body.length)
  return body[at] === comma ? skipWhitespace(body, at + 1, body.length) : at
}

/** What nests is emptied: no check looks into it. */
function scalarOf(body: Buffer, start: number, end: number): string {
  if (body[start] === openObject) return '{}'
  return body[start] === openArray ? '[]' : body.toString('utf8', start, end)
}

/** Goes over a valid value in slices. */
class ValueSkip {
  readonly body: Buffer
  /** Behind what was gone over. */
  at = 0
  readonly #sliceBytes: number
  #sliceEnd: number
  #depth = 0

  constructor(body: Buffer, start: number, sliceBytes: number) {
    this.body = body
    this.#sliceBytes = sliceBytes
    this.#sliceEnd = start + sliceBytes
  }

  begin(start: number): void {
    this.at = start
    this.#depth = 0
  }

  /** @returns whether the value ends at {@link at}; false: others are to get a turn before the next call. */
  goOn(): boolean {
    const { body } = this
    let at = this.at
    if (at >= this.#sliceEnd) {
      this.#sliceEnd = at + this.#sliceBytes
      return false
    }
    const sliceEnd = this.#sliceEnd
    let depth = this.#depth
    do {
      switch (body[at]) {
        case quote:
          at = textEnd(body, at)
          break
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
          at++
          if (depth === 0) at = scalarEnd(body, at)
      }
    } while (depth > 0 && at < sliceEnd)
    this.at = at
    this.#depth = depth
    return depth === 0
  }
}

function scalarEnd(body: Buffer, start: number): number {
  let at = start
  for (let byte = body[at]; byte !== undefined && byte > 0x20; byte = body[++at]) {
    if (byte === comma || byte === closeObject || byte === closeArray) break
  }
  return at
}

function textEnd(body: Buffer, start: number): number {
  let at = start + 1
  for (let byte = body[at]; byte !== quote; byte = body[++at]) if (byte === backslash) at++
  return at + 1
}

/** Each character of a name takes six bytes as an escape. */
const longestName = 6 * 'timestamp'.length
/** More than any check takes, with room for keys that are given twice. */
const manyMembers = 16 * maxLabels
const tooManyMembers = JSON.stringify(
  Object.fromEntries(Array.from({ length: maxLabels + 1 }, (_, nth) => [nth, 0])),
)
