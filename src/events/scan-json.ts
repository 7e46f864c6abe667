/**
 * Finds where JSON values end, without making the values. If these functions find a value, the bytes are one (RFC 8259). If they find none, the
 * bytes may be a value nevertheless, and `JSON.parse` has to decide. They leave these to `JSON.parse`: numbers with an exponent, keys with an
 * escape, line breaks between tokens, and the keys that `json-flaw.ts` looks for.
 *
 * All positions are indexes of the body. The body's bytes must be known to be UTF-8. A function that looks for an end returns the position
 * behind the value, or a negative number.
 */

/** Behind any value in which objects and arrays nest at most `depth` levels. */
export function valueEnd(body: Buffer, at: number, depth: number): number {
  switch (body[at]) {
    case quote:
      return textEnd(body, at + 1)
    case openObject:
      return objectEnd(body, at + 1, depth)
    case openArray:
      return arrayEnd(body, at + 1, depth)
    case 0x74:
      return isText(body, at, texts.true) ? at + 4 : -1
    case 0x66:
      return isText(body, at, texts.false) ? at + 5 : -1
    case 0x6e:
      return isText(body, at, texts.null) ? at + 4 : -1
    default:
      return numberEnd(body, at)
  }
}

function objectEnd(body: Buffer, start: number, depth: number): number {
  if (depth === 0) return -1
  let at = skipBlanks(body, start)
  if (body[at] === closeObject) return at + 1
  for (;;) {
    at = memberValueAt(body, at)
    if (at < 0) return -1
    at = valueEnd(body, at, depth - 1)
    if (at < 0) return -1
    at = skipBlanks(body, at)
    const byte = body[at]
    if (byte === closeObject) return at + 1
    if (byte !== comma) return -1
    at = skipBlanks(body, at + 1)
  }
}

function arrayEnd(body: Buffer, start: number, depth: number): number {
  if (depth === 0) return -1
  let at = skipBlanks(body, start)
  if (body[at] === closeArray) return at + 1
  for (;;) {
    at = valueEnd(body, at, depth - 1)
    if (at < 0) return -1
    at = skipBlanks(body, at)
    const byte = body[at]
    if (byte === closeArray) return at + 1
    if (byte !== comma) return -1
    at = skipBlanks(body, at + 1)
  }
}

/** The start of the value of a member whose key begins at `at`. -1 for a key that `json-flaw.ts` has to look at. */
export function memberValueAt(body: Buffer, at: number): number {
  if (body[at] !== quote) return -1
  const keyStart = at + 1
  const keyEnd = plainTextEnd(body, keyStart)
  if (keyEnd < 0) return -1
  const length = keyEnd - keyStart
  if (length === 9 && isText(body, keyStart, texts.proto)) return -1
  if (length === 11 && isText(body, keyStart, texts.constructor)) return -1
  const colonAt = skipBlanks(body, keyEnd + 1)
  return body[colonAt] === colon ? skipBlanks(body, colonAt + 1) : -1
}

/** The position of the quote that ends a text without escapes. */
export function plainTextEnd(body: Buffer, start: number): number {
  let at = start
  for (;;) {
    const byte = body[at]!
    if (byte === quote) return at
    // Behind the end of the body `byte` is undefined, and every comparison is false.
    if (!(byte >= 0x20) || byte === backslash) return -1
    at++
  }
}

/**
 * Behind a text of JSON (RFC 8259, section 7).
 * @param start the position behind the first quote.
 * @returns if there is no such text, `~position` of the first byte that is not JSON. That is a negative number.
 */
export function textEnd(body: Buffer, start: number): number {
  let at = start
  for (;;) {
    const byte = body[at]!
    if (byte === quote) return at + 1
    // Behind the end of the body `byte` is undefined, and every comparison is false.
    if (!(byte >= 0x20)) return ~at
    const step = byte === backslash ? escapeBytes(body, at) : 1
    if (step === 0) return ~at
    at += step
  }
}

/** Number of bytes of the escape at `at`; 0 if JSON has no such escape. */
export function escapeBytes(body: Buffer, at: number): number {
  switch (body[at + 1]) {
    case quote:
    case backslash:
    case 0x2f:
    case 0x62:
    case 0x66:
    case 0x6e:
    case 0x72:
    case 0x74:
      return 2
    case 0x75:
      for (let digit = at + 2; digit < at + 6; digit++) if (!isHexDigit(body[digit]!)) return 0
      return 6
    default:
      return 0
  }
}

function isHexDigit(byte: number): boolean {
  return isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66)
}

/** Behind a number without an exponent that is short enough to be finite. */
export function numberEnd(body: Buffer, start: number): number {
  let at = body[start] === minus ? start + 1 : start
  const first = at
  while (isDigit(body[at]!)) at++
  if (at === first || (body[first] === zero && at > first + 1)) return -1
  if (body[at] === point) {
    const fraction = ++at
    while (isDigit(body[at]!)) at++
    if (at === fraction) return -1
  }
  return at - start <= 100 ? at : -1
}

export function isDigit(byte: number): boolean {
  return byte >= zero && byte <= 0x39
}

/** Whether the bytes from `start` on are those of `text`. */
export function isText(body: Buffer, start: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) if (body[start + i] !== text[i]) return false
  return true
}

/** Skips blanks, but no line breaks: a value in a line of NDJSON must not go on in the next line. */
export function skipBlanks(body: Buffer, start: number): number {
  let at = start
  while (body[at] === 0x20 || body[at] === 0x09) at++
  return at
}

/** Bytes of JSON's structure. */
export const quote = 0x22
export const comma = 0x2c
export const minus = 0x2d
export const point = 0x2e
export const zero = 0x30
export const colon = 0x3a
export const openArray = 0x5b
export const backslash = 0x5c
export const closeArray = 0x5d
export const openObject = 0x7b
export const closeObject = 0x7d

/** Words that are looked for. */
export const texts = {
  proto: Buffer.from('__proto__'),
  prototype: Buffer.from('prototype'),
  constructor: Buffer.from('constructor'),
  true: Buffer.from('true'),
  false: Buffer.from('false'),
  null: Buffer.from('null'),
} as const
