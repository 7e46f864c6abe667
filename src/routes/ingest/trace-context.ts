/**
 * Headers of W3C Trace Context (https://www.w3.org/TR/trace-context/). Chute passes them on as they came, and begins no trace of its own.
 */

/**
 * Whether a text is a `traceparent` (section 3.2.2): version, trace id, parent id and flags, of which neither id is all zeros. A later
 * version may have more behind them. Version ff is forbidden.
 */
export function isTraceparent(text: string): boolean {
  return traceparent.test(text)
}

const traceparent =
  /^(?!ff)(?:00-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}|(?!00)[\da-f]{2}-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:-.*)?)$/

/** Whether a text is a `tracestate` (section 3.3.1): up to 32 members `key=value`, some of which may be empty. */
export function isTracestate(text: string): boolean {
  const members = text
    .split(',')
    .map(withoutBlanks)
    .filter((member) => member !== '')
  return members.length > 0 && members.length <= 32 && members.every((member) => stateMember.test(member))
}

/** Without the blanks at both ends (OWS of RFC 9110, section 5.6.3). A regular expression would go over each blank inside again and again. */
function withoutBlanks(text: string): string {
  let [start, end] = [0, text.length]
  while (start < end && isBlank(text[start])) start++
  while (end > start && isBlank(text[end - 1])) end--
  return text.slice(start, end)
}

function isBlank(character: string | undefined): boolean {
  return character === ' ' || character === '\t'
}

/** A key of lower-case letters, digits and `_-*` `/`, with `@` before a vendor; a value of printable ASCII without comma and equals sign. */
const stateMember =
  /^[a-z\d][a-z\d_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/
