import { skipWhitespace } from './array-elements.ts'
import type { JsonFlaw } from './json-flaw.ts'
import {
  backslash,
  closeArray,
  closeObject,
  colon,
  comma,
  isDigit,
  isText,
  minus,
  openArray,
  openObject,
  point,
  escapeBytes,
  quote,
  texts,
  zero,
} from './scan-json.ts'

/**
 * Reads the bytes of one JSON value without making the value, as strictly as `JSON.parse` does (RFC 8259). The time for a
 * megabyte hardly depends on its content. `JSON.parse` takes up to thirty times as long for some content: many different keys,
 * deep nesting. A large value is read in slices, so that other requests get a turn in between. The body must be known to be
 * UTF-8.
 */
export class JsonCheck {
  /** Behind the value that was read; where there is none, the first byte that is not JSON. */
  at = 0
  /** Levels that objects and arrays nest; `{}` has one. */
  levels = 0
  /** Members, objects and arrays in the value: what parsing it costs goes by them. */
  nodes = 0
  /** Texts, numbers, `true`, `false` and `null` in the value. Those of an array cost little each, and are no {@link nodes}. */
  scalars = 0
  /** A key that `findFlaw` refuses. Of a key that is given twice both count here. */
  flaw: Exclude<JsonFlaw, 'too_deep'> | null = null
  /** The kind of what is open, outermost first. */
  #open = new Uint8Array(64)
  #level = 0
  #next: Next = 'value'
  #kindOfNext = object
  /** What was left off in its midst, and where it begins if it is a key. */
  #inside: Inside = nothing
  #keyStart = 0

  /** Reads on at `start`. {@link readOn} goes on from there. */
  begin(start: number): void {
    this.at = start
    this.levels = this.nodes = this.scalars = this.#level = 0
    this.flaw = null
    this.#next = 'value'
    this.#kindOfNext = object
    this.#inside = nothing
  }

  /**
   * @param end where the value ends at the latest.
   * @returns whether a whole value begins at `start`.
   */
  read(body: Buffer, start: number, end: number): boolean {
    this.begin(start)
    return this.readOn(body, end, Infinity) === 'whole'
  }

