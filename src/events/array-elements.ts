const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const openArray = 0x5b
const closeArray = 0x5d
const openObject = 0x7b
const closeObject = 0x7d

/**
 * Finds the byte ranges of an array's elements, so that each can be passed on byte for byte. It works only on an array that `JSON.parse` has
 * found valid, since it only tells strings from structure.
 *
 * @param body holds the array at [start, end), from its `[` to its `]`. The array has at least one element.
 * @param visit gets the range of each element, in order, without the whitespace around the element.
 */
export function scanArrayElements(
  body: Buffer,
  start: number,
  end: number,
  visit: (start: number, end: number) => void,
): void {
  let depth = 0
  let elementStart = start + 1
  const last = end - 1
  for (let at = elementStart; at < last; at++) {
    switch (body[at]) {
      case quote:
        at++
        for (let byte = body[at]; byte !== quote; byte = body[++at]) if (byte === backslash) at++
        break
      case openObject:
      case openArray:
        depth++
        break
      case closeObject:
      case closeArray:
        depth--
        break
      case comma:
        if (depth > 0) break
        visit(skipWhitespace(body, elementStart, at), trimWhitespaceEnd(body, elementStart, at))
        elementStart = at + 1
        break
      default:
    }
  }
  visit(skipWhitespace(body, elementStart, last), trimWhitespaceEnd(body, elementStart, last))
}

/** First position in [start, end) that is not JSON whitespace (RFC 8259, section 2), else `end`. */
export function skipWhitespace(body: Buffer, start: number, end: number): number {
  let at = start
  while (at < end && isWhitespace(body[at])) at++
  return at
}

/** Position behind the last byte in [start, end) that is not JSON whitespace, else `start`. */
export function trimWhitespaceEnd(body: Buffer, start: number, end: number): number {
  let at = end
  while (at > start && isWhitespace(body[at - 1])) at--
  return at
}

function isWhitespace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/**
 * The start of the next line, if there are only blanks between `at` and the end of this line; else -1.
 * @param end no more blanks are read from here on. It is at or before `bodyEnd`.
 */
export function nextLineAfter(body: Buffer, at: number, end: number, bodyEnd: number): number {
  let next = at
  while (next < end && (body[next] === 0x20 || body[next] === 0x09 || body[next] === 0x0d)) next++
  return next >= bodyEnd || body[next] === 0x0a ? next + 1 : -1
}
