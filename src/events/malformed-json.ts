import { GatewayError } from '../errors.ts'
import { skipWhitespace } from './array-elements.ts'
import { describeBadJson, JsonCheck } from './check-json.ts'
import { closeArray, comma } from './scan-json.ts'

/** The error of an array that is not JSON. It names the event and the byte where the array stops to be JSON. */
export function malformedArray(body: Buffer, start: number, end: number): GatewayError {
  // Reads element by element, up to the first one that is not JSON.
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

/** The error of an array with a bad event. In an array the good events cannot be taken without the bad one. In NDJSON they can. */
export function badElement(body: Buffer, at: number, end: number, index: number): GatewayError {
  const detail =
    at >= end - 1 && body[end - 1] !== closeArray
      ? `the array ends in event ${index}, at byte ${end}`
      : `event ${index}: ${describeBadJson(body, at, end, 0)}`
  const hint = '; as NDJSON (application/x-ndjson, an event a line) the other events would be taken'
  return new GatewayError('malformed_json', detail + hint, { extensions: { index, byte: at } })
}

/** The error of an array without an event. */
export function emptyArray(): GatewayError {
  return new GatewayError('empty_body', 'the array has no event in it')
}

/** Where [start, end) stops to be one JSON value; -1: it is one. */
export function flawAt(body: Buffer, start: number, end: number): number {
  return check.read(body, start, end) && check.at === end ? -1 : check.at
}

const check = new JsonCheck()