  /**
   * Reads on from where the last call or {@link begin} left off.
   * @param end where the value ends at the latest.
   * @param pauseAt the position from which on nothing more is read in this call, also in the midst of a text, a number or white space.
   * @returns `whole`: a value ends at {@link at}; `broken`: there is none; `paused`: call this again.
   */
  readOn(body: Buffer, end: number, pauseAt: number): 'whole' | 'broken' | 'paused' {
    // In one function, and in variables of its own: as methods and fields this takes several times as long.
    let open = this.#open
    let level = this.#level
    let levels = this.levels
    let nodes = this.nodes
    let scalars = this.scalars
    let inside = this.#inside
    let isKeyNext = this.#next === 'key'
    let isEndNext = this.#next === 'end'
    let kindOfNext = this.#kindOfNext
    let at = this.at
    const stop = Math.min(end, pauseAt)
    // White space may have been left off before a key, before a value, and behind a bracket.
    if (!isEndNext && (inside === nothing || inside === behindOpen)) at = skipWhitespace(body, at, stop)
    if (inside === behindOpen && (at < stop || at >= end)) {
      inside = nothing
      if (at >= end) return this.#endsAt(end)
      if (body[at] === (isKeyNext ? closeObject : closeArray)) {
        level--
        at++
        isEndNext = true
        isKeyNext = false
      }
    }
    for (;;) {
      if (at >= pauseAt) break
      if (isKeyNext) {
        if (inside !== behindKey) {
          if (inside === nothing) {
            if (body[at] !== quote || at >= end) return this.#endsAt(at)
            this.#keyStart = at++
          }
          const behind = textEnd(body, at, pauseAt)
          if (behind === unfinished) {
            inside = inText
            at = leftAt
            break
          }
          if (behind < 0) return this.#endsAt(~behind)
          nodes++
          kindOfNext = this.#look(body, this.#keyStart, behind, open[level - 1]!)
          at = behind
        }
        if (body[at] !== colon) at = skipWhitespace(body, at, stop)
        if (at >= pauseAt && at < end) {
          inside = behindKey
          break
        }
        inside = nothing
        if (body[at] !== colon || at >= end) return this.#endsAt(at)
        at = skipWhitespace(body, at + 1, stop)
        isKeyNext = false
        if (at >= pauseAt) break
      }
      if (!isEndNext) {
        const kind = body[at] === openArray ? array : kindOfNext
        kindOfNext = object
        if (inside === nothing && (body[at] === openObject || body[at] === openArray)) {
          if (level === open.length) open = this.#grow()
          open[level++] = kind
          if (level > levels) levels = level
          nodes++
          at = skipWhitespace(body, at + 1, stop)
          isKeyNext = kind !== array
          if (at >= end) return this.#endsAt(end)
          if (at >= pauseAt) {
            inside = behindOpen
            break
          }
          if (body[at] !== (isKeyNext ? closeObject : closeArray)) continue
          level--
          at++
        } else {
          const behind = scalarEnd(body, at, inside, pauseAt)
          if (behind === unfinished) {
            inside = leftInside
            at = leftAt
            break
          }
          if (behind < 0) return this.#endsAt(~behind)
          inside = nothing
          scalars++
          at = behind
        }
      }
      // Closes what ends behind the value.
      for (isEndNext = false, isKeyNext = false; ;) {
        if (level === 0) {
          this.levels = levels
          this.nodes = nodes
          this.scalars = scalars
          this.at = at
          return 'whole'
        }
        const isArray = open[level - 1] === array
        if (body[at] !== comma) {
          at = skipWhitespace(body, at, stop)
          if (at >= end) return this.#endsAt(end)
          if (at >= pauseAt) {
            isEndNext = true
            break
          }
        }
        if (body[at] === comma) {
          at = skipWhitespace(body, at + 1, stop)
          isKeyNext = !isArray
          break
        }
        if (body[at] !== (isArray ? closeArray : closeObject)) return this.#endsAt(at)
        level--
        at++
        if (at >= pauseAt) {
          isEndNext = true
          break
        }
      }
    }
    this.at = at
    this.levels = levels
    this.nodes = nodes
    this.scalars = scalars
    this.#inside = inside
    this.#level = level
    this.#next = isEndNext ? 'end' : isKeyNext ? 'key' : 'value'
    this.#kindOfNext = kindOfNext
    return 'paused'
  }

  /**
   * Looks whether a key, from quote to quote, is one that may not be passed on.
   * @param inner the kind of its object.
   * @returns the kind that the member's value is, if it is an object.
   */
  #look(body: Buffer, start: number, end: number, inner: number): number {
    const length = end - start - 2
    if (length === 9) {
      if (isText(body, start + 1, texts.proto)) this.flaw ??= 'proto_key'
      if (inner === constructorObject && isText(body, start + 1, texts.prototype))
        this.flaw ??= 'constructor_prototype'
    }
    if (length === 11 && isText(body, start + 1, texts.constructor)) return constructorObject
    if (length <= 9 || length > longestEscapedKey || !hasEscape(body, start, end)) return object
    const key: unknown = JSON.parse(body.toString('utf8', start, end))
    if (key === '__proto__') this.flaw ??= 'proto_key'
    if (key === 'prototype' && inner === constructorObject) this.flaw ??= 'constructor_prototype'
    return key === 'constructor' ? constructorObject : object
  }

  #grow(): Uint8Array<ArrayBuffer> {
    const larger = new Uint8Array(this.#open.length * 4)
    larger.set(this.#open)
    this.#open = larger
    return larger
  }

  #endsAt(at: number): 'broken' {
    this.at = at
    return 'broken'
  }
}

/**
 * Behind a scalar, or behind the rest of one.
 * @param inside what is left of: {@link nothing} at the beginning of a scalar.
 * @param pauseAt the position from which on nothing more of a text or a number is read.
 * @returns `~position` of the first byte that is not JSON, which is negative; {@link unfinished}: the scalar goes on at
 * {@link leftAt}, where it is {@link leftInside}.
 */
