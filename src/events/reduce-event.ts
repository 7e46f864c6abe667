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
 * The JSON of a large event with only what the built-in checks look at, so that parsing it takes no longer than parsing a
 * small one: its members of the given names, and of those that are objects their scalars. An object with very many
 * members, which no check takes, is replaced by one that has a few too many.
 * @param body holds the event at [start, end), and it is known to be valid.
 */
export function reduceEvent(body: Buffer, start: number, end: number, names: readonly Buffer[]): string {
  switch (body[start]) {
    case openObject:
      return reducedObject(body, start, (keyStart, keyEnd, valueStart, valueEnd) => {
        if (!isOneOf(body, keyStart, keyEnd, names)) return null
        if (body[valueStart] !== openObject) return scalarOf(body, valueStart, valueEnd)
        let members = 0
        const text = reducedObject(body, valueStart, (_keyStart, _keyEnd, innerStart, innerEnd) =>
          ++members > manyMembers ? null : scalarOf(body, innerStart, innerEnd),
        )
        return members > manyMembers ? tooManyMembers : text
      })
    case openArray:
      return '[]'
    default:
      return body.toString('utf8', start, end)
  }
}

/** An escaped name is found by its letters too: each of them takes up to six bytes. */
function isOneOf(body: Buffer, start: number, end: number, names: readonly Buffer[]): boolean {
  const length = end - start - 2
  for (const name of names) if (length === name.length && isText(body, start + 1, name)) return true
  if (length > longestName || !hasEscape(body, start, end)) return false
  const key = JSON.parse(body.toString('utf8', start, end)) as string
  return names.some((name) => name.toString() === key)
}

/** Gets a member's key, quotes included, and its value. @returns what stands for the value; null: leave the member out. */
type MemberVisit = (keyStart: number, keyEnd: number, valueStart: number, valueEnd: number) => string | null

function reducedObject(body: Buffer, start: number, visit: MemberVisit): string {
  const members: string[] = []
  let at = skipWhitespace(body, start + 1, body.length)
  while (body[at] !== closeObject) {
    const keyEnd = textEnd(body, at)
    const colonAt = skipWhitespace(body, keyEnd, body.length)
    const valueStart = skipWhitespace(body, colonAt + 1, body.length)
    const valueEnd = anyEnd(body, valueStart)
    const text = visit(at, keyEnd, valueStart, valueEnd)
    if (text !== null) members.push(`${body.toString('utf8', at, keyEnd)}:${text}`)
    at = skipWhitespace(body, valueEnd, body.length)
    if (body[at] === comma) at = skipWhitespace(body, at + 1, body.length)
  }
  return `{${members.join(',')}}`
}

/** What nests is emptied: no check looks into it. */
function scalarOf(body: Buffer, start: number, end: number): string {
  if (body[start] === openObject) return '{}'
  return body[start] === openArray ? '[]' : body.toString('utf8', start, end)
}

/** Behind a valid value. */
function anyEnd(body: Buffer, start: number): number {
  let at = start
  let depth = 0
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
  } while (depth > 0)
  return at
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