function scalarEnd(body: Buffer, start: number, inside: Inside, pauseAt: number): number {
  if (inside !== nothing)
    return inside === inText ? textEnd(body, start, pauseAt) : numberEnd(body, start, inside, pauseAt)
  switch (body[start]) {
    case quote:
      return textEnd(body, start + 1, pauseAt)
    case 0x74:
      return isText(body, start, texts.true) ? start + 4 : ~start
    case 0x66:
      return isText(body, start, texts.false) ? start + 5 : ~start
    case 0x6e:
      return isText(body, start, texts.null) ? start + 4 : ~start
    default: {
      const first = body[start] === minus ? start + 1 : start
      if (!isDigit(body[first]!)) return ~start
      const isZero = body[first] === zero
      // No digit follows a zero in front. What follows is for the caller to judge.
      return isZero && isDigit(body[first + 1]!) ? first + 1 : numberEnd(body, first + 1, inInteger, pauseAt)
    }
  }
}

/** As `textEnd` of `scan-json.ts`, with the results of {@link scalarEnd}. */
function textEnd(body: Buffer, start: number, pauseAt: number): number {
  let at = start
  while (at < pauseAt) {
    const byte = body[at]!
    if (byte === quote) return at + 1
    // Behind the end of the body there is no number, and no comparison holds.
    if (!(byte >= 0x20)) return ~at
    const step = byte === backslash ? escapeBytes(body, at) : 1
    if (step === 0) return ~at
    at += step
  }
  leftAt = at
  leftInside = inText
  return unfinished
}

/** The rest of a number. @param from the part that `start` is in, behind its first digit. */
function numberEnd(body: Buffer, start: number, from: Inside, pauseAt: number): number {
  let at = start
  let part = from
  for (;;) {
    while (at < pauseAt && isDigit(body[at]!)) at++
    if (isDigit(body[at]!)) {
      leftAt = at
      leftInside = part
      return unfinished
    }
    let first = at + 1
    if (part === inInteger && body[at] === point) part = inFraction
    else if (part !== inExponent && (body[at]! | 0x20) === 0x65) {
      part = inExponent
      if (body[first] === minus || body[first] === 0x2b) first++
    } else return at
    if (!isDigit(body[first]!)) return ~first
    at = first + 1
  }
}

/** Whether [start, end) holds a backslash. */
export function hasEscape(body: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (body[at] === backslash) return true
  return false
}

/**
 * What stands where JSON ends, in words.
 * @param origin the position that counts as byte 0.
 */
export function describeBadJson(body: Buffer, at: number, end: number, origin: number): string {
  const place = `byte ${at - origin}`
  if (at >= end) return `ends at ${place}, in the midst of a value`
  const text = body.toString('utf8', at, Math.min(end, at + 24))
  const token = /^[+\-.\w]+/.exec(text)?.[0] ?? String.fromCodePoint(text.codePointAt(0)!)
  const hint = /^[+-]?(?:nan|inf|infinity)$/i.test(token) ? '; JSON has no NaN and no Infinity' : ''
  // A key that was sent as a body by mistake must not get into a log.
  const shown = token.startsWith('chk_') ? 'chk_…' : token
  return `${JSON.stringify(shown)} at ${place} is not JSON${hint}`
}

/** What was left off before its end: nothing, a text, a part of a number, or the white space behind a key or an opening bracket. */
type Inside = number
const nothing = 0
const inText = 1
const inInteger = 2
const inFraction = 3
const inExponent = 4
const behindKey = 5
const behindOpen = 6

/** No position behind a scalar, and no position of a flaw: a scalar was left off before its end. */
const unfinished = 0
/** Where, and in the midst of what, the last scalar was left off. Read right after the call. A result with three fields would cost more. */
let leftAt = 0
let leftInside: Inside = nothing

/** What a value that was read in part goes on with: a member's key, a value, or whatever stands behind a value. */
type Next = 'key' | 'value' | 'end'

/** Kinds of what can be open. A constructor's object is the value of a member `constructor`. */
const object = 1
const constructorObject = 2
const array = 3

/** Each character of the longest forbidden key takes six bytes as an escape. */
const longestEscapedKey = 6 * 'constructor'.length

/** A byte order mark is not allowed in JSON text but may be ignored (RFC 8259, section 8.1). Some editors write it. */
export function hasByteOrderMark(body: Buffer): boolean {
  return body.length >= 3 && body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf
}
